"""Where output goes: results to stdout, progress and notes to stderr, `--json` alone on stdout.

Without a terminal there are no colours, and lines are 100 columns wide (COLUMNS sets another width). Names and prompts come
from files: characters in them that steer a terminal, or turn the direction of a line, are printed as visible signs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

WIDTH = 100
_STEERING = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"} | dict.fromkeys(
    [*range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd"
)


class _SafeConsole(Console):
    """A console whose own codes reach the terminal, and nobody else's."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else text.translate(_STEERING), style, control)


def results() -> Console:
    """The console on stdout."""
    return _console(stderr=False)


def errors() -> Console:
    """The console on stderr."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else int(os.environ.get("COLUMNS") or WIDTH)
    # Text is printed as it is: names with [brackets] are no markup, numbers are not coloured.
    return _SafeConsole(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)


def note(text: str) -> None:
    """A remark on stderr."""
    tell(Text(text, style="dim"))


def warn(texts: Iterable[str]) -> None:
    """Warnings on stderr, one a line."""
    for text in texts:
        tell(Text.assemble(("warning: ", "yellow"), text))


def tell(text: Text) -> None:
    """A line on stderr: wrapped at words on a terminal, whole elsewhere."""
    console = errors()
    console.print(text, soft_wrap=not console.is_terminal)


def print_json(result: Any) -> None:
    """A result as JSON, alone on stdout."""
    from circuitkd.artifacts import plain, to_json

    sys.stdout.write(to_json(plain(result)) + "\n")


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "", left: int = 1
) -> Table:
    """Rows of text under column heads; the first `left` columns are aligned left, the others right."""
    made = Table(
        title=title or None,
        caption=caption or None,
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 0, 0, 1),
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        header_style="bold cyan",
        caption_style="dim",
    )
    for i, name in enumerate(columns):
        # Only names may be wrapped when the width does not do.
        made.add_column(
            Text(name),
            justify="left" if i < left else "right",
            vertical="bottom",
            no_wrap=i > 0,
            min_width=12 if i == 0 and len(columns) > 4 else None,
            overflow="fold" if i == 0 else "ellipsis",
        )
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made
