"""Circuits as rows of text, for the terminal, for Markdown and for the page, and the sentences they allow.

Shares are those of `circuits.evaluation`; brackets are 95 % intervals over examples. Points are percent of the full
model's logit difference. Where a cell gives two models, the teacher comes first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from circuitkd.circuit_analysis import CircuitComparison, Curves
from circuitkd.circuits.circuit import Circuit
from circuitkd.circuits.discovery import ThresholdSweep
from circuitkd.circuits.entity_groups import EntityGroups
from circuitkd.circuits.evaluation import Evaluation
from circuitkd.circuits.overlap import edge_count
from circuitkd.reports.tables import Data, Row
from circuitkd.reports.wording import fixed, short_names, with_interval

NONE = "–"


def circuit_rows(circuits: Sequence[Circuit]) -> list[Row]:
    """One row for each circuit. Keys: model, task, nodes, edges, faithfulness, random (mean faithfulness of random
    circuits of the same size), completeness, top component (with its share of the summed marginal losses)."""
    names = dict(zip((c.model.name for c in circuits), short_names(*(c.model.name for c in circuits)), strict=True))
    return [
        {
            "model": names[c.model.name],
            "task": c.task,
            "nodes": f"{len(c.components)} of {_node_count(c)}",
            "edges": f"{len(c.edges)} of {edge_count(c.model)}" if c.edges else NONE,
            "faithfulness": fixed(c.faithfulness),
            "random": fixed(c.require_evaluation().random_mean("faithfulness")),
            "completeness": fixed(c.completeness),
            "top component": _top(c),
        }
        for c in circuits
    ]


def circuit_data(circuit: Circuit) -> Data:
    """What a diagram shows: its edges, and then its components with their marginal losses."""
    columns = ("from", "to", "input", "effect of the edge (logits)", "marginal loss of the component (points)")
    edges = zip(circuit.edges, circuit.edge_scores, strict=True)
    losses = zip(circuit.components, circuit.require_evaluation().minimality, strict=True)
    rows: list[tuple[object, ...]] = [(e.sender, e.receiver, e.slot or "", score, None) for e, score in edges]
    return Data(columns, (*rows, *((c, "", "", None, loss) for c, loss in losses)))


def layer_rows(circuit: Circuit) -> list[Row]:
    """The components by layer, the last layer first, each with its marginal loss in points. Keys: layer, heads, MLP."""
    losses = dict(zip(circuit.components, circuit.require_evaluation().minimality, strict=True))
    layers = sorted({c.layer for c in circuit.components if c.layer is not None}, reverse=True)
    return [
        {"layer": str(layer)}
        | {
            name: " · ".join(
                f"{c} {fixed(loss, 1)}" for c, loss in losses.items() if (c.layer, c.kind) == (layer, kind)
            )
            for name, kind in (("heads", "head"), ("MLP", "mlp"))
        }
        for layer in layers
    ]


def edge_rows(circuit: Circuit, *, most: int | None = None) -> list[Row]:
    """The edges, the strongest first. Keys: edge, effect (logits), share (percent of the circuit's logit
    difference)."""
    whole = circuit.evaluation.circuit if circuit.evaluation else math.nan
    order = sorted(range(len(circuit.edges)), key=lambda i: -abs(circuit.edge_scores[i]))[:most]
    return [
        {
            "edge": str(circuit.edges[i]),
            "effect": fixed(circuit.edge_scores[i], 3),
            "share": fixed(100 * circuit.edge_scores[i] / whole if whole else math.nan, 1),
        }
        for i in order
    ]


def evaluation_rows(circuit: Circuit) -> list[Row]:
    """Every number beside random circuits of the same size. Keys: number, circuit, random (mean), range (of the random
    ones)."""
    e = circuit.require_evaluation()
    rows = [
        {
            "number": f"{name}, {formula}",
            "circuit": with_interval(getattr(e, name), getattr(e, f"{name}_interval")),
            **_beside(e, name, 2),
        }
        for name, formula in (
            ("retained", "m(C) / m(M)"),
            ("faithfulness", "(m(C) - m(0)) / (m(M) - m(0))"),
            ("completeness", "(m(M) - m(M without C)) / m(M)"),
        )
    ]
    if circuit.components:
        least = min(range(len(e.minimality)), key=lambda i: e.minimality[i])
        rows.append(
            {
                "number": "smallest marginal loss, points of m(M)",
                "circuit": f"{fixed(e.minimality[least], 1)} ({e.components[least]})",
                **_beside(e, "marginal_loss", 1),
            }
        )
    if e.subsets:
        name = f"mean |m(C without K) - m(M without K)| of {len(e.subsets)} subsets K, logits"
        rows.append({"number": name, "circuit": fixed(e.incompleteness), "random": NONE, "range": NONE})
    if circuit.edge_evaluation is not None:
        edges = circuit.edge_evaluation
        for name in ("retained", "faithfulness"):
            value = fixed(getattr(edges, name))
            rows.append({"number": f"{name} of the edges alone", "circuit": value, "random": NONE, "range": NONE})
    return rows


def level_rows(circuit: Circuit) -> list[Row]:
    """The logit differences behind the shares. Keys: run, logits."""
    e = circuit.require_evaluation()
    names = (
        ("the model M", e.full),
        ("the circuit C alone", e.circuit),
        ("M without C", e.complement),
        ("0, no component", e.empty),
    )
    return [{"run": name, "logits": fixed(value, 3)} for name, value in names]


def threshold_rows(sweep: ThresholdSweep) -> list[Row]:
    """One row a threshold. Keys: threshold, nodes, heads, MLPs, edges, retained, faithfulness, completeness, Jaccard
    (with the nodes at 20 %, or the threshold nearest to it)."""
    return [
        {
            "threshold": f"{100 * r['threshold']:g} %",
            "nodes": str(r["nodes"]),
            "heads": str(r["heads"]),
            "MLPs": str(r["mlps"]),
            "edges": str(r["edges"]),
            "retained": fixed(r["retained"]),
            "faithfulness": fixed(r["faithfulness"]),
            "completeness": fixed(r["completeness"]),
            "Jaccard": fixed(r["node_jaccard"]),
        }
        for r in sweep.to_pandas().to_dict("records")
    ]


def curve_rows(curves: Curves) -> list[Row]:
    """CPR and CMD. Keys: level, CPR, CMD, ranked by."""
    return [
        {"level": c.level, "CPR": fixed(c.cpr, 3), "CMD": fixed(c.cmd, 3), "ranked by": c.ranking}
        for c in (curves.nodes, curves.edges)
    ]


def group_rows(groups: EntityGroups) -> list[Row]:
    """The entity-tracking groups from the output backwards. Keys: group, read at, heads (each with its score)."""
    rows = []
    for group in groups.groups:
        # A group's heads are those with the lowest scores, in this order.
        scores = np.sort(group.scores)[: len(group.heads)]
        heads = ", ".join(f"{h} {fixed(float(s))}" for h, s in zip(group.heads, scores, strict=True))
        rows.append({"group": group.step.group, "read at": group.step.at, "heads": heads or NONE})
    return rows


def overlap_rows(found: Sequence[CircuitComparison]) -> list[Row]:
    """The circuits of teacher and student, one task a row. Keys: task, nodes, edges, faithfulness, nodes found, by
    chance, edges found, top share."""
    return [{"task": c.task} | _overlap_row(c) for c in found]


def side_rows(found: CircuitComparison) -> list[Row]:
    """Two circuits, one fact a row. Keys: fact, teacher, student. No rows where one is missing."""
    if found.overlap is None or found.teacher is None or found.student is None:
        return []
    pair = found.overlap.teacher, found.overlap.student
    facts = {
        "components": [f"{s.nodes} ({fixed(100 * s.node_share, 0)} % of the model’s)" for s in pair],
        "edges": [f"{s.edges} ({fixed(100 * s.edge_share, 1)} %)" for s in pair],
        "faithfulness": [fixed(c.faithfulness) for c in (found.teacher, found.student)],
        "completeness": [fixed(c.completeness) for c in (found.teacher, found.student)],
        "heads per layer, from layer 0": [" ".join(map(str, s.heads_per_layer)) for s in pair],
        "MLPs per layer": [" ".join(map(str, s.mlps_per_layer)) for s in pair],
        "mean depth, 0 first to 1 last": [fixed(s.mean_depth) for s in pair],
        "top component, points": [f"{s.top} {fixed(s.top_loss, 1)}" for s in pair],
        "its share of all marginal losses": [_percent(s.concentration) for s in pair],
    }
    return [{"fact": name, "teacher": teacher, "student": student} for name, (teacher, student) in facts.items()]


def circuit_sentence(circuit: Circuit) -> str:
    """What the circuit is, and what random ones of its size would be."""
    e = circuit.require_evaluation()
    edges = f" and {len(circuit.edges)} of {edge_count(circuit.model)} edges" if circuit.edges else ""
    text = (
        f"{len(circuit.components)} of {_node_count(circuit)} components{edges}: with all others replaced the model keeps "
        f"{fixed(100 * e.retained, 0)} % of its logit difference"
    )
    if not e.random:
        return f"{text}."
    return f"{text}, with random ones in their place {fixed(100 * e.random_mean('retained'), 0)} % on average."


def overlap_sentence(found: CircuitComparison) -> str:
    """How much of the teacher's circuit lies in the student's, beside what chance would give."""
    o = found.overlap
    if o is None:
        return ""
    total = len(o.nodes)
    text = (
        f"{sum(n.found for n in o.nodes)} of the teacher’s {total} circuit components have their match in the student’s "
        f"circuit; {fixed(total * o.expected_node_overlap, 1)} would in a random one of its size."
    )
    if o.edges:
        text += f" {sum(e.found for e in o.edges)} of its {len(o.edges)} edges are edges of the student’s circuit too."
    return text


def _overlap_row(c: CircuitComparison) -> Row:
    sides = c.teacher, c.student
    row = {
        "nodes": _both([len(s.components) if s else None for s in sides], 0),
        "edges": _both([len(s.edges) if s else None for s in sides], 0),
        "faithfulness": _both([s.faithfulness if s else None for s in sides], 2),
    }
    o = c.overlap
    if o is None:
        return row | dict.fromkeys(("nodes found", "by chance", "edges found", "top share %"), NONE)
    return row | {
        "nodes found": f"{sum(n.found for n in o.nodes)} of {len(o.nodes)}",
        "by chance": fixed(len(o.nodes) * o.expected_node_overlap, 1),
        "edges found": f"{sum(e.found for e in o.edges)} of {len(o.edges)}",
        "top share %": _both([100 * o.teacher.concentration, 100 * o.student.concentration], 0),
    }


def _both(values: Sequence[float | None], digits: int) -> str:
    return " / ".join(NONE if v is None else fixed(v, digits) for v in values)


def _beside(e: Evaluation, name: str, digits: int) -> Row:
    """Mean and range of the random circuits."""
    values = [v for v in (getattr(r, name) for r in e.random) if math.isfinite(v)]
    if not values:
        return {"random": NONE, "range": NONE}
    mean = sum(values) / len(values)
    return {"random": fixed(mean, digits), "range": f"{fixed(min(values), digits)} to {fixed(max(values), digits)}"}


def _node_count(circuit: Circuit) -> int:
    return circuit.model.n_layers * (circuit.model.n_heads + 1)


def _top(circuit: Circuit) -> str:
    losses = circuit.minimality
    if not losses:
        return NONE
    top = circuit.components[max(range(len(losses)), key=lambda i: losses[i])]
    return f"{top} {_percent(circuit.concentration)}"


def _percent(share: float) -> str:
    text = fixed(100 * share, 0)
    return text if text == "n/a" else f"{text} %"
