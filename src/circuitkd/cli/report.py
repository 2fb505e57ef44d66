"""`circuitkd report`: the page of finished runs, written again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from circuitkd.cli import options as o

Folders = Annotated[
    list[Path], typer.Argument(metavar="RUN_FOLDER...", help="Run folders, or folders of them.", show_default=False)
]


def report(
    folders: Folders,
    output: Annotated[
        Path | None, o.option("--output", "FILE", "The page; report.html in the folder unless told.")
    ] = None,
    title: Annotated[str | None, o.option("--title", "TEXT", "Its title.")] = None,
) -> None:
    """Write report.html again from run folders: one file that opens without a network."""
    from circuitkd.cli import circuit_runs, runs
    from circuitkd.cli.terminal import results
    from circuitkd.comparison.result import Comparison
    from circuitkd.reports import circuit_page, page

    if output is None and len(folders) > 1:
        raise ValueError("several run folders: say where the page goes, as in --output report.html")
    places = [run for folder in folders for run in runs.run_folders(folder)]
    kinds = {runs.kind_of(place) for place in places}
    target = output or folders[0] / "report.html"
    if kinds == {"Circuit"}:
        path = circuit_page.write([circuit_runs.read_findings(place) for place in places], target, title=title)
    elif "Circuit" in kinds:
        raise ValueError("comparisons and circuits have pages of their own: name folders of one kind")
    else:
        found = [Comparison.load(place) for place in places]
        circuits = [circuits for place in places for circuits in runs.circuits_in(place)]
        path = page.write(found, target, title=title, circuits=circuits)
    results().print(f"report: {path}", soft_wrap=True)
