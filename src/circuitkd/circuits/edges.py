"""Exact path patching of edges (semantics, section 9; Wang et al. 2023, Goldowsky-Dill et al. 2023).

The effect of an edge sender -> receiver is base - patched, where the patched run differs from the base run in one
thing: what the receiver reads is computed with the sender's replacement in place of its value.

    1. Every head and MLP has its value of the base run (the clean prompt, or the circuit on it).
    2. The sender's output is exchanged for its replacement; every other head and MLP is frozen; so the change travels on the
       residual stream alone, through the later layer norms in post-norm encoders.
    3. The receiver's input (q, k or v of a head, an MLP's input, the logits) is computed from that stream, layer norm included;
       the receiver's other inputs keep their base values.
    4. The receiver's output changes, and everything after it is recomputed as in an ordinary forward.

So the edge into the logits is the sender's direct effect. The replacement is that of the ablation sweep: the mean
over corrupted prompts unless told otherwise, `resample` for the paired corrupted run. Under grouped-query attention
a K/V group is one receiver, and all its query heads see the change. Effects of edges don't add up to those of their
sender: downstream parts interact.

Cost: one run of what follows for each edge, with rows of several edges together; none for edges into the logits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch

from circuitkd.circuits.base_run import BaseRun, Setup
from circuitkd.circuits.edge_effects import EXACT, EdgeEffects
from circuitkd.circuits.graph import all_edges, check_edges, edges_among
from circuitkd.circuits.patched import patched, units
from circuitkd.components import Component, Edge
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.execution import Execution, Ledger
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import BoundTask


def edge_effects(
    model: CircuitModel,
    task: Task | BoundTask,
    *,
    edges: Sequence[Edge] | None = None,
    ablation: Ablation | None = None,
    circuit: Collection[Component] | None = None,
    execution: Execution | None = None,
) -> EdgeEffects:
    """Effects of removing edges one at a time, example by example, in logits.

    `edges`: which (all of the model's; `graph.edges_into` gives those of some receivers). `ablation` defaults to
    what suits the task, over its corrupted prompts. `circuit`: heads and MLPs that are kept; everything else stays
    replaced in the base run and in every patched one, and edges are those among them. `execution`: batch size,
    progress, folder for resuming. Raises ValueError for edges or components the model (or the circuit) does not
    have, and for prompts the ablation cannot use.
    """
    execution = execution or Execution()
    chosen = _chosen(model, edges, circuit=circuit)
    with torch.inference_mode():
        setup = Setup(model, task, ablation=ablation, execution=execution, circuit=circuit)
        base, found = _measure(setup, chosen, execution=execution)
    return EdgeEffects(
        model=model.name,
        task=setup.task.name,
        edges=chosen,
        examples=tuple(e.id for e in setup.task.examples),
        base=base,
        effects=base[None] - found,
        method=EXACT,
        ablation=setup.ablation.describe(),
        forward_equivalents=setup.forward_equivalents,
        circuit=None if setup.circuit is None else tuple(c for c in model.components if c in setup.circuit),
        warnings=setup.cautions(base),
    )


def _chosen(
    model: CircuitModel, edges: Sequence[Edge] | None, *, circuit: Collection[Component] | None
) -> tuple[Edge, ...]:
    possible = all_edges(model) if circuit is None else edges_among(model, circuit)
    if edges is None:
        return possible
    chosen, inside = check_edges(model, edges), set(possible)
    missing = [str(edge) for edge in chosen if edge not in inside]
    if missing:
        raise ValueError(
            f"{', '.join(missing[:5])} leads from or to a component outside the circuit, which stays replaced: "
            "leave it out, or add the component to the circuit"
        )
    return chosen


def _measure(setup: Setup, edges: tuple[Edge, ...], *, execution: Execution) -> tuple[np.ndarray, np.ndarray]:
    """The metric with nothing patched [example] and with each edge patched [edge, example]."""
    base, found = np.full(len(setup.task), np.nan), np.full((len(edges), len(setup.task)), np.nan)
    pieces = units(edges, n_layers=setup.model.n_layers)
    ledger = Ledger.open(setup.model, setup.task, ablation=setup.ablation, execution=execution)

    def measure(run: BaseRun) -> None:
        rows = run.batch.rows
        done = int(np.isfinite(found).all(axis=0).sum()) * len(pieces)
        base[list(rows)] = setup.base(run)
        for number, unit in enumerate(pieces, start=1):
            members = [edges[i] for i in unit.edges]
            piece = ("path patching", setup.circuit and sorted(setup.circuit), members)
            kept = ledger.read(rows, piece, components=len(members))
            if kept is None:
                kept = setup.numbers(patched(setup, run, unit=unit, edges=members), rows)
                ledger.write(rows, piece, values=kept)
            found[np.ix_(unit.edges, rows)] = kept
            execution.report("path patching", done=done + number * len(rows), total=len(setup.task) * len(pieces))

    setup.for_each_run(measure)
    return base, found
