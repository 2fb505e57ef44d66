"""What of a text reaches a terminal."""

from __future__ import annotations

import io

import pytest
from rich.text import Text

from circuitkd.cli import terminal

HOSTILE = "a\x1b]0;title\x07\x1b[2Jb\rc\x9b31md\u202ee\x7f"
VISIBLE = "a␛]0;title␛[2Jbc�31md�e�"  # rich itself drops bells and carriage returns


@pytest.fixture
def shown(monkeypatch):
    """What a call writes to a colour terminal of 200 columns on standard error."""

    def call(function, *arguments, **keywords):
        stream = io.StringIO()
        stream.isatty = lambda: True
        with monkeypatch.context() as patched:
            patched.setattr("sys.stderr", stream)
            function(*arguments, **keywords)
        return stream.getvalue()

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    return call


def test_codes_in_a_text_are_shown_and_colours_still_work(shown):
    told = shown(terminal.warn, [HOSTILE])
    assert VISIBLE in told
    assert told.startswith("\x1b[33mwarning: \x1b[0m") and told.count("\x1b") == 2


def test_codes_in_a_table_and_in_plain_strings(shown):
    made = terminal.table(HOSTILE, [HOSTILE], [[HOSTILE]], caption=HOSTILE)
    told = shown(lambda: terminal.errors().print(made, HOSTILE, Text(HOSTILE), sep="\n"))
    assert told.count("␛]0;title") == 6 and not any(sign in told for sign in ("\x1b]", "\x1b[2J", "\x9b", "\u202e"))


def test_a_line_may_have_tabs_and_several_lines(shown):
    first, second = shown(lambda: terminal.errors().print("a\tb\nc")).splitlines()
    assert first.split() == ["a", "b"] and second == "c"


def test_a_name_cannot_steer_the_terminal_through_a_message(run, tmp_path):
    (tmp_path / HOSTILE).with_suffix(".jsonl").write_text("{\n")
    result = run("tasks", "validate", f"{HOSTILE}.jsonl")
    assert result.code == 2 and f"error: {VISIBLE}.jsonl: " in result.stderr
