"""A study as its page shows it: tables as text, noise curves as charts, links to what is in folders of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from circuitkd.comparison.noise import NoiseCurve
from circuitkd.reports.charts import Line, Panel, Point
from circuitkd.reports.strips import axis_for
from circuitkd.reports.study_tables import text_rows
from circuitkd.reports.wording import fixed
from circuitkd.studies.running import StudyRun
from circuitkd.studies.tables import Table


@dataclass(frozen=True)
class ShownTable:
    """A table and its rows as text; the first `left` columns are names."""

    table: Table
    rows: tuple[dict[str, str], ...]
    left: int


@dataclass(frozen=True)
class StudyView:
    """What stands before the comparisons. `links`: text and relative address of each page of its own; `failures`: jobs
    and reasons, the same reason once."""

    title: str
    description: str
    tables: tuple[ShownTable, ...]
    noise: tuple[Panel, ...]
    links: tuple[tuple[str, str], ...]
    failures: tuple[tuple[str, str], ...]


def study_view(run: StudyRun, tables: Sequence[Table], *, links: Sequence[tuple[str, str]]) -> StudyView:
    """The study with its tables; `links` lead to its pages."""
    return StudyView(
        run.study.title,
        run.study.description,
        tuple(ShownTable(t, tuple(text_rows(t)), _names(t)) for t in tables),
        tuple(noise_panel(f"{job.pair.name}, {job.task.key}", curve) for job, curve in run.of_kind("noise")),
        tuple(links),
        grouped_failures(run),
    )


def grouped_failures(run: StudyRun) -> tuple[tuple[str, str], ...]:
    """(jobs, reason), jobs of one reason together."""
    reasons: dict[str, list[str]] = {}
    for failure in run.failures:
        reasons.setdefault(failure.reason, []).append(failure.job.folder)
    return tuple((", ".join(folders), reason) for reason, folders in reasons.items())


def noise_panel(title: str, curve: NoiseCurve) -> Panel:
    """Mean alignment by standard deviation, with one standard deviation over seeds above and below (DC Figure 3)."""
    above, below = (curve.mean + sign * curve.std for sign in (1, -1))
    axis = axis_for([0.0, 1.0, *above.tolist(), *below.tolist()], most=5)
    last = curve.stds[-1] or 1.0
    names = [f"noise of std {std:g}" for std in curve.stds]

    def line(name: str, role: str, values: Sequence[float], *, is_reference: bool = False) -> Line:
        points = tuple(
            Point(round(100 * std / last, 2), axis.at(v), f"{name} {fixed(v, 3)} at {at}", v, std)
            for std, v, at in zip(curve.stds, values, names, strict=True)
        )
        return Line(name, role, points, is_reference)

    lines = (
        line("alignment", "score", curve.mean.tolist()),
        line("one standard deviation above", "score", above.tolist(), is_reference=True),
        line("one standard deviation below", "score", below.tolist(), is_reference=True),
    )
    ticks = tuple((100 * i / 4, f"{last * i / 4:g}") for i in range(5))
    unit = "standard deviation of the noise"
    return Panel(title, lines, axis, ticks, unit, (unit, "alignment (0 to 1)"))


def _names(table: Table) -> int:
    """How many columns, from the left, hold nothing but text."""
    of_text = [all(isinstance(row[i], str) for row in table.rows) for i in range(len(table.columns))]
    return of_text.index(False) if False in of_text else len(of_text)
