"""Roles of every head of a model on a task: one pass over the clean prompts for their attention patterns.

What the scores and thresholds are is in `role_scoring.py`, what the roles are in `role_definitions.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from circuitkd.interventions.capture import make_batch, walk_batch
from circuitkd.interventions.execution import Execution, plan
from circuitkd.models import blocks
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.models.context import make_context
from circuitkd.roles.role_scoring import SHUFFLES, Form, RoleScores, score_patterns
from circuitkd.roles.scenes import scenes
from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import BoundTask


def role_scores(
    model: CircuitModel, task: Task | BoundTask, *, shuffles: int = SHUFFLES, execution: Execution | None = None
) -> RoleScores:
    """Score all heads in all roles that the task's labels and tokens allow. Raises ValueError as `score_patterns`."""
    bound = task.bind(model, aligned=False) if isinstance(task, Task) else task
    heads = tuple(c for c in model.components if c.kind == "head")
    forms = mean_patterns(model, bound, execution=execution or Execution())
    names = (model.name, bound.name)
    return score_patterns(forms, heads, names=names, is_causal=model.is_causal, shuffles=shuffles)


def mean_patterns(model: CircuitModel, task: BoundTask, *, execution: Execution) -> Iterator[Form]:
    """Scene by scene the mean pattern [head, pos, pos] of its prompts, and their number."""
    size, done = plan(model, task, execution=execution).batch_size, 0
    for scene, rows in scenes(task).items():
        total = np.zeros((model.n_layers, model.n_heads, scene.n_pos, scene.n_pos))
        with torch.inference_mode():
            for start in range(0, len(rows), size):
                batch = make_batch(task, rows[start : start + size])
                context = make_context(model, batch.lengths, n_pos=scene.n_pos)
                for state in walk_batch(model, batch):
                    found = blocks.patterns(model, state.layer, state.q, state.k, context).double().sum(0)
                    total[state.layer] += found.cpu().numpy()
        done += len(rows)
        execution.report("role scores", done, total=len(task))
        yield scene, total.reshape(-1, *total.shape[2:]) / len(rows), len(rows)
