"""Prompts as the compression recipes use them: batches of the clean ones, and how well a model answers them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

import circuitkd as ck
from circuitkd.distill.data import collate, rows_of
from circuitkd.distill.student import run_student
from circuitkd.tasks.metrics import logit_difference

BATCH = 64


def rows(model: ck.CircuitModel, task: ck.Task) -> list[dict[str, list[int]]]:
    """The clean prompts that the model can take, with `labels` at the answer. ValueError where there is none."""
    return list(rows_of(replace(task, origin="generated").bind(model, aligned=False)))


def batches(model: ck.CircuitModel, task: ck.Task) -> Iterator[dict[str, Any]]:
    """Right-padded batches: `input_ids`, `labels` [row, pos], `answers`, `distractors` [row, k], `lengths` [row]."""
    found = rows(model, task)
    return (collate(found[start : start + BATCH]) for start in range(0, len(found), BATCH))


@torch.inference_mode()
def mean_logit_difference(model: ck.CircuitModel, task: ck.Task) -> float:
    """Mean over the prompts of logit[answer] - logit[distractor]."""
    values = []
    for batch in batches(model, task):
        logits = run_student(model, model.hf, batch=batch).logits
        sides = [batch[name].to(logits.device) for name in ("answers", "distractors")]
        gathered = [logits.gather(-1, ids.clamp(min=0)) for ids in sides]
        values.append(logit_difference(*gathered, answer_mask=sides[0] >= 0, distractor_mask=sides[1] >= 0))
    return float(torch.cat(values).mean())
