"""How alike a teacher's components and those of an untrained student are: the null of a match.

Even components that learned nothing have similar patterns: attention is causal, and sums to 1. For each teacher component
the null is its largest similarity to any component of randomly initialised students of the student's shape, over SEEDS.
A student component that exceeds it resembles the teacher's more than anything did before training.

Limit: a student initialised from its teacher's layers was like them before any distillation; the null does not know that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from circuitkd.comparison.alignment_of_tokens import common_units
from circuitkd.comparison.measure import Asked, Measured, measure, sample_points
from circuitkd.comparison.pair_similarity import (
    HEAD_NAMES,
    MLP_NAMES,
    Measures,
    Similarity,
    fields_for,
    pair_similarity,
)
from circuitkd.interventions.execution import Execution, plan
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.models.random_model import randomly_initialised
from circuitkd.tasks.binding import BoundTask

Floats = NDArray[np.float64]
SEEDS = (0, 1, 2)


@dataclass(frozen=True, eq=False)
class UntrainedSimilarity:
    """`largest` [component]: of each teacher component, heads first, with any component of its type in any of the
    untrained students. `definition`: which similarity."""

    largest: Floats
    seeds: tuple[int, ...]
    definition: str


def untrained_similarity(
    models: tuple[CircuitModel, CircuitModel],
    tasks: tuple[BoundTask, BoundTask],
    *,
    like: Similarity,
    seeds: Sequence[int] = SEEDS,
    execution: Execution | None = None,
) -> UntrainedSimilarity:
    """Measure (teacher, student) as `like` was measured, with the student's weights drawn anew for every seed.

    `tasks`: the same examples in the tokens of either model. Raises ValueError for no seeds.
    """
    if not seeds:
        raise ValueError("the null needs at least one untrained student: give seeds=(0,) or more")
    units = common_units(*models, teacher_task=tasks[0], student_task=tasks[1])
    execution, measures = execution or Execution(), _measures(like)
    asked = Asked(sample_points(units[0]), fields_for(measures, models=models))

    def measured(model: CircuitModel, side: int) -> Measured:
        size = plan(model, tasks[side], execution=execution).batch_size
        return measure(model, tasks[side], units=units[side], asked=asked, batch_size=size)

    teacher, found = measured(models[0], 0), []
    for number, seed in enumerate(seeds):
        student = measured(randomly_initialised(models[1], seed=seed), 1)
        similarity = pair_similarity(teacher, student, measures=measures, device=models[1].device)
        found.append(np.concatenate([similarity.head.max(axis=1), similarity.mlp.max(axis=1)]))
        execution.report("untrained students", number + 1, total=len(seeds))
    definition = f"heads: {like.head_measure}; MLPs: {like.mlp_measure}"
    return UntrainedSimilarity(np.max(found, axis=0), tuple(seeds), definition)


def _measures(like: Similarity) -> Measures:
    """The measures by whose names a similarity goes."""
    heads, mlps = ({words: name for name, words in names.items()} for names in (HEAD_NAMES, MLP_NAMES))
    head, mlp = heads[like.head_measure], mlps[like.mlp_measure]
    return Measures(head, mlp)  # type: ignore[arg-type]
