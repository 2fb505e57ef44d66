"""Circuits made of random numbers that fit together, with everything that can stand beside them; nothing is run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from circuitkd.circuit_analysis import CircuitComparison, CircuitFindings, Curves
from circuitkd.circuits.circuit import Circuit, ModelShape
from circuitkd.circuits.curves import FRACTIONS, FaithfulnessCurve, areas
from circuitkd.circuits.discovery import ThresholdSweep, jaccard
from circuitkd.circuits.entity_groups import STEPS, EntityGroups, HeadGroup
from circuitkd.circuits.evaluation import EdgeEvaluation, Evaluation, RandomCircuit, Subset
from circuitkd.circuits.overlap import overlap
from circuitkd.comparison.result import SAME
from circuitkd.components import Component, Edge, model_components
from synthetic_comparison import synthetic

DEFINITION = "logit[answer] - logit[distractor], everything outside the circuit is replaced by: mean over corrupted"


def shape_of(name="tiny-teacher", layers=4, heads=4, *, kv_heads=None, residual="pre", fingerprint="abc"):
    """A model without weights."""
    return ModelShape(name, "GPT2LMHeadModel", fingerprint, layers, heads, kv_heads or heads, 64, residual)


def random_circuit(shape=None, *, task="ioi", share=0.4, edges=0.3, seed=0) -> Circuit:
    """`share` of the components, and `edges` of the edges between them, with an evaluation."""
    shape = shape or shape_of()
    rng = np.random.default_rng(seed)
    everything = model_components(shape.n_layers, shape.n_heads)
    kept = tuple(c for c in everything if rng.random() < share) or everything[:1]
    possible = possible_edges(shape, kept)
    chosen = tuple(e for e in possible if rng.random() < edges) or possible[:1]
    scores = tuple(float(s) for s in rng.exponential(1.0, len(chosen)) ** 2)
    return Circuit(
        model=shape,
        task=task,
        components=kept,
        edges=chosen,
        edge_scores=scores,
        evaluation=evaluation(kept, rng),
        edge_evaluation=EdgeEvaluation(chosen, 12.0, -1.0, 10.5, 0.875, 0.8846, (), DEFINITION),
        warnings=(),
        manifest={"task": task, "examples": "100", "edges": "path patching inside the circuit, at least 1 %"},
    )


def possible_edges(shape, kept) -> tuple[Edge, ...]:
    """All edges among these components, the embedding and the logits."""
    found = []
    width = shape.group_width
    for receiver in [*sorted(kept), Component("logits")]:
        for sender in [Component("embed"), *sorted(kept)]:
            inside = sender.kind == "head" and receiver.kind == "mlp" and shape.residual != "parallel"
            if None not in (sender.layer, receiver.layer) and not (
                sender.layer < receiver.layer or (inside and sender.layer == receiver.layer)
            ):
                continue
            if receiver.kind == "head":
                group = Component("kv", receiver.layer, receiver.head // width) if width > 1 else receiver
                found += [Edge(sender, receiver, "q"), Edge(sender, group, "k"), Edge(sender, group, "v")]
            elif sender != receiver:
                found.append(Edge(sender, receiver))
    return tuple(dict.fromkeys(found))


def evaluation(kept, rng) -> Evaluation:
    """Numbers of about the right size: the circuit keeps 90 %, random ones 10 %."""
    losses = tuple(float(x) for x in np.round(40 * rng.random(len(kept)) ** 2 + 1, 2))
    random = tuple(
        RandomCircuit(kept, *(float(x) for x in 0.1 + 0.05 * rng.normal(size=3)), float(5 * rng.random()))
        for _ in range(20)
    )
    return Evaluation(
        components=tuple(kept),
        full=12.0,
        empty=-1.0,
        circuit=10.8,
        complement=0.6,
        retained=0.9,
        retained_interval=(0.88, 0.92),
        faithfulness=0.908,
        faithfulness_interval=(0.89, 0.93),
        completeness=0.95,
        completeness_interval=(0.93, 0.97),
        minimality=losses,
        subsets=(Subset(kept[:1], 5.0, 5.5),),
        random=random,
        seed=0,
        definition=DEFINITION,
    )


def random_findings(**options) -> CircuitFindings:
    """A circuit with a sweep of thresholds, curves and groups."""
    circuit = random_circuit(**options)
    circuits = tuple(random_circuit(share=s, seed=i) for i, s in enumerate((0.6, 0.5, 0.4, 0.3, 0.2)))
    table = np.array([[jaccard(a.components, b.components) for b in circuits] for a in circuits])
    faithful = tuple(float(x) for x in np.linspace(0, 1, len(FRACTIONS)))
    curve = FaithfulnessCurve("nodes", FRACTIONS, tuple(range(10)), faithful, *areas(FRACTIONS, faithful), "r", "d")
    heads = tuple(c for c in circuit.heads[:2])
    groups = tuple(HeadGroup(step, heads, np.linspace(-1, 0, 16)) for step in STEPS)
    return CircuitFindings(
        circuit,
        thresholds=ThresholdSweep((0.1, 0.15, 0.2, 0.25, 0.3), circuits, table),
        curves=Curves(curve, replace(curve, level="edges")),
        groups=EntityGroups(circuit.model.name, circuit.task, groups, -0.1, "log-probability", "resample"),
    )


def circuits_of(comparison=None, seed=0) -> CircuitComparison:
    """Random circuits of the two models of a comparison, compared."""
    comparison = comparison or synthetic()
    sides = [
        random_circuit(
            shape_of(m.name, m.n_layers, m.n_heads, fingerprint=m.fingerprint), task=comparison.task, seed=seed + i
        )
        for i, m in enumerate((comparison.teacher, comparison.student))
    ]
    return CircuitComparison(
        task=comparison.task,
        teacher=sides[0],
        student=sides[1],
        overlap=overlap(*sides, comparison=comparison),
        missing=(),
        manifest={key: comparison.manifest[key] for key in SAME},
    )
