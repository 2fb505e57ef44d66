"""Differences of conditions by hand, and what may be called shown."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from circuitkd.distill.differences import difference, differences, main_condition
from circuitkd.distill.evaluation import McNemar
from synthetic_experiment import ALL_CE, CIRCUIT_CE, MAPPED, RANDOM, UNTRAINED, experiment, plain


def test_the_main_condition():
    assert main_condition(plain()) == MAPPED
    assert main_condition(experiment({UNTRAINED: (9,), "own": (9,)})) == "own"


def test_a_difference_by_hand():
    found = difference(
        experiment({ALL_CE: (10, 12, 14), MAPPED: (12, 14, 19)}), MAPPED, baseline=ALL_CE, measure="full"
    )
    assert found.values == pytest.approx((10.0, 10.0, 25.0))  # of 20 examples, in percent points
    assert found.mean == pytest.approx(15.0)
    reach = 4.302653 * math.sqrt(75 / 3)  # t(0.975, 2), and the standard error of 10, 10, 25
    assert found.interval == pytest.approx((15 - reach, 15 + reach), abs=1e-4)
    # Two, two and five examples that only one gets right: p = 0.5, 0.5, 0.0625.
    assert found.p_value == 0.5 and found.shown == "no"


def test_an_accuracy_is_shown_by_interval_and_p_together():
    apart = experiment({CIRCUIT_CE: (4, 5, 4), MAPPED: (16, 16, 16)})
    found = difference(apart, MAPPED, baseline=CIRCUIT_CE, measure="full")
    assert found.p_value < 0.001 and found.interval[0] > 0 and found.shown == "higher"
    assert difference(apart, CIRCUIT_CE, baseline=MAPPED, measure="full").shown == "lower"
    # One example more in every run: no doubt over seeds, and none of it significant over examples.
    steady = experiment({CIRCUIT_CE: (10, 10, 10), MAPPED: (11, 11, 11)})
    assert steady.tests(MAPPED, CIRCUIT_CE)[0] == McNemar(1, 0, 1.0)
    found = difference(steady, MAPPED, baseline=CIRCUIT_CE, measure="full")
    assert found.interval == pytest.approx((5.0, 5.0)) and found.shown == "no"


def test_robustness_needs_no_p():
    found = {d.baseline: d for d in differences(plain(), MAPPED, measure="mean drop")}
    assert list(found) == [ALL_CE, CIRCUIT_CE, RANDOM, UNTRAINED]
    assert found[CIRCUIT_CE].p_value is None and found[CIRCUIT_CE].shown == "higher"
    assert found[ALL_CE].shown == "no"


def test_too_few_seeds_show_nothing():
    one = difference(experiment({ALL_CE: (0,), MAPPED: (20,)}), MAPPED, baseline=ALL_CE, measure="full")
    assert one.interval is None and one.shown == "no" and one.mean == 100
    two = difference(experiment({ALL_CE: (0, 0), MAPPED: (20, 20)}), MAPPED, baseline=ALL_CE, measure="full")
    assert two.interval == (100, 100) and two.p_value < 0.001 and two.shown == "no"


def test_what_has_no_value_is_not_shown():
    drops = {MAPPED: (1.0, float("nan"), 2.0)}
    found = difference(
        experiment({ALL_CE: (9, 9, 9), MAPPED: (9, 9, 9)}, drops), MAPPED, baseline=ALL_CE, measure="mean drop"
    )
    assert math.isnan(found.mean) and found.interval is None and found.shown == "no"


def test_conditions_without_a_seed_in_common_are_refused():
    made = experiment({ALL_CE: (9,), MAPPED: (9, 9)})
    runs = tuple(r for r in made.runs if r.condition == ALL_CE or r.seed == 1)
    with pytest.raises(ValueError, match="have no seed in common: run both with the same seeds"):
        difference(replace(made, runs=runs), MAPPED, baseline=ALL_CE, measure="full")
