"""`circuitkd report`: the page of finished runs, or of a study, written again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuitkd.cli import options as o

if TYPE_CHECKING:
    from circuitkd.comparison.result import Comparison

Folders = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUN_FOLDER...", help="Run folders, folders of them, or the folder of a study.", show_default=False
    ),
]


def report(
    folders: Folders,
    output: Annotated[
        Path | None, o.option("--output", "FILE", "The page; report.html in the folder unless told.")
    ] = None,
    title: Annotated[str | None, o.option("--title", "TEXT", "Its title.")] = None,
    card: Annotated[
        Path | None,
        o.option("--model-card", "FILE", "Also write comparisons into this README.md, or that of this folder."),
    ] = None,
) -> None:
    """Write report.html again from run folders: one file that opens without a network.

    A study's folder gets its tables and the pages of its distillations again, too, of what is finished.
    """
    from circuitkd.cli import circuit_runs, distill_students, runs
    from circuitkd.cli.terminal import results
    from circuitkd.comparison.result import Comparison
    from circuitkd.distill.experiment_result import ExperimentResult
    from circuitkd.reports import circuit_page, experiment_page
    from circuitkd.studies.reading import is_study

    if any(is_study(folder) for folder in folders):
        if len(folders) > 1 or output or title or card:
            raise ValueError("a study has its page, tables and title in its own folder: name that folder alone")
        return _of_study(folders[0])
    if output is None and len(folders) > 1:
        raise ValueError("several run folders: say where the page goes, as in --output report.html")
    places = [run for folder in folders for run in runs.run_folders(folder)]
    kinds = {runs.kind_of(place) for place in places}
    target = output or folders[0] / "report.html"
    if card is not None and not kinds <= {"Comparison", "RolesResult"}:
        raise ValueError("--model-card is for comparisons: leave it out for other runs")
    if kinds == {"Circuit"}:
        path = circuit_page.write([circuit_runs.read_findings(place) for place in places], target, title=title)
    elif kinds == {"ExperimentResult"} and len(places) == 1:
        result = ExperimentResult.load(places[0])
        before, after = distill_students.saved_states(places[0], result)
        path = experiment_page.write(result, target, before=before, after=after, title=title)
    elif "ExperimentResult" in kinds:
        raise ValueError("an experiment of circuitkd distill has a page of its own: name its folder alone")
    elif "Circuit" in kinds:
        raise ValueError("comparisons and circuits have pages of their own: name folders of one kind")
    else:
        homes = [place / "comparison" if runs.kind_of(place) == "RolesResult" else place for place in places]
        found = [(home, Comparison.load(home)) for home in homes]
        if card is not None:
            _write_card([comparison for _, comparison in found], card)
        path = runs.write_page(found, target, title=title)
    results().print(f"report: {path}", soft_wrap=True)


def _of_study(folder: Path) -> None:
    from circuitkd.cli.terminal import results, warn
    from circuitkd.reports.study_page import write_study
    from circuitkd.reports.study_view import grouped_failures
    from circuitkd.studies.reading import read_run

    run = read_run(folder)
    path = write_study(run, folder)
    warn(f"{jobs}: {reason}" for jobs, reason in grouped_failures(run))
    results().print(f"report: {path}", soft_wrap=True)


def _write_card(comparisons: list[Comparison], card: Path) -> None:
    from circuitkd.cli.terminal import results

    students = dict.fromkeys(c.student.name for c in comparisons)
    if len(students) > 1:
        raise ValueError(f"a model card is of one model, not of {', '.join(students)}: name one student's run folders")
    for comparison in comparisons:
        path = comparison.push_to_model_card(card)
    results().print(f"model card: {path}", soft_wrap=True)
