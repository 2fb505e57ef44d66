"""What the sentences claim, and when they stop claiming it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from circuitkd.comparison.kept import kept_components
from circuitkd.comparison.performance import Estimate
from circuitkd.reports import wording


def with_null(c, **changes):
    return replace(c, alignment=replace(c.alignment, null=replace(c.alignment.null, **changes)))


def with_slope(c, interval):
    return replace(c, robustness=replace(c.robustness, slope=replace(c.robustness.slope, interval=interval)))


def with_student(c, estimate):
    return replace(c, performance=replace(c.performance, student=estimate))


def test_numbers():
    assert wording.fixed(-0.004) == "0.00"
    assert wording.fixed(-0.006) == "-0.01"
    assert wording.fixed(float("nan")) == wording.fixed(None) == wording.percent(float("inf")) == "n/a"
    assert wording.percent(12.25, 0) == "12 %"
    assert [wording.count(n) for n in (999, 1000, 124_439_808, 8_030_000_000)] == ["999", "1.0 K", "124.4 M", "8.0 B"]
    assert wording.with_interval(0.5, (-0.25, 1), digits=2) == "0.50 [-0.25, 1.00]"
    assert wording.estimate(Estimate(1.0, 0.5, 1.5), digits=1) == "1.0 [0.5, 1.5]"


def test_short_names_keep_models_apart():
    assert wording.short_names("org/gpt2", "/models/distilgpt2/") == ("gpt2", "distilgpt2")
    assert wording.short_names("a/model", "b/model") == ("a/model", "b/model")
    assert wording.short_names("gpt2", "gpt2") == ("gpt2", "gpt2")


@pytest.mark.parametrize(
    "share, says",
    [
        (0.0, "none of 200 shuffles reaches it"),
        (0.05, "5 % of 200 shuffles reach it"),
        (0.485, "48.5 % of 200 shuffles reach it"),
        (float("nan"), "no shuffles were drawn"),
    ],
)
def test_share_of_shuffles(comparison, share, says):
    assert wording.reached(with_null(comparison, shuffled_share_at_least=share).alignment.null) == says


def test_without_shuffles_nothing_is_said_of_them(comparison):
    null = with_null(comparison, shuffled_scores=np.zeros(0), shuffled_share_at_least=0.0).alignment.null
    assert wording.reached(null) == "no shuffles were drawn"


@pytest.mark.parametrize("share, agrees", [(0.0, True), (0.05, True), (0.055, False), (float("nan"), False)])
def test_agreement_is_claimed_only_where_shuffles_rarely_reach_the_score(comparison, share, agrees):
    text = wording.headline(with_null(comparison, shuffled_share_at_least=share, shuffled_mean=0.5))
    assert text.startswith("Matched components agree in influence more than shuffled ones") is agrees
    assert ("are not shown to agree" in text) is not agrees
    assert f"alignment {comparison.alignment.score:.3f} against 0.500" in text


def test_how_many_influential_components_are_kept(comparison):
    kept = kept_components(comparison)
    assert wording.kept_sentence(comparison) == (
        f"Of the teacher’s {len(kept.components)} influential components the student keeps {kept.count} "
        f"({kept.expected:.1f} by chance)."
    )
    assert wording.kept_sentence(with_null(comparison, random_largest=None)) == ""
    assert wording.kept_sentence(with_student(comparison, Estimate(0.1, -0.2, 0.4))) == ""


def test_an_untrained_student_that_scores_as_high_is_mentioned(comparison):
    low, high = comparison.alignment.interval
    assert "an untrained student scores" not in wording.headline(with_null(comparison, random_score=low - 0.01))
    assert f"an untrained student scores {high:.3f}" in wording.headline(with_null(comparison, random_score=high))
    assert "an untrained student scores" not in wording.headline(with_null(comparison, random_score=None))


@pytest.mark.parametrize(
    "interval, says",
    [
        ((0.1, 5.0), "the student is more fragile"),
        ((-5.0, -0.1), "the student is less fragile"),
        ((-0.1, 5.0), "no difference in fragility is shown"),
        ((0.0, 5.0), "no difference in fragility is shown"),
    ],
)
def test_fragility_follows_the_interval_of_the_difference(comparison, interval, says):
    text = wording.headline(with_slope(comparison, interval))
    assert says in text
    assert f"{comparison.robustness.student.mean_drop:.1f} % of its logit difference on average" in text
    assert f"{comparison.robustness.teacher.mean_drop:.1f} % in the teacher" in text


@pytest.mark.parametrize("student, says", [((4.1, 6.0), "more fragile"), ((3.9, 6.0), "no difference in fragility")])
def test_without_a_slope_the_two_intervals_must_be_apart(comparison, student, says):
    sides = comparison.robustness
    changed = replace(
        sides,
        slope=None,
        teacher=replace(sides.teacher, interval=(2.0, 4.0)),
        student=replace(sides.student, interval=student),
    )
    assert says in wording.headline(replace(comparison, robustness=changed))
    assert wording.slope_text(changed) == (
        "No slope: the student has no fewer parameters than the teacher (bits for each are not counted)."
    )


def test_the_slope_is_given_per_tenth_of_compression(comparison):
    text = wording.slope_text(with_slope(comparison, (-10.0, 40.0)).robustness)
    slope = comparison.robustness.slope
    assert text.startswith(f"{slope.per_unit / 10:.2f} [-1.00, 4.00] points")
    assert f"{100 * slope.compression:.1f} % fewer parameters" in text


@pytest.mark.parametrize("low", [-0.2, 0.0, float("nan")])
def test_of_a_student_that_does_not_do_the_task_nothing_is_claimed(comparison, low):
    text = wording.headline(with_student(comparison, Estimate(0.1, low, 0.4)))
    assert text.startswith("No logit difference above 0 is shown for the student (0.10 [")
    assert "teacher (" not in text
    assert "fragile" not in text


def test_both_models_are_named_where_neither_does_the_task(comparison):
    none = Estimate(0.0, -1.0, 1.0)
    both = replace(comparison.performance, teacher=none, student=none)
    assert "for the teacher (0.00 [-1.00, 1.00]) and the student (0.00" in wording.headline(
        replace(comparison, performance=both)
    )


def test_the_strongest_pair_is_described(comparison):
    pair = max(comparison.alignment.pairs, key=lambda p: p.teacher_influence)
    text = wording.strongest(comparison)
    assert f"{pair.teacher}, is matched to the student’s {pair.student} (similarity {pair.similarity:.2f})" in text
    assert f"its influence is 1.00, that of {pair.student} {pair.student_influence:.2f}." in text


def test_without_influence_or_pairs_no_strongest_pair_is_made_up(comparison):
    idle = tuple(replace(p, teacher_influence=0.0) for p in comparison.alignment.pairs)
    for pairs, says in ((idle, "No matched component of the teacher has any influence"), ((), "No components are")):
        changed = replace(comparison, alignment=replace(comparison.alignment, pairs=pairs))
        assert wording.strongest(changed).startswith(says)


def test_warnings_come_once_with_the_model_they_are_about(comparison):
    sweeps = {
        "teacher_sweep": replace(comparison.teacher_sweep, warnings=("low base", "few examples")),
        "student_sweep": replace(comparison.student_sweep, warnings=("few examples",)),
    }
    changed = replace(comparison, warnings=("org/teacher: low base", "odd"), **sweeps)
    assert wording.warnings(changed) == (
        "org/teacher: low base",
        "odd",
        "teacher: few examples",
        "student: few examples",
    )


def test_positions_are_named_as_people_read_them():
    names = ("ĠMary", "1", "7", "Ċ", "▁the", "", "<s>")
    assert wording.place_names(names) == ("Mary", "(1)", "7", "⏎", "the", "␣", "<s>")
