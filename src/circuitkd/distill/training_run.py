"""One training run of the experiment: a copy of the student, trained under one condition with one seed."""

from __future__ import annotations

import copy
import tempfile
import warnings

from transformers import PrinterCallback, TrainingArguments

from circuitkd.distill.conditions import Condition
from circuitkd.distill.data import rows_of
from circuitkd.distill.experiment_setup import Setup, objective_of
from circuitkd.distill.head_map import HeadMap
from circuitkd.distill.trainer import CircuitDistillationTrainer
from circuitkd.models.circuit_model import CircuitModel

LOGGED = 50


def train_copy(
    setup: Setup, condition: Condition, *, seed: int, pairs: HeadMap | None = None
) -> tuple[CircuitModel, CircuitDistillationTrainer | None]:
    """A copy of the student after training, and its trainer (None where nothing is trained). `pairs`: the random ones."""
    student = CircuitModel.of(copy.deepcopy(setup.student.hf), setup.student.tokenizer, name=setup.student.name)
    if condition.parameters == "none":
        return student, None
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
    return student, trainer
