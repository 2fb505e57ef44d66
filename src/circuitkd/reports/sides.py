"""Several comparisons of one teacher on one task side by side: a column for each student (or state of one), each row on one
axis, and below them the teacher's most influential components with what each student has in their place.

Geometry and words only. A sentence says no more than its numbers show, as in `wording`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from circuitkd.comparison.kept import INFLUENTIAL, Kept, best_matches, kept_components
from circuitkd.comparison.result import Comparison, MatchedPair
from circuitkd.components import Component
from circuitkd.reports.strips import Axis, Interval, Mark, axis_for
from circuitkd.reports.tables import Data, kept_text, pair_name
from circuitkd.reports.wording import (
    SHARE_REACHED,
    count,
    drop_difference,
    fixed,
    percent,
    short_names,
)

COMPONENTS = 8


@dataclass(frozen=True)
class Column:
    """One student. `target`: index of its comparison in the page, None where that is not in it."""

    label: str
    note: str
    sentence: str
    c: Comparison
    kept: Kept | None
    target: int | None


@dataclass(frozen=True)
class Cell:
    """A value on its row's axis. `band`: range of the null; `reference`: what the row's legend says."""

    mark: Mark
    band: Interval | None = None
    reference: float | None = None


@dataclass(frozen=True)
class Row:
    """One measure of all columns. `legend`: what line and band are."""

    label: str
    unit: str
    legend: str
    axis: Axis
    cells: tuple[Cell, ...]
    reference_role: str = "null"


@dataclass(frozen=True)
class Place:
    """What a student has in the place of a teacher component. `state`: "kept", "weak" (alike, but with less than half of
    the influence), "unlike", or "" where no untrained student was measured."""

    pair: MatchedPair
    influence: float
    state: str


@dataclass(frozen=True)
class ComponentRow:
    """One of the teacher's components; `places` has None where a column has no match."""

    teacher: Component
    influence: float
    places: tuple[Place | None, ...]


@dataclass(frozen=True)
class Sides:
    """Everything that a side-by-side view shows. `left_out`: influential components below those shown."""

    teacher: str
    task: str
    examples: int
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    components: tuple[ComponentRow, ...]
    left_out: int

    @property
    def table(self) -> Data:
        """All values, one a row."""
        data: list[list[object]] = []
        for row in self.rows:
            for column, cell in zip(self.columns, row.cells, strict=True):
                low, high = cell.mark.interval or (None, None)
                data.append([column.label, f"{row.label} ({row.unit})", cell.mark.value, low, high, "", "", ""])
        for line in self.components:
            for column, place in zip(self.columns, line.places, strict=True):
                own = [place.pair.student, place.pair.similarity, place.state] if place else ["", "", ""]
                name = f"influence of the match of {line.teacher} (1 = the student's largest)"
                data.append([column.label, name, place.influence if place else None, None, None, *own])
        names = ("student", "measure", "value", "low (95 %)", "high (95 %)", "match", "similarity", "state")
        return Data(names, tuple(map(tuple, data)))


def groups(comparisons: Sequence[Comparison]) -> tuple[Sides, ...]:
    """A view for every teacher and task that several of these comparisons share."""
    members: dict[tuple[str, str, object], list[int]] = {}
    for index, c in enumerate(comparisons):
        members.setdefault((c.teacher.fingerprint, c.task, c.teacher_sweep.examples), []).append(index)
    made = []
    for indexes in (found for found in members.values() if len(found) > 1):
        chosen = [comparisons[i] for i in indexes]
        made.append(side_by_side(chosen, _labels(chosen), targets=indexes))
    return tuple(made)


def side_by_side(comparisons: Sequence[Comparison], labels: Sequence[str], *, targets: Sequence[int | None]) -> Sides:
    """The view of these comparisons, which are of one teacher on the same examples."""
    first = comparisons[0]
    kept = [kept_components(c) for c in comparisons]
    columns = tuple(
        Column(label, _size(c), sentence(c, k), c, k, target)
        for c, k, label, target in zip(comparisons, kept, labels, targets, strict=True)
    )
    influential = int((first.teacher_sweep.influence() >= INFLUENTIAL).sum())
    components = _components(comparisons, kept)
    return Sides(
        teacher=short_names(first.teacher.name)[0],
        task=first.task,
        examples=first.performance.n,
        columns=columns,
        rows=tuple(_rows(comparisons, kept)),
        components=components,
        left_out=max(0, influential - len(components)),
    )


def sentence(c: Comparison, kept: Kept | None) -> str:
    """What the student kept and how fragile it is, in a few words."""
    if not c.performance.student.low > 0:
        return "Not shown to do the task: what it kept and how fragile it is says little."
    low, high = drop_difference(c.robustness)
    fragility = "more fragile" if low > 0 else "less fragile" if high < 0 else "no difference in fragility shown"
    if kept is None:
        agree = c.alignment.null.shuffled_share_at_least <= SHARE_REACHED
        return f"Influences {'agree' if agree else 'are not shown to agree'} more than by chance; {fragility}."
    if not kept.components:
        return f"The teacher has no influential component here; {fragility}."
    return f"Keeps {kept.count} of {len(kept.components)} ({fixed(kept.expected, 1)} by chance); {fragility}."


def overview_sentence(comparisons: Sequence[Comparison]) -> str:
    """Over several tasks of one pair: how much was kept from task to task, and on how many the student is shown to be more
    fragile. Empty for several pairs, which stand side by side, and where nothing is known of what was kept."""
    if len({pair_name(c) for c in comparisons}) != 1 or len(comparisons) < 2:
        return ""
    found = [(c, k) for c in comparisons if (k := kept_components(c)) is not None and c.performance.student.low > 0]
    if not found:
        return ""
    ordered = sorted(found, key=lambda each: each[1].count / max(len(each[1].components), 1))
    least, most = (f"{kept_text(k)} on {c.task}" for c, k in (ordered[0], ordered[-1]))
    fragile = sum(drop_difference(c.robustness)[0] > 0 for c, _ in found)
    of = f"{fragile or 'none'} of the {len(found)} task{'s' if len(found) > 1 else ''} that it is shown to do"
    span = f"from {least} to {most}" if len(found) > 1 else most
    return f"Of the teacher’s influential components the student keeps {span}. It is shown to be more fragile on {of}."


def _labels(comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """Names of the students, numbered where two are the same."""
    names = short_names(*(c.student.name for c in comparisons))
    return tuple(n if names.count(n) == 1 else f"{n} ({names[: i + 1].count(n)})" for i, n in enumerate(names))


def _size(c: Comparison) -> str:
    return f"{count(c.student.parameter_count)} parameters, {c.student.n_layers} layers × {c.student.n_heads} heads"


def _rows(comparisons: Sequence[Comparison], kept: Sequence[Kept | None]) -> list[Row]:
    teacher = comparisons[0]
    made = [_alignment(comparisons)]
    if all(k is not None for k in kept):
        made.append(_kept_row([k for k in kept if k is not None]))
    performance = teacher.performance.teacher.value
    made += [
        _row(
            ("Logit difference", "logits", f"line: the teacher, {fixed(performance)}"),
            [_performance(c) for c in comparisons],
            always=(0.0, performance),
            reference_role="teacher",
        ),
        _row(
            ("Mean drop", "%", f"line: the teacher, {percent(teacher.robustness.teacher.mean_drop)}"),
            [_drop(c) for c in comparisons],
            always=(0.0, teacher.robustness.teacher.mean_drop),
            reference_role="teacher",
        ),
    ]
    if any(c.robustness.slope for c in comparisons):
        labels = ("Slope", "points per 0.1 of compression", "line: as the teacher")
        made.append(_row(labels, [_slope(c) for c in comparisons], always=(0.0,)))
    return made


def _row(
    labels: tuple[str, str, str],
    cells: Sequence[Cell],
    *,
    always: tuple[float, ...] = (),
    bounds: Interval | None = None,
    reference_role: str = "null",
) -> Row:
    values = [v for c in cells for v in (c.mark.value, *(c.mark.interval or ()), *(c.band or ()))]
    axis = axis_for([*values, *always, *(c.reference for c in cells if c.reference is not None)], bounds=bounds, most=4)
    return Row(*labels, axis, tuple(cells), reference_role)


def _alignment(comparisons: Sequence[Comparison]) -> Row:
    cells = []
    for c in comparisons:
        a = c.alignment
        mark = Mark("", a.score, "score", fixed(a.score, 3), a.interval, note=_bracket(a.interval, 3))
        cells.append(Cell(mark, a.null.shuffled_interval, a.null.random_score))
    legend = "band: shuffled influences"
    if any(c.reference is not None for c in cells):
        legend += "; line: untrained student"
    return _row(("Alignment A", "0 to 1", legend), cells, bounds=(-1.0, 1.0))


def _kept_row(kept: Sequence[Kept]) -> Row:
    cells = [
        Cell(
            Mark("", float(k.count), "score", kept_text(k), note=f"{fixed(k.expected, 1)} by chance"),
            reference=k.expected,
        )
        for k in kept
    ]
    labels = ("Influential components kept", "components", "line: with shuffled influences")
    return _row(labels, cells, always=(0.0, float(max(len(k.components) for k in kept))))


def _performance(c: Comparison) -> Cell:
    e, accuracy = c.performance.student, percent(100 * float(np.mean(c.student_sweep.accuracy)), 0)
    mark = Mark("", e.value, "student", fixed(e.value), (e.low, e.high), note=f"accuracy {accuracy}")
    return Cell(mark, reference=c.performance.teacher.value)


def _drop(c: Comparison) -> Cell:
    side = c.robustness.student
    mark = Mark("", side.mean_drop, "student", percent(side.mean_drop), side.interval, _bracket(side.interval, 1))
    return Cell(mark, reference=c.robustness.teacher.mean_drop)


def _slope(c: Comparison) -> Cell:
    if c.robustness.slope is None:
        return Cell(Mark("", math.nan, "gap", "none", note="not smaller"), reference=0.0)
    mean, low, high = c.robustness.slope.per_tenth
    return Cell(Mark("", mean, "gap", fixed(mean), (low, high), _bracket((low, high), 2)), reference=0.0)


def _bracket(interval: Interval, digits: int) -> str:
    return f"[{fixed(interval[0], digits)}, {fixed(interval[1], digits)}]"


def _components(comparisons: Sequence[Comparison], kept: Sequence[Kept | None]) -> tuple[ComponentRow, ...]:
    sweep = comparisons[0].teacher_sweep
    influences = sweep.influence()
    order = np.argsort(-influences, kind="stable")[:COMPONENTS]
    places = [_place_of(c, k) for c, k in zip(comparisons, kept, strict=True)]
    return tuple(
        ComponentRow(sweep.components[i], float(influences[i]), tuple(place(sweep.components[i]) for place in places))
        for i in order
        if influences[i] >= INFLUENTIAL
    )


def _place_of(c: Comparison, kept: Kept | None) -> Callable[[Component], Place | None]:
    matches = best_matches(c.alignment.pairs)
    influences = dict(zip(c.student_sweep.components, c.student_sweep.influence(), strict=True))
    known = {k.teacher: k for k in kept.components} if kept else {}

    def place(component: Component) -> Place | None:
        pair, found = matches.get(component), known.get(component)
        if pair is None:
            return None
        return Place(pair, float(influences[pair.student]), found.state if found else "")

    return place
