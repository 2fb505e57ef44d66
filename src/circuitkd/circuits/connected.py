"""The part of a circuit that carries something from the input to the output.

A component counts only if the embedding reaches it and it reaches the logits, over kept edges between kept components.
The rest is removed until nothing changes: an edge goes with either of its ends, a component with its last incoming or
outgoing edge. A head is fed by an edge into its query, its key or its value; a K/V group feeds every kept head that
reads it, and counts only as an input of these heads. Pure graph work: nothing is measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from circuitkd.components import Component, Edge


class NoCircuit(ValueError):
    """What was asked for has no circuit: the model does not do the task, or nothing leads from embed to logits."""


@dataclass(frozen=True)
class Connected:
    """What is on a path from the embedding to the logits, and which components were not."""

    components: tuple[Component, ...]
    edges: tuple[Edge, ...]
    dropped: tuple[Component, ...]


def connected(components: Iterable[Component], edges: Iterable[Edge], *, group_width: int = 1) -> Connected:
    """The fixpoint, both in the order they came in. `group_width`: query heads per K/V group.

    Edges with an end outside `components` are left out. Raises NoCircuit when no path from embed to logits is left.
    """
    given, wanted = tuple(dict.fromkeys(components)), tuple(dict.fromkeys(edges))
    steps = [(e.sender, receiver) for e in wanted for receiver in _fed(e, set(given), group_width)]
    on_path = _reached(Component("embed"), steps) & _reached(Component("logits"), [(b, a) for a, b in steps])
    if Component("logits") not in on_path:
        raise NoCircuit(
            f"the circuit is disconnected: none of its {len(given)} components and {len(wanted)} edges form a path "
            "from embed to logits; keep more edges (a smaller edge_share) or more components (a smaller threshold)"
        )
    kept = tuple(c for c in given if c in on_path)
    left = tuple(e for e in wanted if _fed(e, set(kept), group_width))
    return Connected(kept, left, tuple(c for c in given if c not in on_path))


def _fed(edge: Edge, components: set[Component], group_width: int) -> list[Component]:
    """The kept components that an edge feeds: its receiver, or the heads that read a K/V group; none if an end is
    outside."""
    if edge.sender.kind != "embed" and edge.sender not in components:
        return []
    receiver = edge.receiver
    if receiver.kind == "logits":
        return [receiver]
    if receiver.kind != "kv":
        return [receiver] if receiver in components else []
    assert receiver.head is not None
    first = receiver.head * group_width
    heads = [Component("head", receiver.layer, head) for head in range(first, first + group_width)]
    return [head for head in heads if head in components]


def _reached(start: Component, steps: list[tuple[Component, Component]]) -> set[Component]:
    """All components that the steps lead to from `start`, itself included."""
    found, before = {start}, 0
    while len(found) != before:
        before = len(found)
        found |= {b for a, b in steps if a in found}
    return found
