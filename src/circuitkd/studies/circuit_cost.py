"""Cost of finding circuits: pruning, evaluation, and exact path patching inside the circuit (`edge_cost`).

How much pruning runs depends on what it finds, so there are three cases, with KEPT of the components in the circuit,
spread evenly, and PASSES over the model: the 10th percentile, the median and the 90th of what is found on the bundled
models and tasks (`assumptions.py`). Wider models keep a smaller share. Given the decisions, the count is exact
(`pruning_work`): it follows the scorer's cache of residual streams, layer by layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from circuitkd.circuits.discovery import DiscoveryOptions
from circuitkd.circuits.kept import CACHE_BYTES
from circuitkd.circuits.pruning import order
from circuitkd.components import Component
from circuitkd.interventions.execution import bytes_per_token
from circuitkd.models import flops
from circuitkd.studies.compare_cost import TOKENIZING, reference_work
from circuitkd.studies.edge_cost import base_run_memory, edge_evaluation_work, edge_work
from circuitkd.studies.workload import LAST, READ, Batch, Cost, Part, Side, Work

KEPT, PASSES = (0.3, 0.5, 0.7), 2
# Host seconds: a set of components that is run; bootstraps, an example of an evaluation; showing that the model does the
# task, and the manifest; base runs, masks and the like of path patching; a number of z that may be replaced (on a CPU).
SET, INTERVALS, ABILITY, EDGES, MIXED = 3e-4, 1e-4, 0.01, 0.03, 4e-9
MIXING = 0.15  # starts more of a block in which some components are replaced
MANY = 1e6
Decision = tuple[Component, bool]  # a candidate and whether it was removed
Floats = NDArray[np.float64]


def circuit_cost(side: Side, options: DiscoveryOptions, *, times: int = 1) -> Iterator[Part]:
    """The steps of `find_circuit` for one model; `times`: at how many thresholds."""
    cases = found_circuits(side)
    once = Cost.of(Work(host_seconds=TOKENIZING * len(side.task) + ABILITY))
    yield Part("node pruning", side, Cost.among((c.pruning for c in cases), device=kept_memory(side)) * times + once)
    evaluation = Cost.among((c.evaluation(options) for c in cases), device=kept_memory(side))
    yield Part("node evaluation", side, (evaluation + Cost.of(Work(host_seconds=INTERVALS * len(side.task)))) * times)
    if options.edge_share is not None:
        patching = Cost.among((c.edges() for c in cases), device=base_run_memory(side))
        yield Part("path patching", side, patching * times)


def found_circuits(side: Side) -> tuple[FoundCircuit, ...]:
    """The outcomes of pruning with the least, the expected and the most work."""
    return tuple(found_circuit(side, kept=kept, passes=PASSES) for kept in KEPT)


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
        heads, mlps = round(self.heads.sum()), round(self.mlps.sum())
        subsets = distinct(options.subsets, 2 ** (heads + mlps) - 1)
        others = math.comb(model.n_layers * model.n_heads, heads) * math.comb(model.n_layers, mlps)
        return outer[0] + outer[1] + subset * subsets + drawn * distinct(options.random_circuits, others)

    def edges(self) -> Work:
        """Path patching of the edges inside, and their evaluation."""
        patching = edge_work(self.side, heads=self.heads, mlps=self.mlps)
        evaluation = edge_evaluation_work(self.side, heads=self.heads, mlps=self.mlps)
        return patching + evaluation + Work(host_seconds=EDGES)


def distinct(draws: int, possible: float) -> float:
    """How many different things so many draws give on average; what was run before costs nothing."""
    if possible > MANY:  # nothing comes twice
        return float(draws)
    return possible * (1 - (1 - 1 / max(possible, 1)) ** draws)


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
        self.tokens = sum(b.rows * b.n_pos for b in side.batches)
        self.readout = sum(side.readout(b) for b in side.batches)
        # FLOPs [layer, part] of attention, output projection and MLP.
        self.costs = np.array([wide] * (model.n_layers - 1) + [last])
        self.kept = {"head": [model.n_heads] * model.n_layers, "mlp": [1] * model.n_layers}
        stored = model.n_layers * self.tokens * model.d_model * side.bytes_each
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
        return self.run(float(found), 0)

    def run(self, found: float, layer: int) -> Work:
        """A run of the blocks from `layer` on whose products are `found` FLOPs."""
        batches = len(self.side.batches)
        blocks = (self.model.n_layers - layer) * batches
        mixed = (self.model.n_layers - layer - 1) * self.tokens * self.side.z_width * MIXED * self.side.place.on_cpu
        starts = MIXING * blocks + (LAST + READ) * batches
        return Work(found + self.readout, blocks, host_seconds=SET + mixed, starts=starts)

    def test(self, component: Component, removed: bool) -> None:
        """A run without `component` besides what is removed already, and whether it stays removed."""
        layer, counts = component.layer or 0, self.kept[component.kind]
        saved = 0.0
        if counts[layer] == 1:  # with the last head goes attention, with the MLP the MLP
            saved = float(self.costs[layer, 2 if component.kind == "mlp" else 0])
        if (self._removed, component) not in self._known:
            self._known.add((self._removed, component))
            start = min(layer, self._fits) // self._stride * self._stride
            self.work += self.run(self._suffix[start] - saved, start)
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
