"""Short training runs of the tiny pair."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainingArguments

from circuitkd.components import Component
from circuitkd.distill.data import rows_of
from circuitkd.distill.objective import Alignment, Objective
from circuitkd.distill.trainer import CircuitDistillationTrainer
from distill_cases import Pair, pair

_FOLDERS = tempfile.TemporaryDirectory(prefix="circuitkd-tests-", ignore_cleanup_errors=True)
HEADS = tuple(Component.parse(h) for h in ("L0H3", "L1H0"))
PAIRS = tuple(zip(HEADS, (Component.parse(h) for h in ("L0H0", "L2H1")), strict=True))


def arguments(folder: str | Path, **changes: Any) -> TrainingArguments:
    """Quiet, on the CPU, without checkpoints."""
    plain: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": 2,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 3,
        "learning_rate": 1e-2,
        "weight_decay": 0.1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "logging_steps": 1,
    }
    return TrainingArguments(**(plain | changes))


def make(
    case: Pair | None = None,
    objective: Objective | None = None,
    *,
    folder: str | Path | None = None,
    heads: tuple[Component, ...] | None = HEADS,
    options: dict[str, Any] | None = None,
    **changes: Any,
) -> CircuitDistillationTrainer:
    """A trainer of a fresh pair, evaluated on its training rows; `changes` are training arguments."""
    case = case or pair("llama")
    rows = rows_of(case.bound[1])
    return CircuitDistillationTrainer(
        case.student,
        arguments(folder or tempfile.mkdtemp(dir=_FOLDERS.name), **changes),
        teacher_model=case.teacher,
        objective=objective,
        heads=heads,
        **({"train_dataset": rows, "eval_dataset": rows} | (options or {})),
    )


def weights(trainer: CircuitDistillationTrainer) -> dict[str, Tensor]:
    """A copy of the student's weights."""
    return {name: value.detach().clone() for name, value in trainer.student.hf.state_dict().items()}


def trained(*args: Any, resume: bool = False, **changes: Any) -> dict[str, Tensor]:
    """The student's weights after training."""
    trainer = make(*args, **changes)
    trainer.train(resume_from_checkpoint=resume)
    return weights(trainer)


def aligned(**changes: Any) -> Objective:
    """CE on the teacher's labels and CKA on two pairs; `changes` are those of the alignment."""
    return Objective(alignment=Alignment(PAIRS, **changes))


def largest_difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """The largest |difference| of two sets of weights."""
    assert first.keys() == second.keys()
    return max(float((a.double() - second[n].double()).abs().max()) for n, a in first.items())


def same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two sets of weights are equal bit by bit."""
    raw = ({n: v.contiguous().view(torch.uint8) for n, v in side.items()} for side in (first, second))
    ours, theirs = raw
    return ours.keys() == theirs.keys() and all(torch.equal(v, theirs[n]) for n, v in ours.items())
