"""Cost of `compare` and of the noise experiment: sweeps, similarity passes, similarities, the untrained student.

The FLOPs of a sweep are those that its `forward_equivalents` report, batch by batch and group by group. The similarity
pass runs the blocks once, with patterns computed beside, and takes the leading directions of every MLP's outputs: of n
tokens fewer than d_model from a product of rows (2 n^2 d_model operations) and n eigenvectors' host work, of more from a
covariance summed on the host. CKA is between all pairs of heads and of MLPs on up to `measure.POINTS` tokens, counted as
`comparison.products` chooses; what is only reported (`others`) is made once in a comparison and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from circuitkd.analysis import CompareOptions
from circuitkd.comparison.measure import POINTS, Field
from circuitkd.comparison.pair_similarity import NOTEBOOK_FIELDS, Measures, fields_for
from circuitkd.comparison.products import BLOCK, copies, operations
from circuitkd.interventions.ablations import find_reference
from circuitkd.interventions.execution import bytes_per_token
from circuitkd.interventions.restart import rest_flops
from circuitkd.models import flops
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.studies.workload import LAST, READ, Batch, Cost, Part, Side, Work

# Seconds on one core, measured with benchmarks/planning.py.
TOKENIZING = 7e-4  # an example, bound to one model
ROW = 8e-5  # an example in a layer of a pass over prompts, with some small products on the host
KEEP = 2.5e-5  # the same for one field that a similarity pass keeps
STATISTICS = 0.3  # bootstraps, most of it the slope against compression; nulls, patterns for the page
NORMAL, GENERATOR = 1.2e-8, 2.5e-5  # a normal draw; a generator, of which noise makes one for a row of a layer
COPY = 2e-9  # a value that goes to the device for CKA (on a CPU it is in the speed of tiled products)
WEIGHT_DRAW = 2e-8  # a weight of an untrained model
EIGEN = 8.0  # operations at the speed of large products that take as long as eigenvectors, for d^3
FLOAT64 = 8


def compare_cost(teacher: Side, student: Side, *, options: CompareOptions) -> Iterator[Part]:
    """The steps of `compare`."""
    for side in (teacher, student):
        yield Part("ablation sweep", side, sweep_cost(side))
    measures = options.score.measures
    fields = scored_fields(teacher, student, measures=measures, others=True)
    for side in (teacher, student):
        binding = Cost.of(Work(host_seconds=TOKENIZING * len(side.task)))
        again = similarity_pass(side, NOTEBOOK_FIELDS) if options.notebook else Cost()
        yield Part("similarity pass", side, similarity_pass(side, fields) + again + binding)
    statistics = Cost.of(Work(host_seconds=STATISTICS))
    yield Part("similarities, statistics", student, similarity_cost(teacher, student, fields=fields) + statistics)
    if options.random_null:
        yield Part("untrained student", student, untrained_cost(teacher, student, measures=measures, swept=True))


def noise_cost(teacher: Side, student: Side, *, draws: int) -> Iterator[Part]:
    """The noise experiment with `draws` disturbed students in all."""
    fields = scored_fields(teacher, student)
    yield Part("undisturbed teacher", teacher, sweep_cost(teacher) + similarity_pass(teacher, fields))
    disturbed = sweep_cost(student) + scored_student(teacher, student)
    yield Part(f"{draws} disturbed students", student, (disturbed + Cost.of(_noise(student))) * draws)


def scored_fields(
    teacher: Side, student: Side, *, measures: Measures | None = None, others: bool = False
) -> frozenset[Field]:
    """What a similarity pass of this pair keeps: for what scores, with `others` also for what is reported beside it."""
    return fields_for(measures or Measures(), models=(teacher.model, student.model), others=others)


def scored_student(teacher: Side, student: Side, *, measures: Measures | None = None) -> Cost:
    """Measuring a student, and its similarities to a teacher that is measured, as far as they score."""
    fields = scored_fields(teacher, student, measures=measures)
    return similarity_pass(student, fields) + similarity_cost(teacher, student, fields=fields)


def untrained_cost(teacher: Side, student: Side, *, measures: Measures | None = None, swept: bool = False) -> Cost:
    """Making a student with random weights on the host, in its dtype, and measuring its similarity to the teacher; `swept`:
    a sweep of it too."""
    made = Work(host_seconds=WEIGHT_DRAW * student.model.parameter_count)
    host = 0.0 if student.place.on_cpu else student.weights
    used = Cost.of(made, host=host) + scored_student(teacher, student, measures=measures)
    return _beside(Cost.of(Work(), device=student.weights), used + sweep_cost(student) if swept else used)


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
    blocks, starts = model.n_layers, READ
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
        starts += groups * (READ + LAST * (layer < last))
    return Work(work, blocks, starts=starts)


def _sweep_memory(side: Side) -> float:
    """A group of components of the largest batch, the batch itself, and the means of every layer and group."""
    batch = max(side.batches, key=lambda b: b.rows * b.n_pos)
    copies = min(side.model.n_heads + 1, side.sizes.group_size(batch.rows, batch.n_pos))
    lengths = {len(e.clean) for e in side.task.examples} if side.ablation.kind == "mean-positional" else {1}
    means = side.model.n_layers * sum(lengths) * (side.z_width + side.model.d_model) * side.bytes_each
    return (copies + 1) * batch.rows * batch.n_pos * bytes_per_token(side.model, batch.n_pos) + means


def similarity_pass(side: Side, fields: Collection[Field]) -> Cost:
    """One run of the clean prompts that keeps these fields of `measure.Measured`."""
    model = side.model
    batch = max(side.batches, key=lambda b: b.rows * b.n_pos)
    device = batch.rows * batch.n_pos * bytes_per_token(model, batch.n_pos)
    scores = 0.0
    if "patterns" in fields:
        scores = sum(model.n_layers * flops.attention_flops(model, b.rows, b.n_pos) / 2 for b in side.batches)
        device += 3 * FLOAT64 * batch.rows * model.n_heads * batch.n_pos**2
    kept = Work(flops=scores, host_seconds=KEEP * len(fields) * len(side.task) * model.n_layers)
    found = Cost.of(side.walk() + kept, device=device, host=_points(side, fields) * 4)
    if "mlp_vectors" in fields:
        found = _beside(found, directions_cost(side))
    if "mlp_centred" in fields:
        moments = 4.0 * model.n_layers * FLOAT64 * model.d_model**2
        found = _beside(found, Cost.of(_covariances(side), host=moments))
    return found


def directions_cost(side: Side) -> Cost:
    """Leading directions of the outputs of every MLP (`comparison.directions`): of few tokens, and of many."""
    width, layers, tokens = side.model.d_model, side.model.n_layers, _tokens(side)
    if tokens < width:
        work = Work(host_flops=layers * EIGEN * tokens**3, exact_flops=layers * 2.0 * tokens**2 * width)
        rows = float(tokens * width)
        kept = layers * rows * side.bytes_each
        return Cost.of(work, device=FLOAT64 * (rows + tokens**2), host=kept + 2 * FLOAT64 * rows)
    work = _covariances(side) + Work(host_flops=layers * EIGEN * width**3)
    # The sums of all layers, and of one its covariance and what is made of it.
    return Cost.of(work, host=(layers + 3.0) * FLOAT64 * width**2)


def _covariances(side: Side) -> Work:
    return Work(host_flops=side.model.n_layers * 2.0 * _tokens(side) * side.model.d_model**2)


def _beside(one: Cost, other: Cost) -> Cost:
    """Both at a time: work and memory add up."""
    both = one + other
    return replace(both, device=one.device + other.device, host=one.host + other.host)


def _tokens(side: Side) -> int:
    return sum(len(e.clean) for e in side.task.examples)


def _points(side: Side, fields: Collection[Field]) -> float:
    """Numbers of z and MLP outputs kept for CKA."""
    width = ("z" in fields) * side.z_width + ("mlp_points" in fields) * side.model.d_model
    return float(min(POINTS, _tokens(side)) * side.model.n_layers * width)


def similarity_cost(teacher: Side, student: Side, *, fields: Collection[Field]) -> Cost:
    """CKA of all pairs of what was kept for it; the other similarities are small beside it."""
    points, found = _points(teacher, fields) + _points(student, fields), Cost.of(Work())
    if "z" in fields:
        found += _cka(teacher, student, lambda m: (m.n_layers * m.n_heads, m.d_head))
    if "mlp_points" in fields:
        found += _cka(teacher, student, lambda m: (m.n_layers, m.d_model))
    return replace(found, host=4 * points)


def _cka(teacher: Side, student: Side, shape: Callable[[CircuitModel], tuple[int, int]]) -> Cost:
    """CKA of all pairs of components, of which a model has `shape` (number, width)."""
    tokens, (t, p), (s, q) = min(POINTS, _tokens(teacher)), shape(teacher.model), shape(student.model)
    counts, values = min(operations((t, p), (s, q), rows=tokens)), tokens * (t * p + s * q)
    copied = 0.0 if student.place.on_cpu else COPY * values * copies(t + s, rows=tokens)
    held = values + min(tokens**2 * (t + s), t * p * s * q)
    return Cost.of(Work(exact_flops=2.0 * counts, host_seconds=copied), device=float(min(BLOCK, FLOAT64 * held)))


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
