"""Strips: values, intervals and nulls of one unit on one axis, one row each (a forest plot made of table rows).

Only geometry: positions along the axis in percent of its width. The template draws the rows, so they can be read,
printed and spoken as the table that they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from circuitkd.circuits.circuit import Circuit
from circuitkd.comparison.result import Comparison
from circuitkd.reports.tables import Data
from circuitkd.reports.wording import estimate, fixed, percent, reached, with_interval

Interval = tuple[float, float]


@dataclass(frozen=True)
class Mark:
    """One row: `role` picks its colour (score, factor, null, teacher, student, gap), `text` is the value in
    words, `rug` the draws behind it. `is_component`: the label names a component of the model that is the role."""

    label: str
    value: float
    role: str
    text: str
    interval: Interval | None = None
    note: str = ""
    rug: tuple[float, ...] = ()
    is_component: bool = False


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high` with a tick every `step`."""

    low: float
    high: float
    step: float

    def at(self, value: float) -> float:
        """Position in percent of the width, inside the axis; the left end for NaN."""
        share = (value - self.low) / (self.high - self.low) if math.isfinite(value) else 0.0
        return round(100 * min(max(share, 0.0), 1.0), 2)

    @property
    def ticks(self) -> tuple[tuple[float, str], ...]:
        """Position and label of each tick."""
        count = round((self.high - self.low) / self.step)
        digits = max(0, -math.floor(math.log10(self.step) + 1e-9))
        values = [self.low + i * self.step for i in range(count + 1)]
        return tuple((self.at(value), fixed(value, digits)) for value in values)


@dataclass(frozen=True)
class Strip:
    """Rows that share an axis, with the unit printed below it."""

    marks: tuple[Mark, ...]
    axis: Axis
    unit: str

    @property
    def table(self) -> Data:
        """Its numbers."""
        rows = tuple((m.label, m.value, *(m.interval or (None, None))) for m in self.marks)
        return Data(("quantity", self.unit, "low (95 %)", "high (95 %)"), rows)


def axis_for(values: Sequence[float], *, bounds: Interval | None = None, most: int = 5) -> Axis:
    """A round axis with at most `most` steps around all finite values, never beyond `bounds`."""
    finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    width = max(high - low, 1e-6 * max(abs(low), abs(high), 1e-3))
    step = 10.0 ** math.floor(math.log10(width))
    step *= next(f for f in (0.2, 0.5, 1, 2, 5, 10, 20) if _steps(low, high, step * f) <= most)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Axis(low, max(high, low + step), step)


def alignment_strip(c: Comparison) -> Strip:
    """A, its factors and its nulls on one axis that ends at 1."""
    alignment, null = c.alignment, c.alignment.null
    marks = [
        Mark("Alignment A", alignment.score, "score", *_scored(alignment.score, alignment.interval)),
        Mark("mean similarity", alignment.mean_similarity, "factor", fixed(alignment.mean_similarity, 3)),
        Mark(
            "mean influence agreement",
            alignment.mean_agreement,
            "factor",
            *_scored(alignment.mean_agreement, alignment.agreement_interval),
        ),
        Mark(
            "Null: shuffled influences",
            null.shuffled_mean,
            "null",
            *_scored(null.shuffled_mean, null.shuffled_interval),
            note=reached(null),
            rug=tuple(float(score) for score in null.shuffled_scores),
        ),
    ]
    if null.random_score is not None:
        factors = f"similarity {fixed(null.random_similarity, 3)}, agreement {fixed(null.random_agreement, 3)}"
        marks.append(
            Mark("Null: untrained student", null.random_score, "null", fixed(null.random_score, 3), note=factors)
        )
    return _strip(marks, "0 to 1, higher = more alike", bounds=(-1.0, 1.0), always=(1.0,))


def performance_strip(c: Comparison) -> Strip:
    """Logit differences of both models, their gap and their mean; 0 is always on the axis."""
    p = c.performance
    accuracy = [f"accuracy {percent(100 * float(np.mean(s.accuracy)), 0)}" for s in (c.teacher_sweep, c.student_sweep)]
    rows = (
        ("Teacher", p.teacher, "teacher", accuracy[0]),
        ("Student", p.student, "student", accuracy[1]),
        ("Gap", p.gap, "gap", "teacher − student"),
        ("Mean of both", p.mean, "factor", ""),
    )
    marks = [Mark(name, e.value, role, estimate(e), (e.low, e.high), note) for name, e, role, note in rows]
    return _strip(marks, "logit difference, correct − incorrect", always=(0.0,))


def robustness_strip(c: Comparison) -> Strip:
    """Mean drops of both models with their intervals over components."""
    rows = ("Teacher", c.robustness.teacher, "teacher"), ("Student", c.robustness.student, "student")
    marks = [Mark(name, side.mean_drop, role, *_scored(side.mean_drop, side.interval, 1)) for name, side, role in rows]
    return _strip(marks, "mean drop when one component is ablated, %", bounds=(0.0, 100.0), always=(0.0,))


def circuit_strip(circuit: Circuit) -> Strip:
    """Shares of a circuit, and the faithfulness of random ones; 0 and 1 are always on the axis."""
    e = circuit.require_evaluation()
    marks = [
        Mark("Faithfulness", e.faithfulness, "score", *_scored(e.faithfulness, e.faithfulness_interval)),
        Mark("Retained", e.retained, "factor", *_scored(e.retained, e.retained_interval)),
        Mark("Completeness", e.completeness, "factor", *_scored(e.completeness, e.completeness_interval)),
    ]
    if circuit.edge_evaluation is not None:
        share = circuit.edge_evaluation.faithfulness
        marks.insert(1, Mark("Faithfulness of its edges alone", share, "factor", fixed(share, 3)))
    for name in ("faithfulness", "completeness"):
        drawn = [value for value in (getattr(r, name) for r in e.random) if math.isfinite(value)]
        if drawn:
            mean = float(np.mean(drawn))
            note = f"{len(drawn)} circuits, mean"
            marks.append(Mark(f"Random: {name}", mean, "null", fixed(mean, 3), note=note, rug=tuple(drawn)))
    return _strip(marks, "share of the model’s logit difference", always=(0.0, 1.0))


def score_axis(comparisons: Sequence[Comparison]) -> Axis:
    """One axis for the scores and nulls of all comparisons."""
    values = [1.0]
    for c in comparisons:
        null = c.alignment.null
        values += [c.alignment.score, *c.alignment.interval, null.shuffled_mean, *null.shuffled_interval]
    return axis_for(values, bounds=(-1.0, 1.0))


def _scored(value: float, interval: Interval, digits: int = 3) -> tuple[str, Interval]:
    return with_interval(value, interval, digits=digits), interval


def _strip(
    marks: Sequence[Mark], unit: str, *, bounds: Interval | None = None, always: tuple[float, ...] = ()
) -> Strip:
    values = [v for m in marks for v in (m.value, *(m.interval or ()), *m.rug)]
    return Strip(tuple(marks), axis_for([*values, *always], bounds=bounds), unit)


def _steps(low: float, high: float, step: float) -> int:
    return math.ceil(high / step - 1e-9) - math.floor(low / step + 1e-9)
