"""Axes are round and hold their values; marks hold the numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuitkd.reports import strips
from circuitkd.reports.strips import Axis, axis_for
from synthetic_circuit import random_circuit
from synthetic_comparison import synthetic


@pytest.mark.parametrize(
    "values, axis",
    [
        ([0.62, 0.9, 1.0], Axis(0.6, 1.0, 0.1)),
        ([0.0, 4.07], Axis(0.0, 5.0, 1.0)),
        ([-0.3, 2.6], Axis(-1.0, 3.0, 1.0)),
        ([0.0, 12.2, 26.4], Axis(0.0, 30.0, 10.0)),
        ([float("nan"), 0.2, 0.8], Axis(0.2, 0.8, 0.2)),
    ],
)
def test_axes_are_round(values, axis):
    found = axis_for(values)
    assert (found.low, found.high, found.step) == pytest.approx((axis.low, axis.high, axis.step))


def test_an_axis_without_numbers_or_width_is_still_an_axis():
    assert axis_for([]).low < axis_for([]).high
    flat = axis_for([0.5, 0.5])
    assert flat.low <= 0.5 <= flat.high
    assert flat.high > flat.low


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=6))
def test_an_axis_holds_its_values_in_few_steps(values):
    axis = axis_for(values)
    slack = 1e-6 * max(1e-3, *map(abs, values))
    assert axis.low <= min(values) + slack
    assert axis.high >= max(values) - slack
    assert 2 <= len(axis.ticks) <= 7
    assert [at for at, _ in axis.ticks] == sorted(at for at, _ in axis.ticks)


def test_bounds_cut_the_axis():
    assert axis_for([0.71, 1.0], bounds=(-1.0, 1.0)).high == pytest.approx(1.0)
    assert axis_for([-3.0, 60.0], bounds=(0.0, 100.0)).low == 0.0


def test_positions_and_ticks():
    axis = Axis(0.5, 1.0, 0.25)
    assert (axis.at(0.75), axis.at(2.0), axis.at(0.0), axis.at(float("nan"))) == (50.0, 100.0, 0.0, 0.0)
    assert Axis(0.0, 1.0, 0.5).ticks == ((0.0, "0.0"), (50.0, "0.5"), (100.0, "1.0"))
    assert Axis(0.0, 20.0, 10.0).ticks == ((0.0, "0"), (50.0, "10"), (100.0, "20"))


def test_alignment_has_its_factors_and_nulls(comparison):
    a, null = comparison.alignment, comparison.alignment.null
    strip = strips.alignment_strip(comparison)
    values = [a.score, a.mean_similarity, a.mean_agreement, null.shuffled_mean, 0.61]
    assert [mark.value for mark in strip.marks] == values
    assert strip.marks[0].interval == a.interval
    assert strip.marks[0].text == f"{a.score:.3f} [{a.interval[0]:.3f}, {a.interval[1]:.3f}]"
    assert strip.marks[3].rug == tuple(null.shuffled_scores)
    assert strip.marks[4].note == "similarity 0.660, agreement 0.920"
    assert strip.axis.high == pytest.approx(1.0)


def test_without_an_untrained_student_there_is_no_such_row(comparison):
    null = replace(comparison.alignment.null, random_score=None)
    changed = replace(comparison, alignment=replace(comparison.alignment, null=null))
    assert [mark.label for mark in strips.alignment_strip(changed).marks][-1] == "Null: shuffled influences"


def test_performance_starts_at_zero_and_shows_accuracy(comparison):
    strip, p = strips.performance_strip(comparison), comparison.performance
    assert [mark.value for mark in strip.marks] == [p.teacher.value, p.student.value, p.gap.value, p.mean.value]
    assert strip.axis.low == 0.0
    assert strip.marks[0].note == f"accuracy {100 * comparison.teacher_sweep.accuracy.mean():.0f} %"


def test_robustness_shows_mean_drops(comparison):
    strip, r = strips.robustness_strip(comparison), comparison.robustness
    assert [(mark.value, mark.interval) for mark in strip.marks] == [
        (r.teacher.mean_drop, r.teacher.interval),
        (r.student.mean_drop, r.student.interval),
    ]


def test_a_circuits_shares_stand_above_those_of_random_ones():
    circuit = random_circuit()
    plot = strips.circuit_strip(circuit)
    assert [m.label for m in plot.marks] == [
        "Faithfulness",
        "Faithfulness of its edges alone",
        "Retained",
        "Completeness",
        "Random: faithfulness",
        "Random: completeness",
    ]
    assert plot.marks[0].text == "0.908 [0.890, 0.930]"
    assert plot.marks[4].value == pytest.approx(circuit.evaluation.random_mean("faithfulness"))
    assert plot.marks[4].rug == tuple(r.faithfulness for r in circuit.evaluation.random)
    assert plot.axis.low <= 0 and plot.axis.high >= 1
    alone = replace(circuit, edge_evaluation=None, evaluation=replace(circuit.evaluation, random=()))
    assert [m.label for m in strips.circuit_strip(alone).marks] == ["Faithfulness", "Retained", "Completeness"]
    with pytest.raises(ValueError, match="imported and never evaluated: run circuits.discovery.evaluated"):
        strips.circuit_strip(replace(circuit, evaluation=None))


def test_scores_of_several_comparisons_share_an_axis(comparison):
    other = synthetic(seed=3)
    axis = strips.score_axis([comparison, other])
    lows = [min(c.alignment.interval[0], c.alignment.null.shuffled_interval[0]) for c in (comparison, other)]
    assert axis.low <= min(lows)
    assert axis.high == pytest.approx(1.0)


def test_a_strips_numbers(comparison):
    plot = strips.alignment_strip(comparison)
    a = comparison.alignment
    assert plot.table.columns == ("quantity", plot.unit, "low (95 %)", "high (95 %)")
    assert plot.table.rows[0] == ("Alignment A", a.score, *a.interval)
    assert plot.table.rows[1] == ("mean similarity", a.mean_similarity, None, None)
