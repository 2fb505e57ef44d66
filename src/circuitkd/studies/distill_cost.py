"""Cost of the circuit-distillation experiment: choosing and mapping heads, training, and measuring every student.

A training step is a forward of the student, its gradients with respect to activations, and those with respect to the
weights that are trained: for all parameters each costs a forward. For a circuit only the attention weights of its layers
get gradients, and nothing below its lowest layer is gone through backwards: LOWEST of the way up at the least, the expected and
the most work. The optimizer and the Trainer around a step take STEP seconds on the host. The teacher runs once for every set of
signals that a condition asks for, then answers from memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from circuitkd.distill.conditions import MAPPED, Condition, ExperimentOptions
from circuitkd.distill.experiment_setup import default_heads
from circuitkd.interventions.execution import bytes_per_token
from circuitkd.models import flops
from circuitkd.studies.circuit_cost import KeptRuns
from circuitkd.studies.compare_cost import (
    scored_fields,
    scored_student,
    similarity_cost,
    similarity_pass,
    sweep_cost,
)
from circuitkd.studies.edge_cost import groups_cost
from circuitkd.studies.settings import DistillSettings
from circuitkd.studies.workload import Cost, Part, Side, Work
from circuitkd.tasks.binding import BoundTask

LOWEST = (0.5, 0.2, 0.0)
# Host seconds: of a training step beside the products; of a run, making the Trainer, hashing and collecting; of binding and
# checking one model's splits; of a student that is measured, beside its runs.
STEP, RUN, SPLITS, MEASURED = 1e-2, 0.25, 0.05, 0.035
ADAM = 10e-9  # host seconds a trained parameter and step where the model is on the CPU


def distill_cost(teacher: Side, student: Side, *, options: ExperimentOptions) -> Iterator[Part]:
    """The steps of `run_experiment`."""
    train, validation, test = _splits(teacher, student, options)
    seeds, splits = len(options.seeds), Cost.of(Work(host_seconds=SPLITS))
    yield Part("choosing heads", teacher, _of_teacher(train, test[0], options) + _signals(train[0], options) + splits)
    yield Part("choosing heads", student, _of_student(train[1], test[1], options) + splits)
    if options.search is not None:
        grid = options.search
        tried = _training(train[1], MAPPED, options) + _answers(validation[1])
        yield Part("search", student, tried * (len(grid.weights) * len(grid.points) * len(grid.seeds)))
    total = Cost()
    for condition in options.conditions:
        if condition.parameters != "none":
            total += _training(train[1], condition, options)
    yield Part("training", student, total * seeds)
    runs = len(options.conditions) * seeds
    yield Part("teacher beside each student", teacher, _answers(test[0]) * runs)
    yield Part("measuring students", student, _measuring(validation[1], test, options) * runs)


def own_circuit_cost(teacher: Side, student: Side, *, settings: DistillSettings) -> Iterator[Part]:
    """What a study adds to the experiment: the teacher's own circuit, measured, and with path patching both models' groups."""
    options = settings.options()
    train, _, test = _splits(teacher, student, options)
    by_groups = settings.circuit == "path-patching"
    if by_groups:
        for side in train:
            yield Part("path patching", side, groups_cost(side))
    measured = _circuit_accuracy(test[0], options)
    yield Part("teacher's circuit", teacher, measured if by_groups else sweep_cost(train[0]) + measured)


def with_heads(settings: DistillSettings, student: Side) -> ExperimentOptions:
    """The experiment of a study; heads found by path patching are as many as by default, and need no sweep."""
    options = settings.options()
    if settings.circuit != "path-patching":
        return options
    return replace(options, heads=student.model.components[: default_heads(student.model)])


def _splits(teacher: Side, student: Side, options: ExperimentOptions) -> tuple[tuple[Side, ...], ...]:
    """Training, validation and test of (teacher, student)."""
    ends = np.cumsum(options.shares[:2]) * len(student.task)
    cuts = ((0, ends[0]), (ends[0], ends[1]), (ends[1], len(student.task)))
    return tuple(tuple(side.on(_part(side.task, *cut)) for side in (teacher, student)) for cut in cuts)


def _part(task: BoundTask, start: float, end: float) -> BoundTask:
    return replace(task, examples=task.examples[round(start) : round(end)])


def _heads(side: Side, options: ExperimentOptions) -> int:
    if isinstance(options.heads, tuple):
        return len(options.heads)
    return options.heads or default_heads(side.model)


def _of_teacher(train: tuple[Side, ...], test: Side, options: ExperimentOptions) -> Cost:
    """What each teacher head is worth, and what is measured of the teacher once."""
    side, fields = train[0], scored_fields(*train)
    found = _answers(test) + sweep_cost(test) + similarity_pass(test, fields)
    if options.mapping != "similarity":
        found += _impacts(side, side.model.n_heads * side.model.n_layers, options)
    if _is_surrogate(options):
        found += sweep_cost(side)
    if _is_surrogate(options) or options.mapping == "similarity":
        found += Cost.of(side.walk()) + similarity_cost(*train, fields={"z"})
    return found


def _of_student(train: Side, test: Side, options: ExperimentOptions) -> Cost:
    """The sweep that chooses heads, and what each of them is worth."""
    found = _answers(test) + (Cost() if isinstance(options.heads, tuple) else sweep_cost(train))
    if options.mapping != "similarity":
        found += _impacts(train, _heads(train, options), options)
    return found + Cost.of(train.walk()) if _is_surrogate(options) or options.mapping == "similarity" else found


def _is_surrogate(options: ExperimentOptions) -> bool:
    return any(c.pairs == "surrogate" for c in options.conditions)


def _impacts(side: Side, heads: int, options: ExperimentOptions) -> Cost:
    """Performance without each of the heads, last layer first."""
    runs, layers = KeptRuns(side), side.model.n_layers
    suffix = float(runs.costs.sum(axis=1)[::-1].cumsum().mean())
    read = 0.0
    if options.performance != "logit-difference":
        read = flops.unembed_flops(side.model, len(side.task))
    each = Work(suffix + (read or runs.readout), len(side.batches) * layers / 2)
    # The first head's run starts at the bottom, where nothing is cached yet, and so does the one with all heads.
    whole = runs.expected(np.ones(layers), np.ones(layers)) + Work(read)
    return Cost.of(runs.work + whole + each * heads)


def _answers(side: Side) -> Cost:
    """One run to the answers, with all logits there."""
    return Cost.of(side.walk() + Work(flops.unembed_flops(side.model, len(side.task))))


def _training(side: Side, condition: Condition, options: ExperimentOptions) -> Cost:
    """One run of one condition."""
    rows = min(options.training.batch_size, len(side.task))
    longest = max(len(e.clean) for e in side.task.examples)
    read = longest - min(e.answer_position for e in side.task.examples)
    model, layers = side.model, side.model.n_layers
    body = layers * flops.block_flops(model, rows, longest)
    attention = layers * flops.attention_flops(model, rows, longest)
    logits = flops.unembed_flops(model, rows * (read if model.is_causal else longest))
    forward = body + logits
    extra = body + attention + logits if condition.pairs == "surrogate" else 0.0
    trained = model.parameter_count
    if condition.parameters == "all":
        gradients = [2.0 * forward] * 3
    else:
        heads = _heads(side, options)
        each = flops.query_flops(model, rows, longest) + flops.key_value_flops(model, rows, longest)
        each += flops.projection_flops(model, rows, longest)
        # In as few layers as hold the heads or in as many as they can be; without a task loss nothing comes from above.
        few, many = math.ceil(heads / model.n_heads), min(layers, heads)
        gradients = [
            (1 - low) * (body + attention) * (condition.task_loss or low == 0.0)
            + logits * condition.task_loss
            + each * n
            for low, n in zip(LOWEST, (few, few, many), strict=True)
        ]
        trained = round(each * many / (2 * rows * longest))
    host, steps = STEP + ADAM * trained * side.place.on_cpu, options.training.steps
    works = (Work(forward + back + extra, 3 * layers, 0.0, host) * steps + Work(host_seconds=RUN) for back in gradients)
    return Cost.among(works, device=_training_memory(side, rows, longest, trained))


def _training_memory(side: Side, rows: int, n_pos: int, trained: int) -> float:
    """A copy of the student, gradients, two moments and a copy of what is trained, and the activations of all layers."""
    copies = side.weights + 4.0 * trained * side.bytes_each
    logits = 3.0 * rows * side.model.vocab_size * side.bytes_each
    return copies + logits + side.model.n_layers * rows * n_pos * bytes_per_token(side.model, n_pos)


def _signals(side: Side, options: ExperimentOptions) -> Cost:
    """The teacher on the training rows, for every different set of heads and labels."""
    sets = {(c.pairs, c.task_loss) for c in options.conditions if c.parameters != "none"}
    times = sum(len(options.seeds) if pairs == "random" else 1 for pairs, _ in sets)
    return _answers(side) * times


def _measuring(validation: Side, test: tuple[Side, ...], options: ExperimentOptions) -> Cost:
    """Accuracy, circuit and random circuits, alignment and drop of one student."""
    teacher, student = test
    found = _circuit_accuracy(student, options) + _answers(student) + _answers(validation)
    return found + sweep_cost(student) + scored_student(teacher, student) + Cost.of(Work(host_seconds=MEASURED))


def _circuit_accuracy(side: Side, options: ExperimentOptions) -> Cost:
    """The model, its circuit and random circuits."""
    runs, model = KeptRuns(side), side.model
    share = np.full(model.n_layers, _heads(side, options) / (model.n_layers * model.n_heads))
    drawn = runs.expected(share, np.ones(model.n_layers)) + Work(flops.unembed_flops(model, len(side.task)))
    return Cost.of(runs.work + drawn * (1 + options.random_circuits))
