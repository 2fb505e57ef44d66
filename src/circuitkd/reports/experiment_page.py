"""The page of a distillation experiment: did training the circuit help, what moved, and what stayed as it was.

Everything on it is a table or SVG; the scripts only save figures and turn the theme around.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from circuitkd.comparison.changes import Changes, find_changes
from circuitkd.comparison.result import Comparison
from circuitkd.distill.differences import main_condition
from circuitkd.distill.experiment_result import ExperimentResult
from circuitkd.reports import experiment_figures, experiment_wording
from circuitkd.reports.rendering import render_page, source, write_page
from circuitkd.reports.sides import Sides, side_by_side
from circuitkd.reports.tables import Data
from circuitkd.reports.wording import short_names

MOVED = 10
_SCRIPTS = ("save.js", "toggle.js")


@dataclass(frozen=True)
class States:
    """The student before and after training, side by side. `table`: the changes of influence of all its components."""

    sides: Sides
    changes: Changes
    table: Data


def write(
    result: ExperimentResult,
    path: str | Path,
    *,
    before: Comparison | None = None,
    after: Comparison | None = None,
    title: str | None = None,
) -> Path:
    """Write the page of an experiment, whole or not at all. `before`, `after`: the teacher against the student before and
    after training; they are shown where both are given.

    Raises ValueError for comparisons that are not of one student's two states, and where the file cannot be written.
    """
    return write_page(path, render(result, before=before, after=after, title=title))


def render(
    result: ExperimentResult,
    *,
    before: Comparison | None = None,
    after: Comparison | None = None,
    title: str | None = None,
) -> str:
    """The page of an experiment as HTML. Raises ValueError as `write`."""
    names = short_names(result.teacher, result.student)
    return render_page(
        "experiment_page.html.j2",
        scripts={"page": "\n".join(map(source, _SCRIPTS)) + "themeButton(() => {});\n"},
        title=title or f"{names[0]} → {names[1]}: circuit distillation on {result.task}",
        result=result,
        names=names,
        main=main_condition(result),
        seeds=sorted({r.seed for r in result.runs}),
        rows=result.rows(),
        words=experiment_wording,
        figures=experiment_figures,
        states=None if before is None or after is None else _states(before, after),
        MOVED=MOVED,
    )


def _states(before: Comparison, after: Comparison) -> States:
    changes = find_changes(before, after)
    columns = (
        "student component",
        "influence before",
        "influence after",
        "effect before (logits)",
        "effect after (logits)",
    )
    rows = tuple((m.student, *m.influence, *m.effect) for m in changes.moved)
    sides = side_by_side((before, after), ("Before training", "After training"), targets=(None, None))
    return States(sides, changes, Data(columns, rows))
