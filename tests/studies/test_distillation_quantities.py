"""Quantities of the distillation experiment, by hand on four test examples."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from circuitkd.studies.distillation_quantities import DISTILLATION_QUANTITIES, faithfulness
from synthetic_study import distillation


def read(name, of):
    return DISTILLATION_QUANTITIES[name].read(distillation(), of)


def test_accuracies():
    # Seeds are right on one and on three of four examples.
    assert read("full-accuracy", "untrained").value == 0.5
    assert read("circuit-accuracy", "untrained").value == 0.25
    assert read("random-circuit-accuracy", "untrained").value == 0.125
    assert read("full-accuracy", "teacher").value == 1.0 and read("circuit-accuracy", "teacher").value == 0.75
    found = read("full-accuracy", "untrained")
    assert found.low < 0.5 < found.high
    with pytest.raises(ValueError, match="no condition 'nothing' in this experiment"):
        read("full-accuracy", "nothing")


def test_faithfulness():
    found = read("circuit-faithfulness", "teacher")
    assert found.value == 0.75 and 0 <= found.low < 0.75 < found.high <= 1
    made = distillation()
    never = replace(made, teacher_accuracy=replace(made.teacher_accuracy, full=np.zeros(4)))
    assert math.isnan(faithfulness(never, "teacher").value)


def test_task_loss():
    assert read("task-loss", "circuit, CE + CKA of mapped pairs, step 2").value == 1.0
    assert read("task-loss", "untrained, step 2").value == 1.5  # the mean over its two seeds
    with pytest.raises(ValueError, match="'circuit, CKA of mapped pairs' has no task loss"):
        read("task-loss", "circuit, CKA of mapped pairs, step 2")
    with pytest.raises(ValueError, match="there is no logged step '3'"):
        read("task-loss", "circuit, CE, step 3")
    with pytest.raises(ValueError, match="names no step"):
        read("task-loss", "circuit, CE")


def test_p_value():
    # Both conditions are right on every example.
    assert read("p-against", "circuit, CE").value == 1.0
