"""The page of all commands, written from the command line's own help: it cannot fall behind it."""

from __future__ import annotations

import html
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import typer
from mkdocs.structure.files import File, Files

from circuitkd.cli import app

HEAD = """# Commands

Written from the program's own help (`circuitkd COMMAND --help`) when this page was built. Results go to the standard
output, progress and notes to the standard error. A wrong argument ends with one line that says what to do, and exit
code 2. Every flag can also stand in a file, for `--config`.
"""


def on_files(files: Files, *, config: Any) -> Files:
    """Add commands.md."""
    files.append(File.generated(config, "commands.md", content=page()))
    return files


def page() -> str:
    """The page in Markdown."""
    found = commands(typer.main.get_command(app), "circuitkd")
    return "\n".join([HEAD, *(line for path, command in found for line in described(command, path))])


def commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command below `group` with its full name, in the order of the help."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def described(command: Any, path: str) -> list[str]:
    """Usage, help text, arguments and options of one command."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    flags = [p for p in command.params if p.param_type_name == "option"]
    usage = " ".join([path, *(_name(a) for a in arguments), *(["[OPTIONS]"] if flags else [])])
    lines = [f"## {path}", "", "```text", usage, "```", "", command.help or "", ""]
    for title, group in groupby([*arguments, *flags], key=lambda p: p.rich_help_panel or "Arguments"):
        members = list(group)
        if title == "Arguments" and members[0].param_type_name == "option":
            title = "Options"
        lines += [f"| {title} | |", "| --- | --- |", *(f"| `{_name(p)}` | {_meaning(p)} |" for p in members), ""]
    return lines


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    return " ".join([", ".join(parameter.opts), *([parameter.metavar] if parameter.metavar else [])])


def _meaning(parameter: Any) -> str:
    text = html.escape(" ".join((parameter.help or "").split()), quote=False).replace("|", "\\|").replace("*", "\\*")
    if parameter.required and parameter.param_type_name == "option":
        return f"{text} Required."
    shown = parameter.show_default and parameter.default is not None and parameter.default is not False
    return f"{text} Default: `{parameter.default}`." if shown and parameter.param_type_name == "option" else text
