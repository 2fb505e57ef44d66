"""How a command fails: one clear message on stderr, exit code 2; interrupted, it says how to go on, exit code 130."""

from __future__ import annotations

import errno
import os
from typing import Any

import typer
from rich.text import Text
from typer.core import TyperGroup

from circuitkd.cli.terminal import tell

USER_ERROR, INTERRUPTED = 2, 130
RESUMING = ("demo", "compare", "select", "circuit", "roles", "distill", "study")
SPACE = "free some space or choose another --output-dir"
MEMORY = "out of memory: use a smaller --batch-size, --dtype bfloat16, or a device with more memory"


class Group(TyperGroup):
    """The commands, with errors told in one line; CIRCUITKD_DEBUG=1 shows where they were raised."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            resumes = ctx.invoked_subcommand in RESUMING
            tell(Text("interrupted; run the same command again to resume" if resumes else "interrupted"))
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            message = explained(error)
            if message is None or os.environ.get("CIRCUITKD_DEBUG"):
                raise
            tell(Text.assemble(("error: ", "bold red"), message))
            raise typer.Exit(USER_ERROR) from error


def explained(error: Exception) -> str | None:
    """What to tell the user, or None for what is not the user's to mend."""
    if hasattr(error, "format_message"):  # a wrong command line
        message = str(error.format_message())
        where = getattr(getattr(error, "ctx", None), "command_path", "circuitkd")
        return f"{message}{'' if message.endswith(('.', '?')) else '.'} `{where} --help` says more"
    if isinstance(error, ValueError):
        return str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return MEMORY
    if isinstance(error, OSError) and error.errno not in (None, errno.EPIPE):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or error}; {SPACE}"
    if type(error).__name__ == "SafetensorError":  # a model that could not be saved
        return f"{error}; {SPACE}"
    return None
