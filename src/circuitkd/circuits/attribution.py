"""First-order estimates of what components and edges do: attribution patching, EAP and EAP-IG.

    node    effect(s)      ~ sum (value_s - replacement_s) . dm/d(output of s)                      attribution patching
    edge    effect(s -> r) ~ sum (value_s - replacement_s) . dm/d(input of r), pulled back to s       EAP (Syed et al. 2023)

summed over positions, with m the metric on the clean prompt: the derivative of the exact effect
(`edges.edge_effects`, the ablation sweep) along the replacement, with the sign of base - patched. The input of r is
the residual stream that this slot reads, its layer norm included, with one k and one v per K/V group. In post-norm
encoders the change of s first passes the later layer norms, linearised (`streams.tangents`); elsewhere it arrives
as it is.

"eap-ig" averages the gradients over inputs on the way from the replaced to the clean embedding, at shares k /
steps, k = 1..steps (Hanna et al. 2024); "eap-ig-midpoint" at shares (k - 1/2) / steps, whose sum converges faster.
As steps grow, the effects of the embedding's edges sum to m(clean) - m(replaced embedding) exactly. Values and
replacements stay those of the clean run.

Cost: about four forwards per step, however many edges. Memory: one block's gradients for its own receivers and one
layer's senders at a time. Limits: no second order, so saturated softmaxes and backup behaviour are missed; compare
with exact effects by `validity.validity`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuitkd.circuits.base_run import BaseRun, Setup
from circuitkd.circuits.edge_effects import EdgeEffects
from circuitkd.circuits.gradients import final_gradient, layer_gradients
from circuitkd.circuits.graph import LOGITS, Receiver, all_edges, edge_exists, layer_receivers, senders
from circuitkd.circuits.streams import Site, change_flops, changed, tangents
from circuitkd.components import Edge
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.execution import Execution
from circuitkd.interventions.sweep_result import SweepResult
from circuitkd.models import blocks, flops
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import BoundTask
from circuitkd.tasks.metrics import accuracy

METHODS = ("eap", "eap-ig", "eap-ig-midpoint")
Floats = NDArray[np.float64]


def node_attribution(
    model: CircuitModel,
    task: Task | BoundTask,
    *,
    method: str = "eap",
    steps: int = 5,
    ablation: Ablation | None = None,
    execution: Execution | None = None,
) -> SweepResult:
    """Estimated ablation effects of all components, in the form of a sweep, every one of them marked `estimated`.

    `method` "eap" is attribution patching, the others average its gradients over `steps` inputs. Raises ValueError
    for an unknown method, fewer than one step, and prompts the ablation cannot use.
    """
    points, execution = _points(method, steps), execution or Execution()
    with torch.no_grad():
        setup = Setup(model, task, ablation=ablation, execution=execution)
        base, right = np.full((2, len(setup.task)), np.nan)
        found = np.full((len(model.components), len(setup.task)), np.nan)

        def estimate(run: BaseRun) -> None:
            rows = list(run.batch.rows)
            base[rows], right[rows] = setup.base(run), _accuracy(run)
            setup.flops += flops.unembed_flops(model, run.rows)
            scores = np.sum([_node_scores(at) for at in _inputs(setup, run, points)], axis=0)
            found[:, rows] = setup.numbers(scores / len(points), rows)
            execution.report("attribution", done=int(np.isfinite(base).sum()), total=len(setup.task))

        setup.for_each_run(estimate)
    return SweepResult(
        model=model.name,
        task=setup.task.name,
        components=model.components,
        examples=tuple(e.id for e in setup.task.examples),
        base=base,
        effects=found,
        accuracy=right,
        forward_equivalents=setup.forward_equivalents,
        ablation=setup.ablation.describe(),
        warnings=setup.cautions(base),
        estimated=model.components,
    )


def edge_attribution(
    model: CircuitModel,
    task: Task | BoundTask,
    *,
    method: str = "eap",
    steps: int = 5,
    ablation: Ablation | None = None,
    execution: Execution | None = None,
) -> EdgeEffects:
    """Estimated effects of all edges, in logits, example by example; `EdgeEffects.select` takes some of them.

    `method`: "eap" (`steps` is not used), "eap-ig" or "eap-ig-midpoint". Raises ValueError as `node_attribution`.
    """
    points, execution, edges = _points(method, steps), execution or Execution(), all_edges(model)
    with torch.no_grad():
        setup = Setup(model, task, ablation=ablation, execution=execution)
        base, found = np.full(len(setup.task), np.nan), np.full((len(edges), len(setup.task)), np.nan)

        def estimate(run: BaseRun) -> None:
            rows, scores = list(run.batch.rows), np.zeros((len(edges), run.rows))
            base[rows] = setup.base(run)
            for at in _inputs(setup, run, points):
                for members, values in _edge_scores(setup, at, edges):
                    scores[members.start : members.stop] += values / len(points)
            found[:, rows] = setup.numbers(scores, rows)
            execution.report("edge attribution", done=int(np.isfinite(base).sum()), total=len(setup.task))

        setup.for_each_run(estimate)
    return EdgeEffects(
        model=model.name,
        task=setup.task.name,
        edges=edges,
        examples=tuple(e.id for e in setup.task.examples),
        base=base,
        effects=found,
        method=method if method == "eap" else f"{method}, {steps} steps",
        ablation=setup.ablation.describe(),
        forward_equivalents=setup.forward_equivalents,
        warnings=setup.cautions(base),
    )


def _points(method: str, steps: int) -> tuple[float, ...]:
    """Shares of the clean embedding at which gradients are taken."""
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: choose one of {', '.join(METHODS)}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    if method == "eap":
        return (1.0,)
    shift = 0.5 if method == "eap-ig-midpoint" else 0.0
    return tuple((step - shift) / steps for step in range(1, steps + 1))


def _inputs(setup: Setup, run: BaseRun, points: Sequence[float]) -> Iterator[BaseRun]:
    """The run itself and runs from embeddings on the way to the replacement."""
    model, clean = setup.model, run.states[0].resid_pre
    forward = model.n_layers * flops.block_flops(model, run.rows, run.context.n_pos)
    # Backwards a product with a weight matrix costs what it costs forwards, one of two activations twice that.
    scores = model.n_layers * flops.attention_flops(model, run.rows, run.context.n_pos)
    gradients = 2 * forward + scores + 2 * run.target.flops(model, run.rows)
    for share in points:
        setup.flops += gradients if share == 1.0 else forward + gradients
        yield run if share == 1.0 else run.with_embedding(clean + (1 - share) * run.embed_change)


def _accuracy(run: BaseRun) -> Floats:
    last = blocks.at_positions(run.states[-1].resid_post, run.positions)[:, 0]
    top = accuracy(blocks.logits(run.model, last), [e.answers for e in run.batch.examples])
    return _numbers(top)


def _node_scores(run: BaseRun) -> Floats:
    """Estimates [component, row]: heads layer by layer, then MLPs."""
    heads, mlps = [], []
    for found in layer_gradients(run, final_gradient(run), per_receiver=False):
        change = run.changes[found.layer]
        of_heads = (change.z * found.z).unflatten(-1, (run.model.n_heads, run.model.d_head)).sum((1, 3))
        heads.append(_numbers(-of_heads.T))
        mlps.append(_numbers(-(change.mlp * found.mlp_out).sum((1, 2))[None]))
    return np.concatenate(heads[::-1] + mlps[::-1])


@dataclass(frozen=True, eq=False)
class _Reads:
    """Receivers that read the same stream, and the gradients of what they read [receiver, row, pos, d_model]."""

    run: BaseRun
    layer: int
    site: Site
    receivers: Sequence[Receiver]
    gradients: Tensor


def _reads(run: BaseRun) -> Iterator[_Reads]:
    """Site by site, from the logits back to the first block."""
    model, final = run.model, final_gradient(run)
    yield _Reads(run.at_answer(), model.n_layers, "logits", [Receiver(LOGITS)], final[None])
    for found in layer_gradients(run, final, per_receiver=True):
        *slots, mlp = layer_receivers(model, found.layer)
        assert found.attention is not None
        yield _Reads(run, found.layer, "mlp", [mlp], found.mlp[None])
        yield _Reads(run, found.layer, "attention", slots, found.attention)


def _edge_scores(setup: Setup, run: BaseRun, edges: Sequence[Edge]) -> Iterator[tuple[range, Floats]]:
    """Estimates [edge, row] for runs of neighbours in `edges`, which has all edges, receiver by receiver."""
    starts: dict[Receiver, int] = {}
    for index, edge in enumerate(edges):
        starts.setdefault(Receiver(edge.receiver, edge.slot), index)
    for reads in _reads(run):
        first = reads.receivers[0]
        reaching = [s for s in senders(run.model) if edge_exists(run.model, s, first.component)]
        found = []
        for group in changed(reads.run, reaching):
            moved = tangents(reads.run, group, layer=reads.layer, site=reads.site)
            found.append(-torch.einsum("srpm,trpm->tsr", moved.to(reads.gradients), reads.gradients))
        scores = torch.cat(found, dim=1).flatten(0, 1)
        setup.flops += change_flops(reads.run, reaching) + 2 * len(reaching) * reads.gradients.numel()
        yield range(starts[first], starts[first] + len(scores)), _numbers(scores)


def _numbers(x: Tensor) -> Floats:
    return x.double().cpu().numpy()
