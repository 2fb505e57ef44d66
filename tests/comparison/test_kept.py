"""What counts as kept, by hand on a made-up pair: four teacher heads, three student heads, no MLPs that matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from circuitkd.comparison.kept import best_matches, kept_components
from circuitkd.comparison.result import MatchedPair
from circuitkd.components import Component
from synthetic_comparison import synthetic

LARGEST = 0.7  # similarity to an untrained student, for all


def head(name):
    return Component.parse(name)


def pair(teacher, student, similarity, weight=1.0):
    return MatchedPair(head(teacher), head(student), weight, similarity, 0.0, 0.0, 0.0, 0.0)


def with_effects(sweep, effects):
    """The sweep with these mean effects by name, all others 0; every example the same."""
    means = np.array([effects.get(str(c), 0.0) for c in sweep.components])
    return replace(sweep, effects=np.repeat(means[:, None], sweep.effects.shape[1], axis=1))


@pytest.fixture(scope="module")
def comparison():
    made = synthetic()
    pairs = (
        pair("L0H0", "L0H0", 0.9),  # alike, with all of its influence
        pair("L0H1", "L0H1", 0.9),  # alike, with a quarter of it
        pair("L0H2", "L0H0", 0.6),  # like any untrained head
        pair("L0H3", "L0H0", 0.9),  # not influential
    )
    null = replace(made.alignment.null, random_largest=np.full(20, LARGEST))
    return replace(
        made,
        teacher_sweep=with_effects(
            made.teacher_sweep, {"L0H0": 2.0, "L0H1": 1.6, "L0H2": 1.0, "L1H0": 0.4, "L0H3": 0.1}
        ),
        student_sweep=with_effects(made.student_sweep, {"L0H0": 1.0, "L0H1": 0.2, "L1H0": 0.6}),
        alignment=replace(made.alignment, pairs=pairs, null=null),
    )


def test_what_is_kept(comparison):
    kept = kept_components(comparison)
    assert [str(c.teacher) for c in kept.components] == ["L0H0", "L0H1", "L0H2", "L1H0"]
    first, second, third, fourth = kept.components
    assert (first.influence, first.match_influence, first.is_alike, first.is_kept) == (1.0, 1.0, True, True)
    assert (second.influence, second.match_influence) == pytest.approx((0.8, 0.2))
    assert (second.is_alike, second.is_kept) == (True, False)
    assert (third.is_alike, third.is_kept) == (False, False)
    assert (fourth.match, fourth.is_kept) == (None, False)
    assert [c.state for c in kept.components] == ["kept", "weak", "unlike", "unlike"]
    assert kept.count == 1


def test_what_chance_would_keep(comparison):
    kept = kept_components(comparison)
    # Of the student's 8 heads one has an influence of at least 0.5, and two at least 0.4 (1.0 and 0.6).
    assert [c.chance for c in kept.components] == [2 / 8, 2 / 8, 0.0, 0.0]
    assert kept.expected == pytest.approx(0.5)


def test_half_is_enough_and_less_is_not(comparison):
    def kept(effect):
        sweep = with_effects(comparison.student_sweep, {"L0H0": 1.0, "L0H1": effect})
        return kept_components(replace(comparison, student_sweep=sweep)).components[1].is_kept

    assert kept(0.4) and not kept(0.39)


def test_the_pair_of_largest_weight_counts(comparison):
    pairs = (pair("L0H0", "L1H1", 0.95, 0.2), pair("L0H0", "L0H2", 0.8, 0.5), pair("L0H0", "L0H0", 0.9, 0.5))
    several = replace(comparison, alignment=replace(comparison.alignment, pairs=pairs))
    assert best_matches(several.alignment.pairs) == {head("L0H0"): pairs[2]}


def test_without_an_untrained_student_nothing_is_said(comparison):
    null = replace(comparison.alignment.null, random_largest=None)
    assert kept_components(replace(comparison, alignment=replace(comparison.alignment, null=null))) is None
