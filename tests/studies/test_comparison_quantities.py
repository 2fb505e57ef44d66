"""Quantities of comparisons and noise curves, against the results they are read off."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from circuitkd.comparison.performance import Estimate
from circuitkd.studies.comparison_quantities import COMPARISON_QUANTITIES, component_drop, drop_difference, gap
from synthetic_comparison import synthetic
from synthetic_study import noise


def read(name, result, of=""):
    return COMPARISON_QUANTITIES[name].read(result, of)


@pytest.fixture(scope="module")
def c():
    return synthetic()


def test_scores_and_performance(c):
    assert read("alignment", c) == Estimate(c.alignment.score, *c.alignment.interval)
    assert read("teacher-logit-difference", c) == c.performance.teacher
    assert read("student-logit-difference", c) == c.performance.student
    assert read("mean-logit-difference", c) == c.performance.mean
    assert read("variant", c, "l2+hungarian").value == c.variants["l2+hungarian"]
    with pytest.raises(ValueError, match="there is no variant 'l2\\+nearst': did you mean 'l2\\+nearest'"):
        read("variant", c, "l2+nearst")
    with pytest.raises(ValueError, match="the comparison was made without a preset"):
        read("notebook-alignment", c)


def test_the_gap_has_no_sign(c):
    turned = replace(c, performance=replace(c.performance, gap=Estimate(-0.7, -1.0, 0.2)))
    assert gap(turned) == Estimate(0.7, -0.2, 1.0)
    assert gap(replace(c, performance=replace(c.performance, gap=Estimate(0.7, 0.2, 1.0)))) == Estimate(0.7, 0.2, 1.0)


def test_drops(c):
    teacher, student = c.robustness.teacher, c.robustness.student
    assert read("teacher-mean-drop", c) == Estimate(teacher.mean_drop, *teacher.interval)
    assert read("student-mean-drop", c) == Estimate(student.mean_drop, *student.interval)
    found = drop_difference(c)
    assert found.value == student.mean_drop - teacher.mean_drop
    slope = c.robustness.slope
    assert (found.low, found.high) == pytest.approx([slope.compression * x for x in slope.interval])
    assert read("slope", c).value == pytest.approx(slope.per_unit / 10)
    level = replace(c, robustness=replace(c.robustness, slope=None))
    assert math.isnan(drop_difference(level).low)
    with pytest.raises(ValueError, match="the student is not smaller than the teacher"):
        read("slope", level)


def test_one_components_drop(c):
    sweep = c.teacher_sweep
    found = component_drop(sweep, "L1H2")
    assert found.value == pytest.approx(100 - sweep.retained_percent[sweep.components.index(sweep.components[6])])
    assert str(sweep.components[6]) == "L1H2" and found.low < found.value < found.high
    assert read("teacher-drop", c, "L1H2") == found and read("student-drop", c, "MLP0").value != found.value
    flat = replace(sweep, base=np.zeros_like(sweep.base))
    assert math.isnan(component_drop(flat, "L1H2").value)
    with pytest.raises(ValueError, match="L9H9 is not among"):
        read("teacher-drop", c, "L9H9")


def test_shares_above(c):
    lost = 100 - c.student_sweep.retained_percent
    assert read("student-share-above", c, "10").value == pytest.approx(100 * np.mean(lost > 10))
    assert read("teacher-share-above", c, "0").value == pytest.approx(100 * np.mean(c.teacher_sweep.drops > 0))
    with pytest.raises(ValueError, match="'above ten' names no above"):
        read("teacher-share-above", c, "ten")


def test_mlp_similarity(c):
    assert read("mlp-similarity", c, "MLP3->MLP1").value == pytest.approx(c.similarity.mlp[3, 1])
    with pytest.raises(ValueError, match="there is no MLP 'MLP2'"):
        read("mlp-similarity", c, "MLP3->MLP2")


def test_noise():
    assert read("noise-alignment", noise(), "0.5").value == pytest.approx(0.3)
    with pytest.raises(ValueError, match="there is no standard deviation '1'"):
        read("noise-alignment", noise(), "1")
