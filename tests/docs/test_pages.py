"""What the pages tell people to type works: commands have these flags, Python runs, scripts and make targets exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pytest
import typer

from circuitkd.cli import app
from markdown_pages import PAGES, ROOT, blocks

PROGRAM = typer.main.get_command(app)
COMMANDS = [
    pytest.param(block, line, id=f"{block}-{i}")
    for block in blocks("console")
    for i, line in enumerate(block.text.replace("\\\n", " ").replace("\n>", " ; ").splitlines())
    if line.startswith("$ ")
]


def parse(words: list[str]) -> None:
    """Parse a command line of `circuitkd` without running it."""
    command, name = PROGRAM, "circuitkd"
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    if "--config" in words:  # the rest stands in a file of the reader's
        assert flags(words) <= known(command)
    else:
        command.make_context(name, words)


def parts(line: str) -> Iterator[list[str]]:
    """The words of each command of a shell line, without its loops."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    for is_separator, words in groupby(lexer, key=lambda word: word in {";", "&&", "|"}):
        found = list(words)
        if found[0] == "do":
            found = found[1:]
        if not is_separator and found and found[0] not in {"for", "done"}:
            yield found


def flags(words: list[str]) -> set[str]:
    """The long flags among the words of a command line."""
    return {word for word in words if word.startswith("--")}


def known(command: Any) -> set[str]:
    """The flags that a command has."""
    return {flag for p in command.params for flag in p.opts} | {"--help", "--version"}


def test_the_pages_were_found():
    assert {"index.md", "start.md", "definitions.md"} <= {page.name for page in PAGES}
    assert len(COMMANDS) > 15


@pytest.mark.parametrize(("block", "line"), COMMANDS)
def test_a_command(block, line):
    for words in parts(line.removeprefix("$ ")):
        if words[0] == "circuitkd":
            parse(words[1:])
        elif words[0].endswith("python"):
            assert (ROOT / words[1]).is_file(), f"{block}: no {words[1]}"
        elif words[0] == "make":
            targets = [w for w in words[1:] if "=" not in w]
            for target in targets:
                assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), f"{block}: no {target}"
        elif words[0] == "pip":
            assert words[1] == "install"
        else:
            assert words[0] in {"cd", "git", "source", "jupytext", "torchrun"}, f"{block}: {words[0]}?"


def test_a_wrong_flag_is_caught():
    with pytest.raises(Exception, match="No such option: --threshhold"):
        parse("circuit gpt2 --task ioi --threshhold 0.2".split())


@pytest.mark.parametrize(
    "inline", sorted({m for p in PAGES for m in re.findall(r"`(circuitkd [^`]+)`", p.read_text("utf-8"))})
)
def test_a_command_in_the_text(inline):
    words = shlex.split(inline)[1:]
    command = PROGRAM
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    assert command is not PROGRAM or words[0] in {"COMMAND", "--help", "--version"}
    assert flags(words) <= known(command)


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles(block):
    compile(block.text, str(block), "exec")
