"""The experiment of circuit distillation (CD, sections 4 and 5) as one function.

Steps: divide the task's examples into training, validation and test; on the training split choose the circuit's heads
and map them to teacher heads; where asked, choose the weight of the alignment on the validation split; train a copy
of the student for every condition and seed on the same rows; measure each on the test split. The student is the same
at the start of every run; a seed decides the order of the rows, the random pairs, the random circuits and which heads
are ablated in training. The teacher's signals are computed once per condition and kept.

`mean-positional` ablation takes its means within each split. Limits: the circuit is chosen once, on the untrained student.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from circuitkd.distill.conditions import Condition, ExperimentOptions
from circuitkd.distill.evaluation import circuit_accuracy, fit, right_answers
from circuitkd.distill.experiment_result import DistillationRun, ExperimentResult
from circuitkd.distill.experiment_setup import Setup, prepare, shares
from circuitkd.distill.head_map import random_pairs
from circuitkd.distill.search import apply, search
from circuitkd.distill.training_run import train_copy
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.execution import Execution, fingerprint
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.provenance import software
from circuitkd.tasks.base import Task

Keep = Callable[[str, int, CircuitModel], None]


def run_experiment(
    teacher: CircuitModel,
    student: CircuitModel,
    task: Task,
    *,
    options: ExperimentOptions | None = None,
    execution: Execution | None = None,
    keep: Keep | None = None,
) -> ExperimentResult:
    """Train and measure every condition with every seed.

    `keep(condition, seed, student)` is called with each trained student. With a folder in `execution` finished runs are
    kept there and taken from it (then without calling `keep`). Neither model is changed. Raises ValueError, before any
    training, for tokenizers that differ, too few examples, heads that do not exist, and batches too small for CKA.
    """
    options, execution = options or ExperimentOptions(), execution or Execution()
    setup = prepare(teacher, student, task=task, options=options, execution=execution)
    found = search(setup, options.search) if options.search else None
    if found is not None:
        setup = replace(setup, options=replace(options, losses=apply(options.losses, found)))
    work = [(condition, seed) for condition in options.conditions for seed in options.seeds]
    runs = []
    for done, (condition, seed) in enumerate(work):
        execution.report("distillation", done, total=len(work))
        run = partial(_run, setup, condition, seed, keep=keep)
        runs.append(setup.kept("run", f"{condition} {seed}", kind=DistillationRun, compute=run))
    execution.report("distillation", len(work), total=len(work))
    return ExperimentResult(
        teacher=teacher.name,
        student=student.name,
        task=task.name,
        heads=setup.heads,
        head_map=setup.head_map,
        examples=tuple(e.id for e in setup.test[1].examples),
        teacher_accuracy=setup.teacher_accuracy,
        runs=tuple(runs),
        search=found,
        warnings=setup.warnings,
        manifest=_manifest(setup, task),
    )


def _run(setup: Setup, condition: Condition, seed: int, *, keep: Keep | None) -> DistillationRun:
    start, teacher, debiased = time.perf_counter(), setup.teacher, setup.options.losses.debiased
    pairs = random_pairs(teacher, setup.heads, seed=seed) if condition.pairs == "random" else None
    student, trainer = train_copy(setup, condition, seed=seed, pairs=pairs)
    if trainer is not None and keep is not None:
        keep(condition.name, seed, student)
    seconds = time.perf_counter() - start
    alignment, mean_drop = setup.scorer(student)
    measured = fit((teacher, setup.test[0]), (student, setup.test[1]), pairs=setup.head_map.pairs, debiased=debiased)
    draws = setup.options.random_circuits
    logged = [entry for entry in trainer.state.log_history if "loss" in entry] if trainer else []
    parameter_share, head_share = shares(setup, condition)
    return DistillationRun(
        condition=condition.name,
        seed=seed,
        accuracy=circuit_accuracy(student, setup.test[1], heads=setup.heads, draws=draws, seed=seed),
        validation_accuracy=float(right_answers(student, setup.validation[1]).mean()),
        ce=measured.ce,
        cka=measured.cka,
        alignment=alignment,
        mean_drop=mean_drop,
        head_share=head_share,
        parameter_share=parameter_share,
        loss_steps=np.array([entry["step"] for entry in logged], dtype=np.float64),
        losses=np.array([entry["loss"] for entry in logged], dtype=np.float64),
        seconds=seconds,
        untouched=trainer.untouched if trainer else None,
        pairs=pairs,
        task_losses=np.array([entry["task_loss"] for entry in logged if "task_loss" in entry], dtype=np.float64),
    )


def _manifest(setup: Setup, task: Task) -> dict[str, str]:
    sizes = [len(b[1]) for b in (setup.train, setup.validation, setup.test)]
    facts = {
        "teacher": f"{setup.teacher.name} {fingerprint(setup.teacher)}",
        "student": f"{setup.student.name} {fingerprint(setup.student)}",
        "task": task.name,
        "data_sha256": task.digest(),
        "examples": f"{sizes[0]} training, {sizes[1]} validation, {sizes[2]} test",
        "options": repr(setup.options),
        "heads": " ".join(map(str, setup.heads)),
        "mapping": setup.head_map.definition,
        "circuit accuracy": f"heads outside the circuit at {Ablation(task.ablation).describe()}; MLPs kept",
    }
    return facts | software()
