"""Sums of the terms of a loss, by hand."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator

from circuitkd.distill.loss_parts import LossParts


def test_means_over_the_steps_since_the_last_call():
    parts, alone = LossParts(), Accelerator(cpu=True)
    assert parts.take(alone) == {}
    for task, alignment in ((1.0, 0.25), (2.0, 0.25), (3.0, None)):
        terms = torch.tensor(task, requires_grad=True), None if alignment is None else torch.tensor(alignment)
        parts.add(task_loss=terms[0], alignment_loss=terms[1])
    parts.step()
    parts.step()
    assert parts.take(alone) == {"task_loss": 3.0, "alignment_loss": 0.25}
    parts.add(task_loss=torch.tensor(5.0, dtype=torch.bfloat16), alignment_loss=None)
    parts.step()
    assert parts.take(alone) == {"task_loss": pytest.approx(5.0)}
