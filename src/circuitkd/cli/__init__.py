"""The command line: every command parses, calls the library once, saves and prints.

Results go to stdout, progress and notes to stderr. Nothing heavy is imported before a command runs, so help is quick.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from circuitkd import __version__
from circuitkd.cli import check, circuit, compare, demo, distill, plan, report, roles, select, study, tasks, zoo
from circuitkd.cli.config import ConfigurableGroup

ABOUT = """Which of a teacher's circuits did its distilled student keep, and how brittle did it become?

A model is a hub id (gpt2), a folder, or a bundled one (zoo:gpt2-teacher). A task is a built-in name
(see `circuitkd tasks`) or a .jsonl file. Try `circuitkd demo` first.
"""

# Read when the hub's library is first imported, which a command does: no request then says more than it must.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

app = typer.Typer(
    name="circuitkd",
    cls=ConfigurableGroup,
    help=ABOUT,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command("demo")(demo.demo)
app.command("compare")(compare.compare)
app.command("select")(select.select)
app.command("circuit")(circuit.circuit)
app.command("roles")(roles.roles)
app.command("distill")(distill.distill)
app.command("study")(study.study)
app.command("plan")(plan.plan)
app.add_typer(tasks.app, name="tasks")
app.command("check")(check.check)
app.add_typer(zoo.app, name="zoo")
app.command("report")(report.report)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"circuitkd {__version__}")
        raise typer.Exit


@app.callback()
def circuitkd(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """What is said before the command."""


def main() -> None:
    """The program `circuitkd`."""
    app(prog_name="circuitkd")
