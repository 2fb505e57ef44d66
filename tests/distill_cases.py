"""A tiny teacher and student with one tokenizer, a task for both, and its examples in their tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from circuitkd.distill.data import bind_pair
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import BoundTask
from small_runs import model_for, task_of


@dataclass(frozen=True)
class Pair:
    """Teacher (three layers) and student (two) of one architecture."""

    teacher: CircuitModel
    student: CircuitModel
    task: Task
    bound: tuple[BoundTask, BoundTask]


def pair(name: str = "gpt2", *, n: int = 4, dtype: torch.dtype = torch.float32, tasks: tuple[str, ...] = ()) -> Pair:
    """Fresh models; `n` examples of each built-in task: by default of two lengths."""
    layers = {"gpt2": "n_layer", "distilbert": "n_layers"}.get(name, "num_hidden_layers")
    teacher, student = model_for(name, dtype, 0), model_for(name, dtype, 1, **{layers: 2})
    task = task_of(*tasks, n=n)
    return Pair(teacher, student, task, bind_pair(task, teacher, student=student))


@cache
def shared_pair(name: str = "gpt2", *, n: int = 4) -> Pair:
    """The same, for tests that change nothing."""
    return pair(name, n=n)
