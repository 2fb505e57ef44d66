"""What all conditions of the experiment share: splits, the circuit, its pairs, and what is measured of the teacher once.

The circuit is chosen and mapped on the training split alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from circuitkd.artifacts import load_if_whole, save_run
from circuitkd.components import Component
from circuitkd.distill.circuit_parameters import CircuitParameters
from circuitkd.distill.conditions import Condition, ExperimentOptions
from circuitkd.distill.data import bind_pair, split
from circuitkd.distill.evaluation import Scorer, right_answers
from circuitkd.distill.head_map import HeadMap, Pairs, Side, choose_heads, head_similarity, map_pairs
from circuitkd.distill.losses import row_caution
from circuitkd.distill.objective import Alignment, Objective
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.execution import Execution, fingerprint
from circuitkd.interventions.influence import influence
from circuitkd.interventions.sweep import sweep
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.provenance import software
from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import BoundTask

SHARE_OF_HEADS, LEAST_HEADS = 0.15, 2
Bound = tuple[BoundTask, BoundTask]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Setup:
    """Everything that the conditions share; bound tasks are (teacher's, student's)."""

    teacher: CircuitModel
    student: CircuitModel
    options: ExperimentOptions
    execution: Execution
    train: Bound
    validation: Bound
    test: Bound
    heads: tuple[Component, ...]
    head_map: HeadMap
    surrogate_pairs: tuple[tuple[Component, Component], ...]
    surrogate_influence: tuple[float, ...]
    scorer: Scorer
    teacher_accuracy: NDArray[np.float64]
    warnings: tuple[str, ...]
    identity: str

    def kept(self, prefix: str, key: str, *, kind: type[T], compute: Callable[[], T]) -> T:
        """A piece of the experiment that `key` names: from the folder of finished ones, else computed and kept there."""
        if self.execution.folder is None:
            return compute()
        digest = hashlib.sha256(f"{self.identity} {key}".encode()).hexdigest()[:16]
        place = Path(self.execution.folder) / f"{prefix}-{digest}"
        found = load_if_whole(place, kind)
        if found is None:
            found = compute()
            save_run(place, found, manifest=software())
        return found


def prepare(
    teacher: CircuitModel, student: CircuitModel, *, task: Task, options: ExperimentOptions, execution: Execution
) -> Setup:
    """Splits, circuit, pairs, and what is measured of the teacher once. Raises ValueError as `run_experiment`."""
    aligned, parts = Ablation(task.ablation).needs_alignment, split(task, shares=options.shares)
    train, validation, test = (
        bind_pair(part, teacher, student=student, aligned=aligned)
        for part in (parts.train, parts.validation, parts.test)
    )
    heads = _circuit(student, train[1], options, execution=execution)
    _check_batch(options, len(train[1]))
    sides = (teacher, train[0]), (student, train[1])
    mapped = map_pairs(
        *sides, heads=heads, method=options.mapping, performance=options.performance, execution=execution
    )
    wants_surrogate = any(c.pairs == "surrogate" for c in options.conditions)
    pairs, influences = _surrogate(*sides, execution=execution) if wants_surrogate else ((), ())
    accuracies = [right_answers(m, b) for m, b in ((teacher, test[0]), (student, test[1]))]
    return Setup(
        teacher=teacher,
        student=student,
        options=options,
        execution=execution,
        train=train,
        validation=validation,
        test=test,
        heads=heads,
        head_map=mapped,
        surrogate_pairs=tuple(pairs),
        surrogate_influence=influences,
        scorer=Scorer((teacher, test[0]), (student, test[1]), execution=Execution(execution.batch_size)),
        teacher_accuracy=accuracies[0],
        warnings=_warnings(student, options, mapped, accuracies=[float(a.mean()) for a in accuracies], bound=train),
        identity=" ".join(
            (fingerprint(teacher), fingerprint(student), task.digest(), repr(options), software()["circuitkd"])
        ),
    )


def _surrogate(teacher: Side, student: Side, *, execution: Execution) -> tuple[Pairs, tuple[float, ...]]:
    """Each teacher head with the student head most like it, and the influence of these teacher heads. Left out are those
    that are like none, such as heads whose z is the same for all prompts."""
    ours, theirs = ([c for c in side[0].components if c.kind == "head"] for side in (student, teacher))
    similar = head_similarity(teacher, student, heads=ours)
    influences = influence(sweep(*teacher, execution=execution).drops[: len(theirs)])  # heads come before MLPs
    kept = np.flatnonzero(similar.max(axis=1) > 0)
    pairs = tuple((ours[similar[t].argmax()], theirs[t]) for t in kept)
    return pairs, tuple(float(i) for i in influences[kept])


def default_heads(model: CircuitModel) -> int:
    """How many heads a circuit has unless told."""
    return max(LEAST_HEADS, round(SHARE_OF_HEADS * model.n_layers * model.n_heads))


def _circuit(
    student: CircuitModel, train: BoundTask, options: ExperimentOptions, *, execution: Execution
) -> tuple[Component, ...]:
    which = default_heads(student) if options.heads is None else options.heads
    effects = sweep(student, train, execution=execution) if isinstance(which, int) else None
    return choose_heads(student, which, effects=effects)


def _check_batch(options: ExperimentOptions, rows: int) -> None:
    need, size = (4 if options.losses.debiased else 2), min(options.training.batch_size, rows)
    if any(c.pairs != "none" for c in options.conditions) and size < need:
        raise ValueError(
            f"CKA needs at least {need} rows in a batch and there are {size}: give a larger batch_size and more examples"
        )


def _warnings(
    student: CircuitModel, options: ExperimentOptions, mapped: HeadMap, *, accuracies: Sequence[float], bound: Bound
) -> tuple[str, ...]:
    found = [*mapped.warnings, *bound[1].warnings]
    if accuracies[0] <= accuracies[1]:
        found.append(
            f"the teacher is not better than the student on {bound[0].name} (accuracy {accuracies[0]:.2f} and "
            f"{accuracies[1]:.2f} on the test split): there is little to learn from it, choose another task or teacher"
        )
    shared = CircuitParameters.of(student, mapped.student).shared_heads
    if shared:
        found.append(
            f"training K/V groups of the circuit also changes what {', '.join(map(str, shared))} read, which are not in it"
        )
    caution = row_caution(options.training.batch_size, student.d_head, debiased=options.losses.debiased)
    return tuple(found + ([caution] if caution and any(c.pairs != "none" for c in options.conditions) else []))


def objective_of(setup: Setup, condition: Condition, *, pairs: HeadMap | None) -> Objective:
    """The objective of a condition; `pairs` are the random ones."""
    losses, alignment = setup.options.losses, None
    if condition.pairs == "surrogate":
        alignment = Alignment(
            setup.surrogate_pairs,
            losses.weight,
            "surrogate",
            debiased=losses.debiased,
            teacher_influence=setup.surrogate_influence,
        )
    elif condition.pairs != "none":
        chosen = setup.head_map if pairs is None else pairs
        alignment = Alignment(chosen.pairs, losses.weight, debiased=losses.debiased, points=losses.points)
    return Objective(
        losses.task_loss if condition.task_loss else None,
        losses.temperature,
        alignment,
        losses.ablated_share if condition.head_ablation else 0.0,
    )


def shares(setup: Setup, condition: Condition) -> tuple[float, float]:
    """Shares of parameters and of heads that are trained."""
    if condition.parameters != "circuit":
        share = float(condition.parameters == "all")
        return share, share
    parts = CircuitParameters.of(setup.student, setup.heads)
    return parts.parameter_share, parts.head_share
