"""Layered drawing (Sugiyama): boxes in rows from bottom to top, and a lane for every wire in each row that it passes.

    1. A wire whose ends are more than a row apart has a lane in every row between, so it never runs behind a box.
    2. Order in a row: items are sorted by the mean place of what they are connected with, row by row upwards and
       downwards; the order with the fewest crossings is kept.
    3. Places: every item wants the mean place of its neighbours, lanes most of all, so that they become straight; a
       row is solved exactly for least squares under minimum distances (pool adjacent violators).

Pure geometry of one dimension: heights, ports and colours are the drawing's. The result is the same in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

LANE, GAP = 10.0, 14.0  # width of a lane; room between two boxes
ROUNDS, STRAIGHTENING = 12, 30


@dataclass(frozen=True)
class Wire:
    """A connection from a box up to a box of a later row. None: the end is free along the whole of that row.

    `offset`: where it enters the upper box, from its middle.
    """

    lower_row: int
    lower: int | None
    upper_row: int
    upper: int | None
    offset: float = 0.0


@dataclass(frozen=True)
class Arrangement:
    """Middles: `boxes` [row][box] and `lanes` [wire][row between its ends, from below]. The smallest left side is 0,
    the largest right side `width`."""

    boxes: tuple[tuple[float, ...], ...]
    lanes: tuple[tuple[float, ...], ...]
    width: float


@dataclass
class _Item:
    """A box or a lane; `links` to the rows below and above as (item, weight, offset of the place at the other end)."""

    width: float
    is_lane: bool
    below: list[tuple[_Item, float, float]] = field(default_factory=list)
    above: list[tuple[_Item, float, float]] = field(default_factory=list)
    x: float = 0.0

    def wanted(self, *, below: bool, above: bool) -> tuple[float, float]:
        """Weighted mean place of the neighbours, and the weight; the present place where there are none."""
        links = (self.below if below else []) + (self.above if above else [])
        total = sum(weight for _, weight, _ in links)
        if not total:
            return self.x, 0.1
        return sum(weight * (item.x + offset) for item, weight, offset in links) / total, total


def arrange(widths: Sequence[Sequence[float]], wires: Sequence[Wire]) -> Arrangement:
    """Places of boxes with these `widths` [row][box], and of the wires' lanes."""
    boxes = [[_Item(width, False) for width in row] for row in widths]
    lanes = [[_Item(LANE, True) for _ in range(wire.lower_row + 1, wire.upper_row)] for wire in wires]
    rows: list[list[_Item]] = [list(row) for row in boxes]
    for wire, items in zip(wires, lanes, strict=True):
        for row, item in enumerate(items, start=wire.lower_row + 1):
            rows[row].append(item)
        lower = [] if wire.lower is None else [boxes[wire.lower_row][wire.lower]]
        upper = [] if wire.upper is None else [boxes[wire.upper_row][wire.upper]]
        _link([*lower, *items, *upper], wire.offset if upper else 0.0)
    for row_of in rows:
        _place(row_of, [float(i) for i in range(len(row_of))], weights=[1.0] * len(row_of))
    _straighten(_ordered(rows))
    left = min((item.x - item.width / 2 for row_of in rows for item in row_of), default=0.0)
    right = max((item.x + item.width / 2 for row_of in rows for item in row_of), default=0.0)
    return Arrangement(
        boxes=tuple(tuple(item.x - left for item in row_of) for row_of in boxes),
        lanes=tuple(tuple(item.x - left for item in items) for items in lanes),
        width=right - left,
    )


def _link(chain: Sequence[_Item], offset: float) -> None:
    for lower, upper in pairwise(chain):
        weight = (1.0, 2.0, 6.0)[lower.is_lane + upper.is_lane]
        shift = 0.0 if upper.is_lane else offset
        lower.above.append((upper, weight, shift))
        upper.below.append((lower, weight, -shift))


def _ordered(rows: list[list[_Item]]) -> list[list[_Item]]:
    """The rows in the order with the fewest crossings that sweeps up and down have found."""
    best, fewest = [list(row) for row in rows], crossings(rows)
    for number in range(ROUNDS):
        upwards = number % 2 == 0
        for row in rows if upwards else rows[::-1]:
            wanted = [item.wanted(below=upwards, above=not upwards)[0] for item in row]
            order = np.argsort(wanted, kind="stable")
            row[:] = [row[i] for i in order]
            _place(row, [wanted[i] for i in order], weights=[1.0] * len(row))
        found = crossings(rows)
        if found < fewest:
            best, fewest = [list(row) for row in rows], found
    for row in best:
        _place(row, [float(i) for i in range(len(row))], weights=[1.0] * len(row))
    return best


def crossings(rows: Sequence[Sequence[_Item]]) -> int:
    """How many pairs of wires cross between the rows."""
    total = 0
    for row in rows:
        ends = [(item.x, upper.x + shift) for item in row for upper, _, shift in item.above]
        low, high = np.array(ends).reshape(-1, 2).T
        total += int(((low[:, None] - low) * (high[:, None] - high) < 0).sum()) // 2
    return total


def _straighten(rows: list[list[_Item]]) -> None:
    for number in range(STRAIGHTENING):
        last = number >= STRAIGHTENING - 6
        upwards = number % 2 == 0
        for row in rows if upwards else rows[::-1]:
            wanted = [item.wanted(below=upwards or last, above=not upwards or last) for item in row]
            _place(row, [x for x, _ in wanted], weights=[weight for _, weight in wanted])


def _place(row: Sequence[_Item], wanted: Sequence[float], *, weights: Sequence[float]) -> None:
    """Put the items, in their order, as near to the wanted places as their distances allow."""
    distances = [0.0] if row else []
    for left, right in pairwise(row):
        gap = 0.0 if left.is_lane and right.is_lane else GAP * (0.6 if left.is_lane or right.is_lane else 1.0)
        distances.append(distances[-1] + (left.width + right.width) / 2 + gap)
    level = isotonic([x - d for x, d in zip(wanted, distances, strict=True)], weights)
    for item, x, distance in zip(row, level, distances, strict=True):
        item.x = x + distance


def isotonic(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The non-decreasing sequence nearest to `values` by weighted least squares (pool adjacent violators)."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        count = 1
        while blocks and blocks[-1][0] > value:
            mean, mass, members = blocks.pop()
            value, weight, count = (value * weight + mean * mass) / (weight + mass), weight + mass, count + members
        blocks.append((value, weight, count))
    return [value for value, _, count in blocks for _ in range(count)]
