"""Cost of `describe_roles`: what every head does, activation patching, probes, untrained students, brittleness.

The largest part is activation patching: every component at every position, each with a run of what follows it. In causal
models only the later positions of later blocks are run, which halves it; on a CPU joining their keys and values to the
earlier ones takes time of its own. Brittleness depends on how many heads turn out to be the best of a role: BEST of them, the
10th percentile, the median and the 90th of the bundled models and tasks, each in the middle of the model. The comparison
that roles rest on is not in these numbers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from circuitkd.interventions.execution import bytes_per_token
from circuitkd.interventions.restart import rest_flops
from circuitkd.models import flops
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.roles.activation_patching import KEPT as KEPT_VALUES
from circuitkd.roles.brittleness import STEPS
from circuitkd.roles.describe import ALPHABETS
from circuitkd.roles.linear_probes import BATCH, EPOCHS, SingleClass, encode
from circuitkd.roles.probe_sites import FEWEST, SHUFFLES, sites_together, split
from circuitkd.roles.probe_targets import Target, find_targets
from circuitkd.roles.scenes import scenes
from circuitkd.roles.untrained_similarity import SEEDS
from circuitkd.studies.circuit_cost import KeptRuns, found_circuits, kept_memory
from circuitkd.studies.compare_cost import (
    ROW,
    TOKENIZING,
    directions_cost,
    scored_fields,
    similarity_pass,
    untrained_cost,
)
from circuitkd.studies.workload import LAST, READ, Batch, Cost, Part, Side, Work
from circuitkd.tasks.binding import BoundTask
from circuitkd.tasks.sequences import LENGTH, NUMERALS

BEST = (0, 1, 2)
# Host seconds: scoring all roles, with their shuffles, in one scene; what the passes of a model take beside its blocks, with
# checks and fates; the loops over layers and positions of its MLPs; a number of a key or value that is joined to those of
# the earlier positions (on a CPU).
SCENE, PASSES, MLPS, COPIED = 4e-3, 0.06, 0.013, 8e-9


def roles_cost(teacher: Side, student: Side) -> Iterator[Part]:
    """The steps of `describe_roles`."""
    for side in (teacher, student):
        yield Part("roles, OV, lens", side, _passes(side))
        yield Part("activation patching", side, patching_cost(side))
        yield Part("probes", side, probe_cost(side) + head_probe_cost(side))
        yield Part("circuit, backups", side, brittleness_cost(side))
        yield Part("MLPs", side, _mlps(side))
    yield Part("untrained students", teacher, similarity_pass(teacher, scored_fields(teacher, student)))
    yield Part("untrained students", student, untrained_cost(teacher, student) * len(SEEDS))


def _passes(side: Side) -> Cost:
    """Mean patterns, OV tests, logit lens, contributions and direct attribution: five passes and what they read off."""
    model, n = side.model, len(side.task)
    every = model.n_layers * model.n_heads
    alike = side.on(equal_length(side.task))
    looks = Counter(scene.n_pos for scene in scenes(side.task))
    scene_work = side.walk(tuple(Batch(1, n_pos, 0) for n_pos in looks.elements()))
    patterns = sum(model.n_layers * flops.attention_flops(model, b.rows, b.n_pos) / 2 for b in side.batches)
    heads = every * (flops.head_change_flops(model, n, 1) + flops.unembed_flops(model, n))
    lens = model.n_layers * flops.unembed_flops(model, n)
    streams = (1 + 2 * model.n_layers) * sum(alike.readout(b, copies=b.n_pos) for b in alike.batches)
    attribution = every * flops.head_change_flops(model, n, 1)
    work = side.walk() * 4 + alike.walk() + _ov_test(side)
    host = SCENE * looks.total() + PASSES + TOKENIZING * n
    work += Work(patterns + heads + lens + streams + attribution, scene_work.blocks, host_seconds=host)
    device = _state_memory(side, layers=1) + model.vocab_size * max(b.rows for b in side.batches) * 4
    return Cost.of(work, device=device)


def _ov_test(side: Side) -> Work:
    """Strings of neighbours through the first block, and every head's output for their members unembedded."""
    model, alphabet = side.model, ALPHABETS.get(side.task.name, NUMERALS)
    strings = len(alphabet) - LENGTH + 1
    members = strings * LENGTH
    values = flops.key_value_flops(model, strings, LENGTH) / 2
    heads = flops.head_change_flops(model, members, 1) + flops.unembed_flops(model, members)
    work = flops.block_flops(model, strings, LENGTH) + model.n_layers * (values + model.n_heads * heads)
    return Work(work, model.n_layers)


def equal_length(task: BoundTask, *, paired: bool = False) -> BoundTask:
    """The examples of the most frequent length, as `roles.equal_length` chooses them; none where nothing is paired."""
    usable = [
        e
        for e in task.examples
        if not paired or (len(e.clean) == len(e.corrupted) and e.answer_position == e.corrupted_answer_position)
    ]
    counts = Counter(len(e.clean) for e in usable)
    length = max(sorted(counts), key=lambda n: counts[n], default=0)
    return replace(task, examples=tuple(e for e in usable if len(e.clean) == length))


def patching_cost(side: Side) -> Cost:
    """Activation patching; nothing where no clean and corrupted prompt are equally long."""
    task = equal_length(side.task, paired=True)
    if not task.examples:
        return Cost()
    alike = side.on(task)
    places = {e.answer_position for e in task.examples}
    n_pos = len(task.examples[0].clean)
    kept = 2 * n_pos * side.model.n_layers * KEPT_VALUES * side.model.d_model * side.bytes_each
    runs = alike.in_batches(max(1, min(int(side.place.batch_budget / kept), alike.sizes.batch_size)))
    found = alike.walk(runs) * 2
    for batch in runs:
        found += _patching_of(alike, batch, len(places))
    rows, size = runs[0].rows, alike.sizes.group_size(runs[0].rows, n_pos)
    group = min(size, side.model.n_heads) * rows * n_pos * bytes_per_token(side.model, n_pos)
    return Cost.of(found, device=rows * kept + group)


def _patching_of(side: Side, batch: Batch, places: int) -> Work:
    """One batch: all components of all layers at all positions together, and most of them position by position."""
    model, rows, n_pos, last = side.model, batch.rows, batch.n_pos, side.model.n_layers - 1
    whole, single = 3 * model.n_heads + 2, model.n_heads + 2
    groups = math.ceil(model.n_heads / side.sizes.group_size(rows, n_pos))
    work, blocks, joined, starts = side.readout(batch, copies=2), 0.0, 0.0, 0.0
    for layer in range(-1, model.n_layers):
        at_all, one = (1, 1) if layer < 0 else (whole, single)
        calls = (1, 1) if layer < 0 else (3 * groups + 2, groups + 2)
        if layer >= 0:
            work += 2 * flops.attention_flops(model, rows, n_pos)
            work += 3 * model.n_heads * flops.head_change_flops(model, rows, n_pos)
            work += (whole - 1) * flops.mlp_flops(model, rows, n_pos)
            blocks += 2 + 3 * groups
        work += at_all * (rest_flops(model, layer + 1, rows=rows, n_pos=n_pos) + side.readout(batch))
        for place in range(n_pos) if layer < last else range(places):
            start = place if model.is_causal else 0
            work += one * (late_flops(model, layer + 1, rows=rows, n_pos=n_pos, start=start) + side.readout(batch))
            joined += one * (last - layer) * (start > 0)
        runs = calls[0] + calls[1] * (n_pos if layer < last else places)
        blocks, starts = blocks + runs * (last - layer), starts + runs * (LAST * (layer < last) + READ)
    host = joined * 2 * rows * n_pos * side.z_width * COPIED * side.place.on_cpu
    return Work(work, blocks, host_seconds=host, starts=starts)


def late_flops(model: CircuitModel, layer: int, *, rows: int, n_pos: int, start: int) -> int:
    """Work of `suffix_runs.CachedRun.rest`: blocks `layer`.. for the positions from `start` on."""
    if start == 0 or layer >= model.n_layers:
        return rest_flops(model, layer, rows=rows, n_pos=n_pos)
    return (model.n_layers - 1 - layer) * _late_block(model, rows, n_pos, start) + _late_block(
        model, rows, n_pos, start, queries=1
    )


def _late_block(model: CircuitModel, rows: int, n_pos: int, start: int, *, queries: int | None = None) -> int:
    late = n_pos - start
    asked = late if queries is None else queries
    return (
        flops.key_value_flops(model, rows, late)
        + flops.query_flops(model, rows, late)
        + flops.attention_flops(model, rows, n_pos, queries=asked)
        + flops.projection_flops(model, rows, asked)
        + flops.mlp_flops(model, rows, asked)
    )


def probe_cost(side: Side) -> Cost:
    """Linear probes of all targets that the task's labels allow, in every layer and on the embedding."""
    return _probes_at(side, side.model.n_layers + 1, width=side.model.d_model)


def head_probe_cost(side: Side) -> Cost:
    """The same probes on the values of every K/V group."""
    return _probes_at(side, side.model.n_layers * side.model.n_kv_heads, width=side.model.d_head)


def _probes_at(side: Side, sites: int, *, width: int) -> Cost:
    found, places = Work(), set()
    for target, train, test, outputs in _probe_shapes(side):
        size = outputs * (SHUFFLES + 1)
        work = sites * width * size * (4.0 * EPOCHS * train + 2.0 * test)
        groups = math.ceil(sites / sites_together(width, rows=train + test, outputs=outputs))
        found += Work(work, groups * EPOCHS * -(-train // BATCH))
        places |= set(target.places)
    asked = Counter(prompts for prompts, _ in {(p.prompts, p.example) for p in places})
    found += side.walk() * (asked.total() / len(side.task))
    return Cost.of(found, device=4.0 * sites * len(places) * width + _state_memory(side, layers=1))


def _probe_shapes(side: Side) -> Iterator[tuple[Target, int, int, int]]:
    """Each target with its training rows, test rows and outputs; none where there are too few prompts."""
    if len({e.clean for e in side.task.examples}) < FEWEST:
        return
    is_train = split(side.task, seed=0)
    for target in find_targets(side.task)[0]:
        sides = np.array([is_train[p.example] for p in target.places])
        try:
            found = encode(target.labels, kind=target.kind, is_train=sides)
        except SingleClass:
            continue
        train = int(found.is_train.sum())
        yield target, train, len(found.is_train) - train, found.values.shape[1]


def _mlps(side: Side) -> Cost:
    """MLPs side by side and their planes: two passes, and the directions of every MLP's outputs."""
    alike, host = side.on(equal_length(side.task)), Work(host_seconds=ROW * len(side.task) + MLPS)
    return Cost.of(side.walk() + alike.walk() + host) + directions_cost(side)


def brittleness_cost(side: Side) -> Cost:
    """The circuit's nodes, the backups of every best head, and the robustness curve."""
    model, pruning = side.model, [case.pruning for case in found_circuits(side)]
    runs, layers, middle = KeptRuns(side), range(model.n_layers), model.n_layers // 2
    suffix = runs.costs.sum(axis=1)[::-1].cumsum()[::-1]
    after = [runs.run(float(suffix[layer]), layer) for layer in layers]
    # Without another head alone, then without both: the second run finds the first one's streams up to the best head.
    first = sum((after[min(layer, middle)] + after[middle] for layer in layers), start=Work()) * model.n_heads
    other = sum(after, start=Work()) * model.n_heads
    curve = sum(after, start=Work()) * (min(STEPS, len(model.components)) / model.n_layers)
    backups = [((first + other * (best - 1)) if best else Work()) + curve for best in BEST]
    low, expected, high = (nodes + found for nodes, found in zip(pruning, backups, strict=True))
    return Cost(low, expected, high, device=kept_memory(side))


def _state_memory(side: Side, *, layers: int) -> float:
    """The states of so many layers of the largest batch."""
    batch = max(side.batches, key=lambda b: b.rows * b.n_pos)
    width = 6 * side.model.d_model + side.z_width * (2 + 2 * side.model.n_kv_heads / side.model.n_heads)
    working = bytes_per_token(side.model, batch.n_pos)
    return batch.rows * batch.n_pos * (layers * width * side.bytes_each + working)
