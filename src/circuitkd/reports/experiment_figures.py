"""Figures of a distillation experiment as geometry: dots over seeds, training losses, the map of heads.

A template draws them as SVG, so they can be read, printed and saved without a script. Dots of one panel share an axis;
every training loss has its own, for losses of different objectives have different sizes; the part that is the task's
can be compared, and has one for all conditions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from circuitkd.distill.differences import main_condition
from circuitkd.distill.experiment_result import DistillationRun, ExperimentResult
from circuitkd.distill.head_map import HeadMap
from circuitkd.reports.charts import Line, Panel, Point
from circuitkd.reports.strips import Axis, axis_for
from circuitkd.reports.tables import Data
from circuitkd.reports.wording import fixed

CHARACTER, PLOT, ROW = 5.7, 216.0, 25.0  # width of a letter, of the plotted area, height of a row, in pixels
BOX, GAP = (62.0, 30.0), 14.0
Value = Callable[[DistillationRun], float]
Series = Callable[[DistillationRun], NDArray[np.float64]]


@dataclass(frozen=True)
class DotRow:
    """One condition: places of its seeds and of their mean in percent of the axis, and the mean in words."""

    label: str
    dots: tuple[tuple[float, str], ...]
    mean: float
    text: str
    is_main: bool


@dataclass(frozen=True)
class DotPanel:
    """One measure of all conditions. `left`: room for the names; `reference`: a place on the axis and what is there."""

    title: str
    unit: str
    axis: Axis
    rows: tuple[DotRow, ...]
    left: float
    table: Data
    reference: tuple[float, str] | None = None


@dataclass(frozen=True)
class MapLink:
    """A student head and the teacher head it is trained towards: their boxes' tops, and the pair in words."""

    student: float
    teacher: float
    title: str


@dataclass(frozen=True)
class MapDiagram:
    """Heads by name with the tops of their boxes: the student's at the left, the teacher's at the right."""

    students: tuple[tuple[str, float], ...]
    teachers: tuple[tuple[str, float], ...]
    links: tuple[MapLink, ...]
    height: float
    table: Data


@dataclass(frozen=True)
class LossPanel:
    """A loss of one condition in training, and its numbers."""

    panel: Panel
    table: Data


def accuracy_panels(result: ExperimentResult) -> list[DotPanel]:
    """Accuracy of the whole student, of its circuit, and of random circuits."""
    teacher = 100 * float(result.teacher_accuracy.mean())
    return [
        _dots(result, "Full accuracy", lambda r: 100 * float(r.accuracy.full.mean()), unit="%", reference=teacher),
        _dots(result, "Circuit accuracy", lambda r: 100 * float(r.accuracy.circuit.mean()), unit="%"),
        _dots(result, "Random circuits", lambda r: 100 * float(r.accuracy.random.mean()), unit="%"),
    ]


def closeness_panels(result: ExperimentResult) -> list[DotPanel]:
    """How close to the teacher and how fragile the students are."""
    return [
        _dots(result, "Alignment", lambda r: r.alignment, unit="0 to 1"),
        _dots(result, "Mean drop", lambda r: r.mean_drop, unit="% when one component is ablated"),
        _dots(result, "CKA", lambda r: r.cka, unit="mean over mapped pairs"),
    ]


def joined(panels: Sequence[DotPanel]) -> Data:
    """The numbers of several panels: condition and seed, and a column for each."""
    first = panels[0].table
    rows = zip(*(p.table.rows for p in panels), strict=True)
    columns = (*first.columns[:2], *(p.table.columns[2] for p in panels))
    return Data(columns, tuple((*row[0][:2], *(r[2] for r in row)) for row in rows))


def loss_panels(result: ExperimentResult) -> list[LossPanel]:
    """The training loss of each trained condition: a thin line for each seed, a thick one for their mean."""
    return _losses(result, lambda r: r.losses, "training loss")


def task_loss_panels(result: ExperimentResult) -> list[LossPanel]:
    """The part of it that is the task's, on one axis, where a condition has it."""
    return _losses(result, lambda r: r.task_losses, "task loss", is_shared=True)


def map_diagram(found: HeadMap) -> MapDiagram:
    """The pairs of a head map."""
    students = sorted(found.student, key=lambda c: (c.layer or 0, c.head or 0))
    teachers = sorted(set(found.teacher), key=lambda c: (c.layer or 0, c.head or 0))
    step, most = BOX[1] + GAP, max(len(students), len(teachers))
    tops = [
        {c: round((most - len(side)) * step / 2 + i * step, 1) for i, c in enumerate(side)}
        for side in (students, teachers)
    ]
    impacts = zip(found.student, found.teacher, found.student_impact, found.teacher_impact, found.distance, strict=True)
    rows = tuple(impacts)
    links = tuple(MapLink(tops[0][s], tops[1][t], _pair_words(*row)) for row in rows for s, t in [row[:2]])
    return MapDiagram(
        tuple((str(c), tops[0][c]) for c in students),
        tuple((str(c), tops[1][c]) for c in teachers),
        links,
        most * step - GAP,
        Data(
            ("student head", "teacher head", "impact of the student head", "impact of the teacher head", "distance"),
            rows,
        ),
    )


def _pair_words(student: object, teacher: object, own: float, other: float, distance: float) -> str:
    impacts = f": impacts {fixed(own, 3)} and {fixed(other, 3)}" if math.isfinite(own + other) else ""
    apart = f", distance {fixed(distance, 3)}" if math.isfinite(distance) else ""
    return f"{student} is trained towards {teacher}{impacts}{apart}"


def _dots(result: ExperimentResult, title: str, value: Value, *, unit: str, reference: float | None = None) -> DotPanel:
    found = {c: [(r.seed, value(r)) for r in result.of(c)] for c in result.conditions}
    finite = [v for runs in found.values() for _, v in runs if math.isfinite(v)]
    axis = axis_for([*finite, 0.0, *([reference] if reference is not None else [])], most=5)
    digits = 1 if unit.startswith("%") else 3
    rows = []
    for condition, runs in found.items():
        values = [v for _, v in runs]
        mean = float(np.mean(values))
        dots = tuple((axis.at(v), f"seed {seed}: {fixed(v, digits)}") for seed, v in runs if math.isfinite(v))
        is_main = condition == main_condition(result)
        rows.append(DotRow(condition, dots, axis.at(mean), fixed(mean, digits), is_main))
    data = tuple((c, seed, v) for c, runs in found.items() for seed, v in runs)
    return DotPanel(
        title,
        unit,
        axis,
        tuple(rows),
        left=12 + CHARACTER * max(map(len, found)),
        table=Data(("condition", "seed", f"{title.lower()} ({unit})"), data),
        reference=None if reference is None else (axis.at(reference), f"the teacher: {fixed(reference, digits)}"),
    )


def _losses(result: ExperimentResult, read: Series, name: str, *, is_shared: bool = False) -> list[LossPanel]:
    found = {c: [r for r in result.of(c) if len(read(r))] for c in result.conditions}
    every = [r for runs in found.values() for r in runs] if is_shared else None
    return [_loss(c, runs, read, name=name, on_axis=every or runs) for c, runs in found.items() if runs]


def _loss(
    condition: str, runs: Sequence[DistillationRun], read: Series, *, name: str, on_axis: Sequence[DistillationRun]
) -> LossPanel:
    steps = runs[0].loss_steps
    axis = axis_for([0.0, *(float(v) for r in on_axis for v in read(r))], most=4)
    last = float(max(r.loss_steps[-1] for r in runs)) or 1.0

    def line(name: str, role: str, at: Sequence[float], values: Sequence[float]) -> Line:
        points = tuple(
            Point(round(100 * s / last, 2), axis.at(v), f"{name}: {fixed(v, 3)} at step {s:.0f}", v, s)
            for s, v in zip(at, values, strict=True)
            if math.isfinite(v)
        )
        return Line(name, role, points, is_reference=True)

    lines = [line(f"seed {r.seed}", "seed", r.loss_steps.tolist(), read(r).tolist()) for r in runs]
    if all(np.array_equal(r.loss_steps, steps) for r in runs):
        lines.append(line("mean", "mean", steps.tolist(), np.mean([read(r) for r in runs], axis=0).tolist()))
    ticks = tuple((round(100 * s / last, 2), f"{s:.0f}") for s in (0.0, last / 2, last))
    rows = tuple((r.seed, int(s), float(v)) for r in runs for s, v in zip(r.loss_steps, read(r), strict=True))
    return LossPanel(
        Panel(condition, tuple(lines), axis, ticks, "step", ("step", name)), Data(("seed", "step", name), rows)
    )
