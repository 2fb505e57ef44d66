"""Cost of finding circuits: pruning, evaluation, exact path patching inside the circuit, and EAP-IG.

How much pruning runs depends on what it finds, so it has a low and a high end, with KEPT of the components in the
circuit, spread evenly, and PASSES over the model. On the bundled models and tasks 20 to 75 % of the components stay, in
two passes, seldom three; wider models keep a smaller share. Given the decisions, the count is exact (`pruning_work`):
it follows the scorer's cache of residual streams, layer by layer.

Path patching counts every edge among the components that are kept: for each layer the streams of all senders, then what
follows the receiver once for each edge. Attribution does not depend on the number of edges.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from circuitkd.circuits.base_run import bytes_per_token as state_bytes
from circuitkd.circuits.discovery import DiscoveryOptions
from circuitkd.circuits.graph import group_width
from circuitkd.circuits.kept import CACHE_BYTES
from circuitkd.circuits.pruning import order
from circuitkd.components import Component
from circuitkd.interventions.execution import bytes_per_token
from circuitkd.interventions.restart import rest_flops
from circuitkd.models import flops
from circuitkd.studies.compare_cost import TOKENIZING, reference_work
from circuitkd.studies.workload import Batch, Cost, Part, Side, Work

KEPT, PASSES = (0.2, 0.6), (2, 3)
STEPS = 5
SET, INTERVALS = 4e-4, 0.05  # host seconds: a set of components that is run; the bootstraps of an evaluation
Decision = tuple[Component, bool]  # a candidate and whether it was removed
Floats = NDArray[np.float64]


def circuit_cost(side: Side, options: DiscoveryOptions, *, times: int = 1) -> Iterator[Part]:
    """The steps of `find_circuit` for one model; `times`: at how many thresholds."""
    low, high = (found_circuit(side, kept=kept, passes=passes) for kept, passes in zip(KEPT, PASSES, strict=True))
    binding = Cost.of(Work(host_seconds=TOKENIZING * len(side.task)))
    yield Part("node pruning", side, Cost(low.pruning, high.pruning, device=kept_memory(side)) * times + binding)
    evaluation = Cost(low.evaluation(options), high.evaluation(options), device=kept_memory(side))
    yield Part("node evaluation", side, (evaluation + Cost.of(Work(host_seconds=INTERVALS))) * times)
    if options.edge_share is not None:
        patching = Cost(low.edges(), high.edges(), device=base_run_memory(side))
        yield Part("path patching", side, patching * times)


@dataclass(frozen=True, eq=False)
class FoundCircuit:
    """An outcome of pruning: work, and how many heads and MLPs [layer] are kept."""

    side: Side
    pruning: Work
    heads: Floats
    mlps: Floats

    def evaluation(self, options: DiscoveryOptions) -> Work:
        """Empty circuit, complement, subsets, random circuits; minimality is known from the last pass of pruning."""
        runs, model = KeptRuns(self.side), self.side.model
        share = self.heads / model.n_heads, self.mlps
        rest = tuple(1 - s for s in share)
        half = tuple(s / 2 for s in share)
        nothing = np.zeros(model.n_layers), np.zeros(model.n_layers)
        outer = [runs.expected(*s) for s in (nothing, rest)]
        subset = runs.expected(*half) + runs.expected(1 - half[0], 1 - half[1])
        drawn = runs.expected(*share) + runs.expected(*rest) + runs.expected(*share) * 0.5
        return outer[0] + outer[1] + subset * options.subsets + drawn * options.random_circuits

    def edges(self) -> Work:
        """Path patching of the edges inside, and their evaluation."""
        patching = edge_work(self.side, heads=self.heads, mlps=self.mlps)
        return patching + edge_evaluation_work(self.side, heads=self.heads, mlps=self.mlps)


@lru_cache(maxsize=16)
def found_circuit(side: Side, *, kept: float, passes: int) -> FoundCircuit:
    """Pruning that keeps a share of the components in so many passes."""
    decisions = list(_decisions(side, kept, passes))
    stays = set(side.model.components) - {component for component, removed in decisions if removed}
    heads, mlps = np.zeros(side.model.n_layers), np.zeros(side.model.n_layers)
    for component in stays:
        (mlps if component.kind == "mlp" else heads)[component.layer or 0] += 1
    return FoundCircuit(side, pruning_work(side, decisions), heads, mlps)


def _decisions(side: Side, share: float, passes: int) -> Iterator[Decision]:
    """A course of pruning that keeps `share` of the components, spread evenly: all but one of the others go in the first
    pass, the last one in the pass before the last, and the last pass finds nothing."""
    model = side.model
    kept = {c for i, c in enumerate(sorted(model.components)) if math.floor((i + 1) * share) > math.floor(i * share)}
    late = next((c for c in order(model.n_layers, model.n_heads, "forward") if c not in kept), None)
    removed: set[Component] = set()
    for number in range(passes):
        for component in order(model.n_layers, model.n_heads, "forward" if number % 2 else "backward"):
            if component not in removed:
                goes = component not in kept and (component != late or number == passes - 2)
                removed |= {component} if goes else set()
                yield component, goes


class KeptRuns:
    """Counts what `circuits.kept.KeptScorer` computes, a set of components at a time, without computing it.

    The first run, with everything kept, is counted at once; so are the reference prompts.
    """

    def __init__(self, side: Side) -> None:
        model = side.model
        self.model, self.side = model, side
        wide, last = np.zeros(3), np.zeros(3)
        for b in side.batches:
            wide += _parts(side, b, b.n_pos)
            last += _parts(side, b, 1)
        self.readout = sum(side.readout(b) for b in side.batches)
        # FLOPs [layer, part] of attention, output projection and MLP.
        self.costs = np.array([wide] * (model.n_layers - 1) + [last])
        self.kept = {"head": [model.n_heads] * model.n_layers, "mlp": [1] * model.n_layers}
        stored = model.n_layers * sum(b.rows * b.n_pos for b in side.batches) * model.d_model * side.bytes_each
        self._stride = 1 + int(stored // CACHE_BYTES)
        self._fits = model.n_layers - 1  # the cached streams up to this layer are those of what is kept now
        self._known: set[tuple[int, Component]] = set()
        self._removed = 0
        self._suffix = self._sums()
        self.work = reference_work(side) + self.expected(np.ones(model.n_layers), np.ones(model.n_layers))

    def expected(self, heads: Floats, mlps: Floats) -> Work:
        """A run from the first block with these shares [layer] of heads and MLPs kept at random."""
        attends = 1 - (1 - np.clip(heads, 0, 1)) ** self.model.n_heads
        found = (self.costs * np.stack([attends, np.ones_like(attends), mlps], axis=1)).sum()
        return Work(float(found) + self.readout, self.model.n_layers * len(self.side.batches), host_seconds=SET)

    def test(self, component: Component, removed: bool) -> None:
        """A run without `component` besides what is removed already, and whether it stays removed."""
        layer, counts = component.layer or 0, self.kept[component.kind]
        saved = 0.0
        if counts[layer] == 1:  # with the last head goes attention, with the MLP the MLP
            saved = float(self.costs[layer, 2 if component.kind == "mlp" else 0])
        if (self._removed, component) not in self._known:
            self._known.add((self._removed, component))
            start = min(layer, self._fits) // self._stride * self._stride
            blocks = (self.model.n_layers - start) * len(self.side.batches)
            self.work += Work(self._suffix[start] - saved + self.readout, blocks, host_seconds=SET)
            self._fits = self.model.n_layers - 1 if removed else layer
        if removed:
            self._removed += 1
            counts[layer] -= 1
            if saved:
                self._suffix = self._sums()

    def _sums(self) -> list[float]:
        """FLOPs [layer] of this block and those after it, with what is kept now."""
        used = [[h > 0, 1.0, m] for h, m in zip(self.kept["head"], self.kept["mlp"], strict=True)]
        return [float(x) for x in (self.costs * np.array(used)).sum(axis=1)[::-1].cumsum()[::-1]]


def _parts(side: Side, batch: Batch, queries: int) -> Floats:
    """FLOPs of attention, output projection and MLP of one block."""
    model, rows = side.model, batch.rows
    attention = flops.key_value_flops(model, rows, batch.n_pos) + flops.query_flops(model, rows, queries)
    attention += flops.attention_flops(model, rows, batch.n_pos, queries=queries)
    return np.array(
        [attention, flops.projection_flops(model, rows, queries), flops.mlp_flops(model, rows, queries)], dtype=float
    )


def pruning_work(side: Side, decisions: Iterable[Decision]) -> Work:
    """Pruning with these decisions in order, exactly."""
    runs = KeptRuns(side)
    for component, removed in decisions:
        runs.test(component, removed)
    return runs.work


def edge_work(side: Side, *, heads: Sequence[float] | Floats, mlps: Sequence[float] | Floats) -> Work:
    """Exact path patching of all edges among `heads` heads and `mlps` MLPs of each layer [layer], the embedding and the
    logits. Under grouped-query attention the heads are taken to fill as many K/V groups as they can."""
    found = reference_work(side, side.base_runs[0].rows)
    for batch in side.base_runs:
        found += _edges_of(side, batch, np.asarray(heads, dtype=float), np.asarray(mlps, dtype=float))
    return found


def _edges_of(side: Side, batch: Batch, heads: Floats, mlps: Floats) -> Work:
    """All edges in one base run."""
    model, rows, layers = side.model, batch.rows, side.model.n_layers
    work = layers * flops.block_flops(model, rows, batch.n_pos) + side.readout(batch)
    blocks, before_heads, senders = float(layers), 0.0, 1.0
    for layer in range(layers):
        queries = 1 if layer == layers - 1 else batch.n_pos
        after = side.readout(batch)
        if layer < layers - 1:
            after += rest_flops(model, layer + 1, rows=rows, n_pos=batch.n_pos)
        if heads[layer]:
            work += _streams_into_attention(side, batch, queries, senders=(senders, before_heads))
            edges = senders * (heads[layer] + 2 * min(model.n_kv_heads, heads[layer]))
            readers = heads[layer] + 2 * min(model.n_kv_heads, heads[layer]) * group_width(model)
            work += flops.head_change_flops(model, 1, 1) * senders * readers * rows * queries
            own_mlp = 0 if model.architecture.residual == "parallel" else flops.mlp_flops(model, rows, queries)
            work += edges * (after + own_mlp)
            blocks += _starts(side, batch, edges, layer)
        sees_heads = model.architecture.residual != "parallel"
        into_mlp, its_heads = senders + sees_heads * heads[layer], before_heads + sees_heads * heads[layer]
        if mlps[layer]:
            work += flops.head_change_flops(model, 1, 1) * its_heads * rows * queries
            work += into_mlp * (flops.mlp_flops(model, rows, queries) + after)
            blocks += _starts(side, batch, into_mlp, layer)
        before_heads, senders = before_heads + heads[layer], senders + heads[layer] + mlps[layer]
    work += flops.head_change_flops(model, 1, 1) * before_heads * rows + side.readout(batch, copies=senders)
    return Work(float(work), float(blocks))


def _streams_into_attention(side: Side, batch: Batch, queries: int, *, senders: tuple[float, float]) -> float:
    """q, k, v and z of a layer for each of its senders; `senders`: all of them, and the heads among them."""
    model, rows, n_pos = side.model, batch.rows, batch.n_pos
    each = flops.query_flops(model, rows, queries) + flops.key_value_flops(model, rows, n_pos)
    each += 3 * flops.attention_flops(model, rows, n_pos, queries=queries)
    return senders[0] * each + senders[1] * flops.head_change_flops(model, rows, n_pos)


def _starts(side: Side, batch: Batch, edges: float, layer: int) -> float:
    """Block runs for the edges into one part of a layer."""
    size = side.sizes.group_size(batch.rows, batch.n_pos)
    return math.ceil(edges / size) * (side.model.n_layers - layer)


def edge_evaluation_work(side: Side, *, heads: Floats, mlps: Floats) -> Work:
    """The model, no edge, and the edge circuit, in which every receiver may read a stream of its own."""
    model = side.model
    found = reference_work(side, side.base_runs[0].rows) + side.walk(side.base_runs)
    work, starts = 0.0, 0
    for b in side.base_runs:
        for layer in range(model.n_layers):
            work += 2 * flops.projection_flops(model, b.rows, b.n_pos)
            groups = min(model.n_kv_heads, heads[layer])
            work += heads[layer] * flops.query_flops(model, b.rows, b.n_pos)
            work += 2 * groups * flops.key_value_flops(model, b.rows, b.n_pos) / 2
            work += flops.attention_flops(model, b.rows, b.n_pos) * (heads[layer] > 0)
            work += mlps[layer] * flops.mlp_flops(model, b.rows, b.n_pos)
            before = 1 + heads[:layer].sum() + mlps[:layer].sum()
            streams = heads[layer] + 2 * groups + mlps[layer]
            work += 2.0 * b.rows * b.n_pos * model.d_model * before * streams
            starts += 2 + layer
    return found + Work(float(work), starts)


def attribution_cost(side: Side, *, steps: int = STEPS) -> Cost:
    """EAP-IG of all edges (`steps` inputs), as `edge_attribution` counts it."""
    model, heads, layers = side.model, side.model.n_heads, side.model.n_layers
    found = reference_work(side, side.base_runs[0].rows)
    for b in side.base_runs:
        forward = layers * flops.block_flops(model, b.rows, b.n_pos)
        scores = layers * flops.attention_flops(model, b.rows, b.n_pos)
        work = forward + side.readout(b)
        work += steps * (2 * forward + scores + 2 * side.readout(b)) + (steps - 1) * forward
        work += steps * _attribution_products(side, b)
        found += Work(work, layers * (1 + 4 * steps + steps * heads))
    return Cost.of(found, device=base_run_memory(side))


def _attribution_products(side: Side, batch: Batch) -> float:
    """Changes of all senders times gradients of all receivers, at one input."""
    model, heads = side.model, side.model.n_heads
    slots = heads + 2 * model.n_kv_heads
    numbers = batch.rows * batch.n_pos * model.d_model
    parallel, total = model.architecture.residual == "parallel", 0.0
    for layer in range(model.n_layers):
        before, its_heads = 1 + layer * (heads + 1), layer * heads
        into_mlp = (before, its_heads) if parallel else (before + heads, its_heads + heads)
        for (senders, of_them), receivers in (((before, its_heads), slots), (into_mlp, 1)):
            total += flops.head_change_flops(model, of_them * batch.rows, batch.n_pos)
            total += 2.0 * senders * receivers * numbers
    everything = 1 + model.n_layers * (heads + 1)
    total += flops.head_change_flops(model, model.n_layers * heads * batch.rows, 1)
    return total + 2.0 * everything * batch.rows * model.d_model


def kept_memory(side: Side) -> float:
    """Cached residual streams, ablation values of every layer, and one batch."""
    tokens = sum(b.rows * b.n_pos for b in side.batches)
    stored = side.model.n_layers * tokens * side.model.d_model * side.bytes_each
    mixed = len({len(e.clean) for e in side.task.examples}) > 1
    per_row = tokens if mixed else max(b.n_pos for b in side.batches)
    values = side.model.n_layers * per_row * (side.z_width + side.model.d_model) * side.bytes_each
    batch = max(side.batches, key=lambda b: b.rows * b.n_pos)
    working = batch.rows * batch.n_pos * bytes_per_token(side.model, batch.n_pos)
    return min(stored, CACHE_BYTES) + values + working


def base_run_memory(side: Side) -> float:
    """The states of all layers of a batch, and a group of edges."""
    batch = max(side.base_runs, key=lambda b: b.rows * b.n_pos)
    tokens = batch.rows * batch.n_pos
    group = side.sizes.group_size(batch.rows, batch.n_pos) * tokens * bytes_per_token(side.model, batch.n_pos)
    return tokens * state_bytes(side.model) + group
