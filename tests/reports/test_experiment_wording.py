"""The page says that training helped only where the numbers show it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from circuitkd.distill.circuit_parameters import Untouched
from circuitkd.reports import experiment_wording as wording
from synthetic_experiment import ALL_CE, CIRCUIT_CE, MAPPED, UNTRAINED, experiment, plain

CE = "training all parameters by CE"


def told(mapped, baseline, drops=None):
    return wording.headline(experiment({ALL_CE: baseline, CIRCUIT_CE: baseline, MAPPED: mapped}, drops))


def test_help_and_harm_are_said_only_where_shown():
    assert f"Training “{MAPPED}” helps: accuracy 80.0 %, 20.0 % after {CE}" in told((16, 16, 16), (4, 4, 4))
    assert f"Training “{MAPPED}” harms: accuracy 20.0 %" in told((4, 4, 4), (16, 16, 16))
    assert f"Training “{MAPPED}” is not shown to help or harm: accuracy" in told((11, 11, 11), (10, 10, 10))
    assert f"Training “{MAPPED}” is not shown to help or harm: accuracy" in told((20, 4, 4), (4, 4, 4))


def test_baselines_that_differ_are_told_apart():
    made = experiment({ALL_CE: (4, 4, 4), CIRCUIT_CE: (16, 16, 16), MAPPED: (16, 16, 16)})
    assert (
        f"Training “{MAPPED}” is better than {CE} and is not shown to differ from training the circuit by CE: "
    ) in wording.headline(made)


def test_robustness():
    text = wording.headline(plain())
    assert (
        f"The student is not shown to differ in robustness from one after {CE} and is more fragile than after " in text
    )
    assert "a mean drop of 21.1 %, 21.3 % after training all parameters by CE and 18.0 % after training the" in text
    drops = {ALL_CE: (9.0, 9.1, 9.2), CIRCUIT_CE: (9.0, 9.1, 9.2), MAPPED: (5.0, 5.0, 5.0)}
    assert "It leaves the student less fragile: a mean drop of 5.0 %" in told((9, 9, 9), (9, 9, 9), drops)
    assert "robustness is not shown to differ" in told((9, 9, 9), (9, 9, 9))


def test_few_seeds_are_named():
    assert told((20,), (0,)).endswith("1 seed is too few to show a difference: 3 are needed.")
    assert told((20, 20), (0, 0)).endswith("2 seeds are too few to show a difference: 3 are needed.")
    assert "helps" not in told((20, 20), (0, 0))


def test_without_a_baseline_nothing_is_claimed():
    made = experiment({UNTRAINED: (4, 4, 4), MAPPED: (16, 16, 16)})
    assert wording.headline(made).startswith(f"There is no baseline to hold “{MAPPED}” against")


@pytest.mark.parametrize("measure", ["full", "mean drop"])
def test_strips_hold_the_differences(measure):
    strip = wording.difference_strip(plain(), measure=measure)
    assert [m.label for m in strip.marks][:2] == [f"− {ALL_CE}", f"− {CIRCUIT_CE}"]
    assert strip.axis.low <= 0 <= strip.axis.high
    mark = strip.marks[1]
    if measure == "full":
        assert mark.text.startswith("0.0 [") and mark.text.endswith(", p 1.000") and mark.note == "not shown"
    else:
        assert mark.text.startswith("+3.1 [") and mark.note == "higher"


def test_signs():
    assert [wording.signed(v) for v in (1.25, -1.25, 0.0, -0.01, float("nan"))] == ["+1.2", "-1.2", "0.0", "0.0", "n/a"]


def test_what_was_trained_and_what_was_not():
    made = plain()
    assert wording.trained(made) == (
        "3 heads of the student (38 % of its heads, 12.5 % of its parameters) are trained towards 2 different heads of the "
        "teacher."
    )
    assert "In all 12 runs that trained a circuit, the 12 345 values outside it are bit for bit" in wording.untouched(
        made
    )
    moved = tuple(replace(r, untouched=Untouched("a", "b", 7)) if r.condition == MAPPED else r for r in made.runs)
    assert wording.untouched(replace(made, runs=moved)).startswith(
        "In 3 of 12 runs that trained a circuit, values outside"
    )
    assert "nothing to leave untouched" in wording.untouched(experiment({UNTRAINED: (9,), ALL_CE: (9,)}))
