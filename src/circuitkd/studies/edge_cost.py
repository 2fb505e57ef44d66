"""Cost of edges: exact path patching among some components, evaluating an edge circuit, EAP-IG, and groups of heads.

Path patching counts every edge: for each layer the streams of all senders, then what follows the receiver once for each
edge. Attribution does not depend on the number of edges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from circuitkd.circuits.base_run import bytes_per_token as state_bytes
from circuitkd.circuits.graph import group_width
from circuitkd.interventions.execution import bytes_per_token
from circuitkd.interventions.restart import rest_flops
from circuitkd.models import flops
from circuitkd.studies.compare_cost import reference_work
from circuitkd.studies.workload import LAST, READ, Batch, Cost, Side, Work

STEPS = 5
# Host seconds of an operation over d_model, on a CPU: streams and their sums leave the cache between the products.
TOUCHED = 9e-10
RECEIVERS = (0.75, 0.5, 0.25)  # how far up value fetchers, position transmitters and position detectors are taken to be
Floats = NDArray[np.float64]


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
    runs, before_heads, senders = Work(blocks=layers), 0.0, 1.0
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
            runs += _runs(side, batch, edges, layer=layer, senders=senders)
        sees_heads = model.architecture.residual != "parallel"
        into_mlp, its_heads = senders + sees_heads * heads[layer], before_heads + sees_heads * heads[layer]
        if mlps[layer]:
            work += flops.head_change_flops(model, 1, 1) * its_heads * rows * queries
            work += into_mlp * (flops.mlp_flops(model, rows, queries) + after)
            runs += _runs(side, batch, into_mlp, layer=layer, senders=into_mlp)
        before_heads, senders = before_heads + heads[layer], senders + heads[layer] + mlps[layer]
    work += flops.head_change_flops(model, 1, 1) * before_heads * rows + side.readout(batch, copies=senders)
    return runs + Work(float(work), host_seconds=TOUCHED * work / model.d_model * side.place.on_cpu)


def _streams_into_attention(side: Side, batch: Batch, queries: int, *, senders: tuple[float, float]) -> float:
    """q, k, v and z of a layer for each of its senders; `senders`: all of them, and the heads among them."""
    model, rows, n_pos = side.model, batch.rows, batch.n_pos
    each = flops.query_flops(model, rows, queries) + flops.key_value_flops(model, rows, n_pos)
    each += 3 * flops.attention_flops(model, rows, n_pos, queries=queries)
    return senders[0] * each + senders[1] * flops.head_change_flops(model, rows, n_pos)


def _runs(side: Side, batch: Batch, edges: float, *, layer: int, senders: float) -> Work:
    """Block runs for the edges into one part of a layer, some senders at a time."""
    size = side.sizes.group_size(batch.rows, batch.n_pos)
    turns = math.ceil(senders / size)
    groups = turns * math.ceil(edges / turns / size)
    return Work(blocks=groups * (side.model.n_layers - layer), starts=groups * (LAST + READ))


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


def groups_cost(side: Side) -> Cost:
    """The four groups of heads that look up an entity, each but the first found by what it sends to the one before."""
    layers = side.model.n_layers
    receivers = [round(share * layers) for share in RECEIVERS]
    return Cost.of(groups_work(side, receivers), device=base_run_memory(side))


def groups_work(side: Side, receivers: Sequence[int]) -> Work:
    """`entity_groups` whose three first groups are each in one layer."""
    model, heads = side.model, side.model.n_heads
    found = Work()
    for b in side.base_runs:
        each = flops.head_change_flops(model, b.rows, b.n_pos) + flops.unembed_flops(model, b.rows)
        block = flops.block_flops(model, b.rows, b.n_pos)
        groups = math.ceil(heads / side.sizes.group_size(b.rows, b.n_pos))
        # The base run and the corrupted prompts' are made anew for every group, and once for the clean answers.
        work = float((len(receivers) + 2) * 2 * model.n_layers * block + flops.unembed_flops(model, b.rows))
        work += model.n_layers * heads * each
        slots = (flops.query_flops(model, b.rows, b.n_pos), *(flops.key_value_flops(model, b.rows, b.n_pos) / 2,) * 2)
        for layer, slot in zip(receivers, slots, strict=True):
            work += layer * heads * (each + slot + (model.n_layers - layer) * block)
            found += Work(blocks=groups * layer * (model.n_layers - layer), starts=READ * groups * layer)
        found += Work(work, (len(receivers) + 2) * 2 * model.n_layers)
    return found


def base_run_memory(side: Side) -> float:
    """The states of all layers of a batch, and a group of edges."""
    batch = max(side.base_runs, key=lambda b: b.rows * b.n_pos)
    tokens = batch.rows * batch.n_pos
    group = side.sizes.group_size(batch.rows, batch.n_pos) * tokens * bytes_per_token(side.model, batch.n_pos)
    return tokens * state_bytes(side.model) + group
