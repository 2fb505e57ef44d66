"""The experiment of circuit distillation (CD, sections 4 and 5) as one function.

Steps: divide the task's examples into training, validation and test; on the training split choose the circuit's heads and
map them to teacher heads; train a copy of the student for every condition and seed on the same rows; measure each on the
test split. The student is the same at the start of every run; a seed decides the order of the rows, the random pairs,
the random circuits and which heads are ablated in training. The teacher's signals are computed once per condition and kept.

`mean-positional` ablation takes its means within each split. Limits: the circuit is chosen once, on the untrained student.
"""

from __future__ import annotations

import copy
import hashlib
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from transformers import PrinterCallback, TrainingArguments

from circuitkd.artifacts import load_run, save_run
from circuitkd.distill.conditions import Condition, ExperimentOptions
from circuitkd.distill.data import rows_of
from circuitkd.distill.evaluation import circuit_accuracy, fit, right_answers
from circuitkd.distill.experiment_result import DistillationRun, ExperimentResult
from circuitkd.distill.experiment_setup import Setup, objective_of, prepare, shares
from circuitkd.distill.head_map import HeadMap, random_pairs
from circuitkd.distill.trainer import CircuitDistillationTrainer
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.execution import Execution, fingerprint
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.provenance import software
from circuitkd.tasks.base import Task

LOGGED = 50
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
    work = [(condition, seed) for condition in options.conditions for seed in options.seeds]
    runs = []
    for done, (condition, seed) in enumerate(work):
        execution.report("distillation", done, total=len(work))
        runs.append(_finished(setup, condition, seed, keep=keep))
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
        warnings=setup.warnings,
        manifest=_manifest(setup, task),
    )


def _finished(setup: Setup, condition: Condition, seed: int, *, keep: Keep | None) -> DistillationRun:
    """A run from the folder of finished ones, or made and kept there."""
    folder = setup.execution.folder
    digest = hashlib.sha256(f"{setup.identity} {condition} {seed}".encode()).hexdigest()[:16]
    place = None if folder is None else Path(folder) / f"run-{digest}"
    if place is not None and (place / "result.json").exists():
        return load_run(place, DistillationRun)
    run = _run(setup, condition, seed, keep=keep)
    if place is not None:
        save_run(place, run, manifest=software())
    return run


def _run(setup: Setup, condition: Condition, seed: int, *, keep: Keep | None) -> DistillationRun:
    start, teacher, debiased = time.perf_counter(), setup.teacher, setup.options.losses.debiased
    pairs = random_pairs(teacher, setup.heads, seed=seed) if condition.pairs == "random" else None
    student = _copied(setup.student)
    trainer = None
    if condition.parameters != "none":
        trainer = _train(setup, student, condition, seed=seed, pairs=pairs)
        if keep is not None:
            keep(condition.name, seed, student)
    seconds = time.perf_counter() - start
    alignment, mean_drop = setup.scorer(student)
    measured = fit((teacher, setup.test[0]), (student, setup.test[1]), pairs=setup.head_map.pairs, debiased=debiased)
    draws = setup.options.random_circuits
    logged = [(e["step"], e["loss"]) for e in trainer.state.log_history if "loss" in e] if trainer else []
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
        loss_steps=np.array([step for step, _ in logged], dtype=np.float64),
        losses=np.array([loss for _, loss in logged], dtype=np.float64),
        seconds=seconds,
        untouched=trainer.untouched if trainer else None,
        pairs=pairs,
    )


def _copied(student: CircuitModel) -> CircuitModel:
    """A copy whose weights can be trained without changing the student."""
    return CircuitModel.of(copy.deepcopy(student.hf), student.tokenizer, name=student.name)


def _train(
    setup: Setup, student: CircuitModel, condition: Condition, *, seed: int, pairs: HeadMap | None
) -> CircuitDistillationTrainer:
    training = setup.options.training
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="biased CKA")  # the result says it once
        trainer = CircuitDistillationTrainer(
            student,
            TrainingArguments(
                output_dir=folder,
                max_steps=training.steps,
                learning_rate=training.learning_rate,
                per_device_train_batch_size=training.batch_size,
                dataloader_drop_last=len(setup.train[1]) >= training.batch_size,
                seed=seed,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                logging_steps=max(1, training.steps // LOGGED),
                use_cpu=student.device.type == "cpu",
            ),
            teacher_model=setup.teacher,
            objective=objective_of(setup, condition, pairs=pairs),
            heads=setup.heads if condition.parameters == "circuit" else None,
            teacher_cache=setup.execution.folder or folder,
            train_dataset=rows_of(setup.train[1]),
        )
        trainer.remove_callback(PrinterCallback)  # it prints every entry of the log
        trainer.train()
    student.hf.eval()
    return trainer


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
