"""Small line charts, several beside each other: a sweep of thresholds, and MIB's curves.

Only geometry, in percent of the plotted area; a template draws SVG, so the page needs no script for them. Fractions of
MIB's curves stand on a logarithmic axis, for most of them are below a tenth; the areas are those of a linear one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from circuitkd.circuits.curves import FaithfulnessCurve
from circuitkd.circuits.discovery import ThresholdSweep
from circuitkd.reports.strips import Axis, axis_for
from circuitkd.reports.tables import Data
from circuitkd.reports.wording import fixed

LOGARITHMIC = ", logarithmic"  # said of an axis, not of the numbers in a file


@dataclass(frozen=True)
class Point:
    """A value at (x, y) in percent, y from below, and what it is in words. `at`: the place of x in its own unit;
    `note`: what else is known of it."""

    x: float
    y: float
    title: str
    value: float
    at: float | str
    note: str = ""


@dataclass(frozen=True)
class Line:
    """One series; `role` picks its colour. A reference is drawn thin and without dots, and is not in the key."""

    name: str
    role: str
    points: tuple[Point, ...]
    is_reference: bool = False


@dataclass(frozen=True)
class Panel:
    """One chart: lines that share a unit, `ticks` (place in percent, label) of the horizontal axis, `unit` below it.
    `names`: what `at` and `value` of its points are, with their units."""

    title: str
    lines: tuple[Line, ...]
    axis: Axis
    ticks: tuple[tuple[float, str], ...]
    unit: str
    names: tuple[str, str]

    @property
    def table(self) -> Data:
        """Its numbers, a row for each point."""
        rows = [(line.name, p.at, p.value, p.note) for line in self.lines for p in line.points]
        columns = ("series", *self.names, "note")
        shown = 4 if any(row[3] for row in rows) else 3
        return Data(columns[:shown], tuple(row[:shown] for row in rows))


def threshold_panels(sweep: ThresholdSweep) -> list[Panel]:
    """Sizes in nodes and in edges, how well the circuits do, and how far they consist of the same nodes."""
    table = sweep.to_pandas()
    low, high = min(sweep.thresholds), max(sweep.thresholds)
    places = [100 * (t - low) / (high - low) if high > low else 50.0 for t in sweep.thresholds]
    groups = (
        ("Nodes", (("nodes", "score"),), 0),
        ("Edges", (("edges", "score"),), 0),
        ("Shares", (("faithfulness", "score"), ("completeness", "teacher")), 3),
        ("Same nodes as at 20 %", (("node_jaccard", "score"),), 3),
    )
    return [
        _panel(
            title,
            {(c.replace("node_jaccard", "Jaccard index"), role): list(table[c]) for c, role in columns},
            places=places,
            at=sweep.thresholds,
            digits=digits,
            unit="threshold: share that may be lost",
        )
        for title, columns, digits in groups
    ]


def curve_panels(curves: Sequence[FaithfulnessCurve]) -> list[Panel]:
    """Faithfulness of growing circuits, one chart for each curve."""
    return [
        _panel(
            f"The best {curve.level}",
            {("faithfulness", "score"): list(curve.faithfulness)},
            places=[100 * (1 + math.log10(x) / 3) for x in curve.fractions],
            at=curve.fractions,
            digits=3,
            unit=f"share of all {curve.level}{LOGARITHMIC}",
        )
        for curve in curves
    ]


def _panel(
    title: str,
    series: dict[tuple[str, str], list[float]],
    *,
    places: Sequence[float],
    at: Sequence[float],
    digits: int,
    unit: str,
) -> Panel:
    names = [f"{fixed(100 * share, 1).removesuffix('.0')} %" for share in at]
    axis = axis_for([v for values in series.values() for v in values] + [0.0] + ([1.0] if digits else []), most=4)
    lines = tuple(
        Line(
            name,
            role,
            tuple(
                Point(round(x, 2), axis.at(value), f"{name} {fixed(value, digits)} at {label}", value, share)
                for x, value, label, share in zip(places, values, names, at, strict=True)
                if math.isfinite(value)
            ),
        )
        for (name, role), values in series.items()
    )
    step = max(1, math.ceil(len(names) / 5))
    ticks = tuple((round(x, 2), label) for x, label in zip(places[::-1], names[::-1], strict=True))[::step][::-1]
    value = lines[0].name if len(lines) == 1 else title.lower()
    return Panel(title, lines, axis, ticks, unit, (unit.removesuffix(LOGARITHMIC), value))
