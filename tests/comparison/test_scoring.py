"""The score of two sweeps, with the numbers that stand beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from circuitkd.comparison.alignment import InfluenceOptions, PairScore
from circuitkd.comparison.pair_similarity import Measures, Similarity
from circuitkd.comparison.pairs import MatchOptions, TypedSimilarity
from circuitkd.comparison.scoring import ScoreOptions, align, by_measure, definition, score
from circuitkd.components import model_components
from circuitkd.interventions.sweep_result import SweepResult


def swept(drops, *, layers, heads, examples=6, seed=0):
    """A sweep with these mean effects."""
    rng = np.random.default_rng(seed)
    spread = rng.normal(size=(len(drops), examples))
    effects = np.array(drops)[:, None] + 0.3 * (spread - spread.mean(axis=1, keepdims=True))
    ids = tuple(f"e{i}" for i in range(examples))
    ones = np.ones(examples)
    return SweepResult("m", "t", model_components(layers, heads), ids, 5 * ones, effects, ones, 1.0, "zero")


TEACHER = swept([4.0, 1.0, -1.0, 2.0, 3.0, 0.5], layers=2, heads=2)
STUDENT = swept([2.0, 0.0, 1.0], layers=1, heads=2, seed=1)
HEAD = np.array([[0.9, 0.1], [0.3, 0.8], [0.2, 0.6], [0.7, 0.4]])
MLP = np.array([[0.5], [0.25]])
SIMILARITY = Similarity(HEAD, MLP, "heads measure", "mlps measure", {"head cka": HEAD / 2, "mlp cka": 1 - MLP}, True)
EFFECTS = TEACHER.drops, STUDENT.drops


def test_by_hand():
    """Influences 1 .25 0 .5 | .75 .125 and 1 0 | .5; the heads go to 0 1 1 0, both MLPs to 0."""
    found = align(TEACHER, STUDENT, similarity=SIMILARITY, options=ScoreOptions())
    agreement = [1.0, 0.75, 1.0, 0.5, 0.75, 0.625]
    similar = [0.9, 0.8, 0.6, 0.7, 0.5, 0.25]
    assert found.score == pytest.approx(np.mean(np.multiply(similar, agreement)))
    assert found.mean_similarity == pytest.approx(np.mean(similar))
    assert found.mean_agreement == pytest.approx(np.mean(agreement))
    assert found.head.score == pytest.approx(np.mean(np.multiply(similar, agreement)[:4]))
    assert found.mlp.mean_agreement == pytest.approx(0.6875)
    pairs = [(str(p.teacher), str(p.student), p.weight) for p in found.pairs]
    assert pairs == [
        ("L0H0", "L0H0", 1.0),
        ("L0H1", "L0H1", 1.0),
        ("L1H0", "L0H1", 1.0),
        ("L1H1", "L0H0", 1.0),
        ("MLP0", "MLP0", 1.0),
        ("MLP1", "MLP0", 1.0),
    ]
    np.testing.assert_allclose([p.teacher_influence for p in found.pairs], [1, 0.25, 0, 0.5, 0.75, 0.125])
    np.testing.assert_allclose([p.student_influence for p in found.pairs], [1, 0, 0, 1, 0.5, 0.5])
    np.testing.assert_allclose([p.agreement for p in found.pairs], agreement)
    np.testing.assert_allclose([p.contribution for p in found.pairs], np.multiply(similar, agreement))
    assert found.comparable
    assert found.interval[0] < found.score < found.interval[1]
    assert found.agreement_interval[0] < found.mean_agreement < found.agreement_interval[1]


@pytest.mark.parametrize(
    "matching",
    [
        MatchOptions(),
        MatchOptions(method="soft-top-k", k=2),
        MatchOptions(method="hungarian"),
        MatchOptions(direction="student-to-teacher"),
        MatchOptions(top=2),
    ],
)
def test_the_score_is_the_weighted_mean_of_the_contributions(matching):
    found = align(TEACHER, STUDENT, similarity=SIMILARITY, options=ScoreOptions(matching=matching))
    weights = np.array([p.weight for p in found.pairs])
    assert found.score == pytest.approx(float(weights @ [p.contribution for p in found.pairs] / weights.sum()))
    assert found.mean_similarity == pytest.approx(float(weights @ [p.similarity for p in found.pairs] / weights.sum()))
    assert found.comparable == (matching == MatchOptions())


def test_only_the_most_influential_of_both():
    """Teacher: L0H0 (4), MLP0 (3); student: L0H0 (2), MLP0 (1)."""
    found = align(TEACHER, STUDENT, similarity=SIMILARITY, options=ScoreOptions(matching=MatchOptions(top=2)))
    assert [(str(p.teacher), str(p.student)) for p in found.pairs] == [("L0H0", "L0H0"), ("MLP0", "MLP0")]
    assert found.score == pytest.approx((0.9 + 0.5 * 0.75) / 2)
    alone = align(TEACHER, STUDENT, similarity=SIMILARITY, options=ScoreOptions(matching=MatchOptions(top=1)))
    assert (len(alone.pairs), alone.mlp, alone.head.score) == (1, None, pytest.approx(0.9))


def test_null_scores():
    random = PairScore(0.25, 0.5, 0.6)
    found = align(TEACHER, STUDENT, similarity=SIMILARITY, options=ScoreOptions(), random_student=random).null
    assert found.random_largest is None
    assert (found.random_score, found.random_similarity, found.random_agreement) == (0.25, 0.5, 0.6)
    assert len(found.shuffled_scores) == 200
    assert found.shuffled_mean == pytest.approx(found.shuffled_scores.mean())
    assert found.shuffled_interval == tuple(np.percentile(found.shuffled_scores, (2.5, 97.5)))
    actual = align(TEACHER, STUDENT, similarity=SIMILARITY, options=ScoreOptions())
    share = (found.shuffled_scores >= actual.score - 1e-12).mean()
    assert found.shuffled_share_at_least == pytest.approx(share)
    assert (actual.null.random_score, actual.null.random_similarity, actual.null.random_agreement) == (None,) * 3


def test_each_type_under_each_measure():
    found = by_measure(SIMILARITY, EFFECTS, options=ScoreOptions())
    used = score(SIMILARITY, EFFECTS, options=ScoreOptions())
    cka = score(TypedSimilarity(HEAD / 2, 1 - MLP), EFFECTS, options=ScoreOptions())
    assert found == {
        "heads, heads measure": used.head,
        "heads, debiased linear CKA of z": cka.head,
        "MLPs, mlps measure": used.mlp,
        "MLPs, debiased linear CKA of MLP outputs": cka.mlp,
    }
    assert cka.head.score == pytest.approx(used.head.score / 2)
    only_heads = by_measure(SIMILARITY, EFFECTS, options=ScoreOptions(matching=MatchOptions(top=1)))
    assert list(only_heads) == ["heads, heads measure", "heads, debiased linear CKA of z"]


def test_the_definition_says_what_was_chosen():
    assert definition(SIMILARITY, ScoreOptions()) == (
        "A = mean over matched pairs of S (1 - |I_T - I_S|); S of heads: heads measure; S of MLPs: mlps measure; "
        "I: max(0, mean effect) in logits, max normalised over all components; "
        "matching: nearest, teacher-to-student"
    )
    other = ScoreOptions(
        matching=MatchOptions("soft-top-k", "student-to-teacher", top=7),
        influences=InfluenceOptions(None, "pairs", absolute=True),
    )
    assert definition(SIMILARITY, other).endswith(
        "I: |mean effect| in logits, not normalised; matching: soft-top-k, student-to-teacher, top 7 components of both"
    )


@pytest.mark.parametrize(
    "options, comparable",
    [
        (ScoreOptions(), True),
        (ScoreOptions(influences=InfluenceOptions("l1")), False),
        (ScoreOptions(influences=InfluenceOptions(absolute=True)), False),
        (ScoreOptions(matching=MatchOptions("hungarian")), False),
    ],
)
def test_only_the_papers_definition_is_comparable_with_it(options, comparable):
    assert align(TEACHER, STUDENT, similarity=SIMILARITY, options=options).comparable == comparable
    other = replace(SIMILARITY, is_paper=False)
    assert not align(TEACHER, STUDENT, similarity=other, options=options).comparable


@pytest.mark.parametrize(
    "matching, message",
    [
        (
            MatchOptions(method="closest"),
            "unknown matching method 'closest': choose one of nearest, hungarian, soft-top-k",
        ),
        (MatchOptions(direction="up"), "unknown direction 'up': choose one of teacher-to-student, student-to-teacher"),
        (MatchOptions(k=0), "k must be at least 1, got 0"),
        (MatchOptions(temperature=0.0), "temperature must be above 0, got 0.0"),
        (MatchOptions(top=0), "top must be at least 1, got 0"),
    ],
)
def test_a_matching_that_does_not_exist_is_refused_at_once(matching, message):
    with pytest.raises(ValueError, match=message):
        ScoreOptions(matching=matching)


def test_measures_are_part_of_the_options():
    assert ScoreOptions().measures == Measures("pattern", "auto")
