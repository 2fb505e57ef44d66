"""The rows of a circuit's diagram, from the embedding at the bottom to the logits at the top, and how high each lies."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import pairwise

from circuitkd.circuits.circuit import Circuit
from circuitkd.components import Component

BAR, SKIPPED = 28.0, 22.0  # heights of an end bar, and of the line that names layers without a component
HEIGHTS = {"head": 48.0, "mlp": 36.0, "kv": 36.0}
TOTAL_GAP, GAPS = 900.0, (30.0, 50.0)  # room between rows: what is left of this for each, within these


@dataclass(frozen=True)
class Row:
    """Boxes side by side. `layer` is None for the two bars; `skipped` names the layers without a component that follow
    above, `note` is its middle. `top` in pixels from the upper end; `band`: top and height of the whole layer, in its
    lowest row only."""

    members: tuple[Component, ...]
    layer: int | None
    height: float
    skipped: str = ""
    top: float = 0.0
    note: float = 0.0
    band: tuple[float, float] | None = None


def stacked(circuit: Circuit, groups: Collection[Component]) -> tuple[tuple[Row, ...], float]:
    """The rows from below, with their places, and the height of all. `groups`: K/V groups to draw."""
    first = min((c.layer or 0 for c in circuit.components), default=circuit.model.n_layers)
    embed = Row((Component("embed"),), None, BAR, skipped=_skipped(0, first - 1))
    rows = [embed, *_of_layers(circuit, groups), Row((Component("logits"),), None, BAR)]
    gap = min(max(TOTAL_GAP / len(rows), GAPS[0]), GAPS[1])
    height = sum(r.height + gap + (SKIPPED if r.skipped else 0) for r in rows) - gap
    below, placed = height, []
    for row in rows:
        top = below - row.height
        placed.append(replace(row, top=top, note=top - (gap + SKIPPED) / 2))
        below -= row.height + gap + (SKIPPED if row.skipped else 0)
    return tuple(_banded(placed, gap)), height


def _of_layers(circuit: Circuit, groups: Collection[Component]) -> list[Row]:
    members: dict[int, list[list[Component]]] = {}
    for c in sorted({*circuit.components, *groups}, key=lambda c: (c.layer or 0, c.kind != "kv", c.kind, c.head or 0)):
        assert c.layer is not None
        of_layer = members.setdefault(c.layer, [])
        beside = (
            c.kind == "mlp" and circuit.model.residual == "parallel" and of_layer and of_layer[-1][0].kind == "head"
        )
        if of_layer and (of_layer[-1][0].kind == c.kind or beside):
            of_layer[-1].append(c)
        else:
            of_layer.append([c])
    rows: list[Row] = []
    for layer, following in pairwise([*sorted(members), circuit.model.n_layers]):
        rows += [Row(tuple(row), layer, max(HEIGHTS[c.kind] for c in row)) for row in members[layer]]
        rows[-1] = replace(rows[-1], skipped=_skipped(layer + 1, following - 1))
    return rows


def _skipped(first: int, last: int) -> str:
    if first > last:
        return ""
    return f"{first}: none" if first == last else f"{first}–{last}: none"


def _banded(rows: list[Row], gap: float) -> list[Row]:
    """The rows, the lowest of each layer with the place of the layer's band."""
    found = []
    for i, row in enumerate(rows):
        is_lowest = row.layer is not None and rows[i - 1].layer != row.layer
        if is_lowest:
            highest = [r for r in rows if r.layer == row.layer][-1]
            top, bottom = highest.top - gap * 0.3, row.top + row.height + gap * 0.3
            row = replace(row, band=(top, bottom - top))
        found.append(row)
    return found
