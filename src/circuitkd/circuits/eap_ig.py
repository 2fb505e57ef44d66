"""EAP-IG's graph files (Hanna et al. 2024), which the circuit track of MIB takes: circuits and edge scores, out and in.

A file is JSON: `cfg` (n_layers, n_heads, parallel_attn_mlp, d_model), `nodes` (name -> {in_graph, score?}, in old
files name -> bool) and `edges` (name -> {score?, in_graph?}). Names are `input`, `a3.h5`, `m3`, `logits` and
`input->a3.h5<q>`.

K/V groups. The format knows a k and a v per query head, grouped-query models have one per group. Out: an edge into a
group becomes one into every query head of the group, the score split evenly, in the graph for the heads of the
circuit. In: edges into heads of a group become one, with the sum of the scores, in the graph if any of them is. So a
circuit comes back as it went out; a foreign file loses which of a group's heads an edge of k or v was for, and how the
score was split among them.

Scores in a file have its author's sign and metric: EAP-IG attributes a loss, so they can be the opposite of our
effects. Neuron-level files are refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from circuitkd.artifacts import read_json
from circuitkd.circuits.circuit import Circuit, ModelShape, write_text
from circuitkd.circuits.edge_effects import EdgeEffects
from circuitkd.circuits.graph import check_edges, key_value_component
from circuitkd.components import Component, Edge
from circuitkd.models.circuit_model import CircuitModel

Found = dict[Edge, tuple[float, bool]]


def write_eap_ig(circuit: Circuit, path: str | Path, *, effects: EdgeEffects | None = None) -> Path:
    """Write a circuit as `eap.graph.Graph.from_json` reads it, every node and edge of the model listed.

    Scores are mean effects: of all the edges in `effects` (of the same model), else of the circuit's own edges, and 0
    for the others. Raises ValueError for effects of another model and a file that cannot be written.
    """
    if effects is not None and effects.model != circuit.model.name:
        raise ValueError(
            f"the effects are of {effects.model}, the circuit of {circuit.model.name}: give those of one model"
        )
    pairs = zip(circuit.edges, circuit.edge_scores, strict=True)
    if effects is not None:
        pairs = zip(effects.edges, (float(drop) for drop in effects.drops), strict=True)
    kept, scores = _per_head(circuit.edges, circuit), _split(dict(pairs), circuit.model)
    inside = set(circuit.components)
    names = [Component("embed"), *sorted(_all_components(circuit.model)), Component("logits")]
    record = {
        "cfg": {
            "n_layers": circuit.model.n_layers,
            "n_heads": circuit.model.n_heads,
            "parallel_attn_mlp": circuit.model.residual == "parallel",
            "d_model": circuit.model.d_model,
        },
        "nodes": {eap_ig_name(c): {"in_graph": c in inside or c.layer is None} for c in names},
        "edges": {
            eap_ig_edge(e): {"score": scores.get(e, 0.0), "in_graph": e in kept} for e in head_edges(circuit.model)
        },
    }
    return write_text(path, json.dumps(record))


def read_eap_ig(path: str | Path, model: CircuitModel, *, task: str = "") -> Circuit:
    """The circuit of an EAP-IG or MIB file, for `model`. It has no evaluation.

    Raises ValueError for a damaged file, another model's shape, unknown nodes and edges, neuron-level circuits, and
    edges whose ends are not in the graph.
    """
    record = _checked(_load(path), path, model)
    components = {_node(name, path) for name, info in record["nodes"].items() if _in_graph(info)}
    inside = {c for c in components if c.layer is not None}
    unknown = sorted(str(c) for c in inside - set(model.components))
    if unknown:
        raise ValueError(f"{path}: {model.name} has no {', '.join(unknown)}; the file is another model's")
    shape, found = ModelShape.of(model), _edges(record, path, model)
    kept = tuple(edge for edge, (_, is_in) in found.items() if is_in)
    _check_ends(record, inside, path)
    return Circuit(
        model=shape,
        task=task,
        components=tuple(c for c in model.components if c in inside),
        edges=kept,
        edge_scores=tuple(found[edge][0] for edge in kept),
        warnings=_merged_warning(shape),
        manifest={"imported_from": f"EAP-IG file {Path(path).name}", "scores": "as in the file"},
    )


def read_eap_ig_scores(path: str | Path, model: CircuitModel) -> dict[Edge, float]:
    """The score of every edge in an EAP-IG or MIB importance file, for `curves.edge_curve`. Raises ValueError as
    `read_eap_ig`, and for a file without scores."""
    found = _edges(_checked(_load(path), path, model), path, model)
    if any(math.isnan(score) for score, _ in found.values()):
        raise ValueError(f"{path} has edges without a score: it is a circuit, read it with read_eap_ig")
    return {edge: score for edge, (score, _) in found.items()}


def eap_ig_name(component: Component) -> str:
    """`input`, `a3.h5`, `m3`, `logits`."""
    if component.kind == "head":
        return f"a{component.layer}.h{component.head}"
    return f"m{component.layer}" if component.kind == "mlp" else {"embed": "input"}.get(component.kind, component.kind)


def eap_ig_edge(edge: Edge) -> str:
    """`input->a3.h5<q>`, `m0->logits`."""
    return f"{eap_ig_name(edge.sender)}->{eap_ig_name(edge.receiver)}" + (f"<{edge.slot}>" if edge.slot else "")


def head_edges(shape: ModelShape) -> Iterator[Edge]:
    """Every edge of a model of this shape with a k and a v per query head, receiver by receiver, as EAP-IG counts
    them."""
    before = [Component("embed")]
    for layer in range(shape.n_layers):
        heads = [Component("head", layer, head) for head in range(shape.n_heads)]
        mlp = Component("mlp", layer)
        for head in heads:
            yield from (Edge(sender, head, slot) for slot in ("q", "k", "v") for sender in before)
        inside = before if shape.residual == "parallel" else [*before, *heads]
        yield from (Edge(sender, mlp) for sender in inside)
        before += [*heads, mlp]
    yield from (Edge(sender, Component("logits")) for sender in before)


def _all_components(shape: ModelShape) -> Iterator[Component]:
    for layer in range(shape.n_layers):
        yield from (Component("head", layer, head) for head in range(shape.n_heads))
        yield Component("mlp", layer)


def readers(receiver: Component, shape: ModelShape) -> tuple[Component, ...]:
    """The query heads that read a K/V group; any other receiver itself."""
    if receiver.kind != "kv" or receiver.head is None:
        return (receiver,)
    first = receiver.head * shape.group_width
    return tuple(Component("head", receiver.layer, head) for head in range(first, first + shape.group_width))


def _per_head(edges: Iterable[Edge], circuit: Circuit) -> set[Edge]:
    """Edges into K/V groups as edges into the circuit's heads of the group."""
    ends = {*circuit.components, Component("logits")}
    return {Edge(e.sender, r, e.slot) for e in edges for r in readers(e.receiver, circuit.model) if r in ends}


def _split(scores: Mapping[Edge, float], shape: ModelShape) -> dict[Edge, float]:
    found: dict[Edge, float] = {}
    for edge, score in scores.items():
        heads = readers(edge.receiver, shape)
        found |= {Edge(edge.sender, head, edge.slot): score / len(heads) for head in heads}
    return found


def _load(path: str | Path) -> Any:
    if not Path(path).exists():
        raise ValueError(f"{path} does not exist: give an EAP-IG or MIB circuit file (.json)")
    try:
        record = read_json(path)
    except ValueError as error:
        raise ValueError(
            f"{path} is not JSON: {error}; .pt files are not read, write them as .json with EAP-IG"
        ) from error
    if not isinstance(record, dict) or not all(isinstance(record.get(key), dict) for key in ("cfg", "nodes", "edges")):
        raise ValueError(f"{path} is not an EAP-IG graph: it needs cfg, nodes and edges")
    return record


def _checked(record: Any, path: str | Path, model: CircuitModel) -> Any:
    """The record, if it is of a model of this shape and without neurons."""
    wanted = {"n_layers": model.n_layers, "n_heads": model.n_heads, "d_model": model.d_model}
    wanted["parallel_attn_mlp"] = model.architecture.residual == "parallel"
    wrong = {k: record["cfg"][k] for k, v in wanted.items() if k in record["cfg"] and record["cfg"][k] != v}
    if wrong or not {"n_layers", "n_heads"} <= record["cfg"].keys():
        raise ValueError(
            f"{path} is of another model: its cfg says {wrong or record['cfg']}, {model.name} has {wanted}; load the "
            "model it was made with"
        )
    if any(isinstance(info, dict) and "neurons" in info for info in record["nodes"].values()):
        raise ValueError(f"{path} selects neurons: only circuits of heads and MLPs are read")
    return record


def _edges(record: Any, path: str | Path, model: CircuitModel) -> Found:
    """Score (NaN where there is none) and membership of every edge in the file, K/V groups put together."""
    found: Found = {}
    for name, info in record["edges"].items():
        try:
            edge = grouped(Edge.parse(name), model)
            score = float(info.get("score", math.nan))
        except (ValueError, AttributeError, TypeError, OverflowError) as error:
            raise ValueError(f"{path}: cannot read the edge {name!r}: {error}") from error
        before = found.get(edge, (0.0, False))
        found[edge] = (before[0] + score, before[1] or _in_graph(info))
    try:
        if found:
            check_edges(model, found)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return found


def grouped(edge: Edge, model: CircuitModel) -> Edge:
    """The edge with its key or value receiver replaced by the head's K/V group, where the model has groups."""
    receiver = edge.receiver
    if edge.slot not in ("k", "v") or receiver.kind != "head":
        return edge
    assert receiver.layer is not None
    assert receiver.head is not None
    return Edge(edge.sender, key_value_component(model, receiver.layer, receiver.head), edge.slot)


def _node(name: str, path: str | Path) -> Component:
    try:
        return Component.parse(name)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _in_graph(info: Any) -> bool:
    return bool(info.get("in_graph", False)) if isinstance(info, dict) else bool(info)


def _check_ends(record: Any, inside: set[Component], path: str | Path) -> None:
    for name, info in record["edges"].items():
        edge = Edge.parse(name)
        outside = [str(c) for c in (edge.sender, edge.receiver) if c.layer is not None and c not in inside]
        if _in_graph(info) and outside:
            raise ValueError(
                f"{path}: the edge {name} is in the graph, but {outside[0]} is not; prune the graph before saving it"
            )


def _merged_warning(shape: ModelShape) -> tuple[str, ...]:
    if shape.group_width == 1:
        return ()
    return (
        f"the file has a key and a value per query head, {shape.name} one per {shape.group_width} heads: their edges "
        "were put together, scores added",
    )
