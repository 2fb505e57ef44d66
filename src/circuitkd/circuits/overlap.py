"""Two circuits beside each other: how much of the teacher's is found again in the student's, under a matching.

A teacher component is found again when its match (the pair of highest weight, then similarity, in a `Comparison`) lies
in the student's circuit. An edge is found again when its sender's match sends to its receiver's match, in the same
slot, over an edge of the student's circuit; embed and logits match themselves, and a key or value of a K/V group is
looked for in the groups of the matches of the group's circuit heads. Beside it: how much of that a student circuit
with as many heads and MLPs drawn at random would give, sizes, where in depth the circuits lie, and how much of each
circuit's effect sits in its top component (DC section 3.3: students rely on fewer components).

Limits: a matching says that components are similar, not that they play the same part; with many-to-one matching several
teacher components can be found in one student component.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from circuitkd.circuits.circuit import Circuit, ModelShape
from circuitkd.comparison.kept import best_matches
from circuitkd.comparison.result import Comparison, MatchedPair
from circuitkd.components import Component, Edge


@dataclass(frozen=True)
class CircuitSide:
    """One of the two circuits. `node_share`, `edge_share`: of all of the model's. `heads_per_layer`, `mlps_per_layer`:
    the depth profile; `mean_depth` in [0, 1], 0 = first layer. `top`: the component with the largest marginal loss,
    which is `top_loss` points of the full model and `concentration` of the circuit's summed positive losses."""

    model: str
    nodes: int
    heads: int
    mlps: int
    edges: int
    node_share: float
    edge_share: float
    heads_per_layer: tuple[int, ...]
    mlps_per_layer: tuple[int, ...]
    mean_depth: float
    top: Component | None
    top_loss: float
    concentration: float


@dataclass(frozen=True)
class FoundNode:
    """A teacher component, its match (None: it is in no pair), their similarity, and whether the match is in the
    student's circuit."""

    teacher: Component
    student: Component | None
    similarity: float
    found: bool


@dataclass(frozen=True)
class FoundEdge:
    """A teacher edge and what it would be in the student (none where the matches are not in order of computation)."""

    teacher: Edge
    students: tuple[Edge, ...]
    found: bool


@dataclass(frozen=True)
class CircuitOverlap:
    """`node_overlap`, `edge_overlap`: shares of the teacher circuit's components and edges that are found in the
    student's. `expected_node_overlap`: what a random student circuit with as many heads and MLPs gives on average.
    `reverse_overlap`: the share of the student circuit's components that are the match of some component of the
    teacher's circuit."""

    task: str
    teacher: CircuitSide
    student: CircuitSide
    nodes: tuple[FoundNode, ...]
    edges: tuple[FoundEdge, ...]
    node_overlap: float
    expected_node_overlap: float
    reverse_overlap: float
    edge_overlap: float
    warnings: tuple[str, ...] = ()

    def to_pandas(self) -> pd.DataFrame:
        """The teacher circuit's components, one a row."""
        columns = ("teacher", "student", "similarity", "found")
        rows = [(str(n.teacher), str(n.student) if n.student else None, n.similarity, n.found) for n in self.nodes]
        return pd.DataFrame(rows, columns=list(columns))


def overlap(teacher: Circuit, student: Circuit, *, comparison: Comparison) -> CircuitOverlap:
    """Compare the two models' circuits under the matching of their comparison.

    Raises ValueError when a circuit is not of the comparison's teacher or student.
    """
    require_models(comparison, teacher=teacher.model, student=student.model)
    matches = best_matches(comparison.alignment.pairs)
    nodes = tuple(_found_node(c, matches, inside=set(student.components)) for c in teacher.components)
    edges = tuple(_found_edge(e, matches, teacher=teacher, student=student) for e in teacher.edges)
    images = {n.student for n in nodes if n.student is not None}
    return CircuitOverlap(
        task=teacher.task,
        teacher=_side(teacher),
        student=_side(student),
        nodes=nodes,
        edges=edges,
        node_overlap=_mean([n.found for n in nodes]),
        expected_node_overlap=_mean([_chance(n.student, student) for n in nodes]),
        reverse_overlap=_mean([c in images for c in student.components]),
        edge_overlap=_mean([e.found for e in edges]),
        warnings=tuple(_warnings(teacher, student, comparison)),
    )


def require_models(comparison: Comparison, *, teacher: ModelShape, student: ModelShape) -> None:
    """Raise ValueError unless these are the models of the comparison."""
    sides = (teacher, comparison.teacher, "teacher"), (student, comparison.student, "student")
    for shape, model, side in sides:
        if shape.fingerprint != model.fingerprint:
            raise ValueError(
                f"the {side}'s circuit belongs to {shape.name} (weights {shape.fingerprint}), the comparison's {side} "
                f"is {model.name} (weights {model.fingerprint}): give circuits of those"
            )


def _found_node(component: Component, matches: dict[Component, MatchedPair], *, inside: set[Component]) -> FoundNode:
    pair = matches.get(component)
    if pair is None:
        return FoundNode(component, None, float("nan"), False)
    return FoundNode(component, pair.student, pair.similarity, pair.student in inside)


def _found_edge(edge: Edge, matches: dict[Component, MatchedPair], *, teacher: Circuit, student: Circuit) -> FoundEdge:
    senders = _images(edge.sender, matches)
    receivers = _receivers(edge, matches, teacher=teacher, shape=student.model)
    images = [Edge(s, r, edge.slot) for s in senders for r in receivers if _in_order(s, r, student.model)]
    return FoundEdge(edge, tuple(images), any(image in student.edges for image in images))


def _images(component: Component, matches: dict[Component, MatchedPair]) -> list[Component]:
    if component.kind in ("embed", "logits"):
        return [component]
    return [matches[component].student] if component in matches else []


def _receivers(
    edge: Edge, matches: dict[Component, MatchedPair], *, teacher: Circuit, shape: ModelShape
) -> list[Component]:
    """The student's receivers of a teacher edge: a K/V group stands for the circuit heads that read it."""
    readers = [edge.receiver]
    if edge.receiver.kind == "kv":
        width = teacher.model.group_width
        readers = [
            c for c in teacher.heads if (c.layer, _head(c) // width) == (edge.receiver.layer, edge.receiver.head)
        ]
    images = [image for reader in readers for image in _images(reader, matches)]
    if edge.slot in ("k", "v") and shape.group_width > 1:
        images = [Component("kv", image.layer, _head(image) // shape.group_width) for image in images]
    return list(dict.fromkeys(images))


def _in_order(sender: Component, receiver: Component, shape: ModelShape) -> bool:
    """Whether the edge exists in a model of this shape; compare `graph.edge_exists`."""
    if sender.kind == "embed" or receiver.kind == "logits":
        return True
    inside = sender.kind == "head" and receiver.kind == "mlp" and shape.residual != "parallel"
    return _layer(sender) < _layer(receiver) or (inside and sender.layer == receiver.layer)


def _chance(match: Component | None, student: Circuit) -> float:
    """Probability that a random circuit of the student's size holds the match."""
    if match is None:
        return 0.0
    if match.kind == "head":
        return len(student.heads) / (student.model.n_layers * student.model.n_heads)
    return len(student.mlps) / student.model.n_layers


def _side(circuit: Circuit) -> CircuitSide:
    shape = circuit.model
    losses = circuit.evaluation.minimality if circuit.evaluation is not None else ()
    top = int(np.argmax(losses)) if losses else None
    depths = [_layer(c) / max(1, shape.n_layers - 1) for c in circuit.components]
    return CircuitSide(
        model=shape.name,
        nodes=len(circuit.components),
        heads=len(circuit.heads),
        mlps=len(circuit.mlps),
        edges=len(circuit.edges),
        node_share=len(circuit.components) / (shape.n_layers * (shape.n_heads + 1)),
        edge_share=len(circuit.edges) / edge_count(shape),
        heads_per_layer=tuple(sum(c.layer == layer for c in circuit.heads) for layer in range(shape.n_layers)),
        mlps_per_layer=tuple(sum(c.layer == layer for c in circuit.mlps) for layer in range(shape.n_layers)),
        mean_depth=_mean(depths),
        top=None if top is None else circuit.components[top],
        top_loss=float("nan") if top is None else losses[top],
        concentration=circuit.concentration if losses else float("nan"),
    )


def edge_count(shape: ModelShape) -> int:
    """Number of edges of a model: per layer q of each head, k and v of each K/V group, the MLP; then the logits."""
    inputs, before = shape.n_heads + 2 * shape.n_kv_heads, 1
    total = 0
    for _ in range(shape.n_layers):
        total += inputs * before + before + (0 if shape.residual == "parallel" else shape.n_heads)
        before += shape.n_heads + 1
    return total + before


def _warnings(teacher: Circuit, student: Circuit, comparison: Comparison) -> list[str]:
    if {teacher.task, student.task} != {comparison.task}:
        return [f"circuits for {teacher.task!r} and {student.task!r} under a matching from {comparison.task!r}"]
    return []


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _layer(component: Component) -> int:
    assert component.layer is not None
    return component.layer


def _head(component: Component) -> int:
    assert component.head is not None
    return component.head
