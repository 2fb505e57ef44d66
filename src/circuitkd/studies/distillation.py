"""Circuit distillation as CD reports it: the experiment on the student, and the teacher's own circuit beside it.

Entity tracking: a model's circuit are the four groups of heads found by path patching (`circuits.entity_groups`).
Theory of mind: its most influential heads by mean ablation. Each model's circuit is found on the training split alone,
with that model; the teacher's is measured on the test split, as the students' are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from circuitkd.circuits.entity_groups import EntityGroups, GroupOptions, entity_groups
from circuitkd.components import Component
from circuitkd.distill.data import bind_pair, split
from circuitkd.distill.evaluation import CircuitAccuracy, circuit_accuracy
from circuitkd.distill.experiment import run_experiment
from circuitkd.distill.experiment_result import ExperimentResult
from circuitkd.distill.experiment_setup import default_heads
from circuitkd.distill.head_map import Side, choose_heads
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.execution import Execution
from circuitkd.interventions.sweep import sweep
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.studies.settings import DistillSettings
from circuitkd.tasks.base import Task


@dataclass(frozen=True, eq=False)
class Distillation:
    """`teacher_heads`: the teacher's own circuit, and what it gets right on the test split. The groups are None where the
    circuits were found by ablation."""

    experiment: ExperimentResult
    teacher_heads: tuple[Component, ...]
    teacher_accuracy: CircuitAccuracy
    teacher_groups: EntityGroups | None
    student_groups: EntityGroups | None


def distillation(
    pair: tuple[CircuitModel, CircuitModel], task: Task, *, settings: DistillSettings, execution: Execution
) -> Distillation:
    """Find both circuits, train and measure every condition, and measure the teacher's circuit.

    Raises ValueError as `run_experiment` and `entity_groups`, and for a model in which path patching finds no head.
    """
    options, aligned = settings.options(), Ablation(task.ablation).needs_alignment
    parts = split(task, shares=options.shares)
    train, test = (bind_pair(part, *pair[:1], student=pair[1], aligned=aligned) for part in (parts.train, parts.test))
    groups: tuple[EntityGroups | None, EntityGroups | None] = (None, None)
    if settings.circuit == "path-patching":
        found = tuple(_groups((m, t), settings, execution) for m, t in zip(pair, train, strict=True))
        groups = found[0], found[1]
        options = replace(options, heads=_heads_of(found[1]))
    heads = _heads_of(groups[0]) if groups[0] else _by_ablation((pair[0], train[0]), settings, execution)
    return Distillation(
        experiment=run_experiment(*pair, task, options=options, execution=execution),
        teacher_heads=heads,
        teacher_accuracy=circuit_accuracy(pair[0], test[0], heads=heads, draws=options.random_circuits),
        teacher_groups=groups[0],
        student_groups=groups[1],
    )


def _by_ablation(side: Side, settings: DistillSettings, execution: Execution) -> tuple[Component, ...]:
    number = default_heads(side[0]) if settings.heads is None else settings.heads
    return choose_heads(side[0], number, effects=sweep(*side, execution=execution))


def _groups(side: Side, settings: DistillSettings, execution: Execution) -> EntityGroups:
    return entity_groups(*side, options=GroupOptions(most=settings.group_size), execution=execution)


def _heads_of(groups: EntityGroups) -> tuple[Component, ...]:
    heads = tuple(dict.fromkeys(head for group in groups.groups for head in group.heads))
    if not heads:
        raise ValueError(
            f"path patching finds no head of {groups.model} that helps on {groups.task}: does the model do the task? "
            "Choose circuit: ablation otherwise"
        )
    return heads
