"""Cost of `compare` and of the noise experiment: sweeps, similarity passes, similarities, the untrained student.

The FLOPs of a sweep are those that its `forward_equivalents` report, batch by batch and group by group. The similarity
pass runs the blocks once, with patterns computed beside; on the host it accumulates, per layer, two covariances of MLP
outputs over all tokens (2 d_model^2 operations each), then takes eigenvectors of one and CKA between all pairs of heads
and of MLPs on up to `measure.POINTS` tokens. In wide models the host's part is the larger one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from circuitkd.analysis import CompareOptions
from circuitkd.comparison.measure import POINTS
from circuitkd.interventions.ablations import find_reference
from circuitkd.interventions.execution import bytes_per_token
from circuitkd.interventions.restart import rest_flops
from circuitkd.models import flops
from circuitkd.studies.workload import Batch, Cost, Part, Side, Work

# Seconds on one core, measured with benchmarks/planning.py.
TOKENIZING = 7e-4  # an example, bound to one model
ROW = 8e-5  # an example in a layer of the similarity pass: three updates of means
PAIR = 5e-6  # a product of numpy with a Python loop around it
STATISTICS = 0.3  # bootstraps, most of it the slope against compression; nulls, patterns for the page
NORMAL, GENERATOR = 1.2e-8, 2.5e-5  # a normal draw; a generator, of which noise makes one for a row of a layer
WEIGHT_DRAW = 8e-9  # a weight of an untrained model
# Operations at the speed of large products that take as long: of eigenvectors for d^3, and of small products for one.
EIGEN, SMALL = 8.0, 2.5
FLOAT64 = 8


def compare_cost(teacher: Side, student: Side, *, options: CompareOptions) -> Iterator[Part]:
    """The steps of `compare`."""
    for side in (teacher, student):
        yield Part("ablation sweep", side, sweep_cost(side))
    for side in (teacher, student):
        binding = Cost.of(Work(host_seconds=TOKENIZING * len(side.task)))
        again = similarity_pass(side) if options.notebook else Cost()
        yield Part("similarity pass", side, similarity_pass(side) + again + binding)
    statistics = Cost.of(Work(host_seconds=STATISTICS))
    yield Part("similarities, statistics", student, similarity_cost(teacher, student) + statistics)
    if options.random_null:
        yield Part("untrained student", student, untrained_cost(teacher, student) + sweep_cost(student))


def noise_cost(teacher: Side, student: Side, *, draws: int) -> Iterator[Part]:
    """The noise experiment with `draws` disturbed students in all."""
    yield Part("undisturbed teacher", teacher, sweep_cost(teacher) + similarity_pass(teacher))
    disturbed = sweep_cost(student) + similarity_pass(student) + similarity_cost(teacher, student)
    yield Part(f"{draws} disturbed students", student, (disturbed + Cost.of(_noise(student))) * draws)


def untrained_cost(teacher: Side, student: Side) -> Cost:
    """Making a student with random weights, in float32 on the host, and measuring its similarity to the teacher."""
    count = student.model.parameter_count
    made = Cost.of(Work(host_seconds=WEIGHT_DRAW * count), device=student.weights, host=4.0 * count)
    return made + similarity_pass(student) + similarity_cost(teacher, student)


def sweep_cost(side: Side) -> Cost:
    """An ablation sweep over every component."""
    found = reference_work(side)
    for batch in side.batches:
        found += _sweep_of(side, batch)
    return Cost.of(found, device=_sweep_memory(side))


def reference_work(side: Side, batch_size: int | None = None) -> Work:
    """The reference prompts, run once for their means; nothing for other ablations than means."""
    if side.ablation.kind not in ("mean", "mean-positional"):
        return Work()
    reference, size = find_reference(side.model, side.task, ablation=side.ablation), batch_size or side.sizes.batch_size
    shapes = []
    for members in reference.groups.values():
        prompts = [reference.task.examples[i] for i in members]
        lengths = [len(e.corrupted if reference.prompts == "corrupted" else e.clean) for e in prompts]
        chunks = [lengths[i : i + size] for i in range(0, len(lengths), size)]
        shapes += [Batch(len(chunk), max(chunk), 0) for chunk in chunks]
    return side.walk(tuple(shapes))


def _sweep_of(side: Side, batch: Batch) -> Work:
    """One batch of a sweep: a walk, then every component of every layer with what follows it."""
    model, rows, n_pos = side.model, batch.rows, batch.n_pos
    last, heads, size = model.n_layers - 1, model.n_heads, side.sizes.group_size(rows, n_pos)
    work = float(model.n_layers * flops.block_flops(model, rows, n_pos))
    work += flops.unembed_flops(model, rows) + side.readout(batch, copies=1 + model.n_layers * (heads + 1))
    blocks = model.n_layers
    groups = math.ceil((heads + 1) / size)
    if side.ablation.kind == "resample":
        work, blocks = work + model.n_layers * flops.block_flops(model, rows, n_pos), 2 * blocks
    for layer in range(model.n_layers):
        asked = 1 if layer == last else n_pos
        work += flops.head_change_flops(model, heads * rows, asked)
        if model.architecture.residual != "parallel":
            work += flops.mlp_flops(model, heads * rows, asked)
        if layer < last:
            work += rest_flops(model, layer + 1, rows=(heads + 1) * rows, n_pos=n_pos)
        blocks += groups * (model.n_layers - layer)
    return Work(work, blocks)


def _sweep_memory(side: Side) -> float:
    """A group of components of the largest batch, the batch itself, and the means of every layer and group."""
    batch = max(side.batches, key=lambda b: b.rows * b.n_pos)
    copies = min(side.model.n_heads + 1, side.sizes.group_size(batch.rows, batch.n_pos))
    lengths = {len(e.clean) for e in side.task.examples} if side.ablation.kind == "mean-positional" else {1}
    means = side.model.n_layers * sum(lengths) * (side.z_width + side.model.d_model) * side.bytes_each
    return (copies + 1) * batch.rows * batch.n_pos * bytes_per_token(side.model, batch.n_pos) + means


def similarity_pass(side: Side) -> Cost:
    """One run of the clean prompts with patterns, and the moments that similarities are made from."""
    model = side.model
    scores = sum(model.n_layers * flops.attention_flops(model, b.rows, b.n_pos) / 2 for b in side.batches)
    tokens = sum(len(e.clean) for e in side.task.examples)
    host = Work(
        flops=scores,
        host_flops=model.n_layers * 2 * 2.0 * tokens * model.d_model**2,
        host_seconds=ROW * len(side.task) * model.n_layers,
    )
    batch = max(side.batches, key=lambda b: b.rows * b.n_pos)
    device = batch.rows * batch.n_pos * bytes_per_token(model, batch.n_pos)
    device += 3 * FLOAT64 * batch.rows * model.n_heads * batch.n_pos**2
    # Two sums of products in every layer, and both results beside the sums while they are made.
    moments = 4.0 * model.n_layers * FLOAT64 * model.d_model**2
    return Cost.of(side.walk() + host, device=device, host=moments + _points(side) * 4)


def _points(side: Side) -> float:
    """Numbers of z and MLP outputs kept for CKA."""
    tokens = min(POINTS, sum(len(e.clean) for e in side.task.examples))
    return float(tokens * side.model.n_layers * (side.z_width + side.model.d_model))


def similarity_cost(teacher: Side, student: Side) -> Cost:
    """All similarity matrices of a pair, on the host."""
    tokens = min(POINTS, sum(len(e.clean) for e in teacher.task.examples))
    models = [side.model for side in (teacher, student)]
    heads = _cka([m.n_layers * m.n_heads for m in models], [m.d_head for m in models], tokens)
    mlps = _cka([m.n_layers for m in models], [m.d_model for m in models], tokens)
    found, host = heads + mlps, 2 * FLOAT64 * (_points(teacher) + _points(student))
    if models[0].d_model == models[1].d_model:
        layers, width = sum(m.n_layers for m in models), models[0].d_model
        found += Work(host_flops=layers * EIGEN * width**3)
        host += 2.0 * FLOAT64 * layers * width**2
    return Cost.of(found, host=host)


def _cka(counts: list[int], widths: list[int], tokens: int) -> Work:
    """CKA of all pairs: through products of features, or of tokens where these are fewer."""
    (t, s), (p, q) = counts, widths
    if tokens**2 <= p * q:
        return Work(host_flops=SMALL * 2 * tokens**2 * (t * p + s * q + t * s), host_seconds=PAIR * (t + s))
    return Work(host_flops=SMALL * 2 * tokens * (t * s * p * q + t * p**2 + s * q**2), host_seconds=PAIR * t * s)


def _noise(side: Side) -> Work:
    """Drawing the noise of one disturbed sweep and similarity pass: for every block that is run, row by row."""
    draws = rows = 0.0
    for batch in side.batches:
        groups = math.ceil((side.model.n_heads + 1) / side.sizes.group_size(batch.rows, batch.n_pos))
        layers = side.model.n_layers
        runs = 2 * layers + groups * layers * (layers - 1) / 2
        draws += runs * batch.rows * batch.n_pos * (side.z_width + side.model.d_model)
        rows += runs * 2 * batch.rows
    return Work(host_seconds=draws * NORMAL + rows * GENERATOR)
