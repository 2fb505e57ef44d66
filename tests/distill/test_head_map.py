"""Mapping by hand, against brute-force ablation, and every message."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from circuitkd.circuits.circuit import Circuit, ModelShape
from circuitkd.comparison.cka import cka as cka_of_arrays
from circuitkd.components import Component
from circuitkd.distill.head_map import (
    HeadMap,
    activations,
    check_pairs,
    choose_heads,
    head_similarity,
    impacts,
    map_heads,
    map_pairs,
    random_pairs,
)
from circuitkd.interventions.sweep import sweep
from circuitkd.models.hooks import hooked_logits
from distill_cases import shared_pair
from oracle import replacement


def heads(*names):
    return tuple(Component.parse(n) for n in names)


def every(model):
    return tuple(c for c in model.components if c.kind == "head")


@pytest.fixture(scope="module")
def pair():
    return shared_pair("llama")


@pytest.fixture(scope="module")
def sides(pair):
    return (pair.teacher, pair.bound[0]), (pair.student, pair.bound[1])


def test_nearest_impact_by_hand():
    found = map_heads(student_impact=[0.30, 0.05, -0.2, 0.9], teacher_impact=[0.1, 0.5, 0.0, -0.4, 0.31])
    assert found.tolist() == [4, 0, 2, 1]


def test_ties_go_to_the_first_head():
    assert map_heads(student_impact=[0.1], teacher_impact=[0.3, 0.2, 0.0, 0.2]).tolist() == [1]
    assert map_heads(student_impact=[0.0], teacher_impact=[0.1 + 0.2, 0.3]).tolist() == [0]


@pytest.mark.parametrize("values", [[], [float("nan")]])
def test_impacts_must_be_numbers(values):
    with pytest.raises(ValueError, match="student impact (is empty|holds NaN)"):
        map_heads(student_impact=values, teacher_impact=[0.1])
    with pytest.raises(ValueError, match="teacher impact (is empty|holds NaN)"):
        map_heads(student_impact=[0.1], teacher_impact=values)


def ablated(model, bound, head):
    """Logits [example, vocab] at the answer with one head at its mean over corrupted prompts (None: none)."""
    values = replacement(model, bound, "mean-positional")
    found = []
    for e in bound.examples:
        edits = {}
        if head is not None:
            here = slice(head.head * model.d_head, (head.head + 1) * model.d_head)
            new = values(e)["z", head.layer][:, here][None]
            edits[head] = lambda old, new=new: new
        with torch.no_grad():
            logits = hooked_logits(model, torch.tensor([e.clean]), torch.tensor([len(e.clean)]), edits)
        found.append(logits[0, e.answer_position].double())
    return torch.stack(found)


def test_impacts_are_the_papers(sides):
    """Both against the student's baseline, by brute force."""
    (teacher, teacher_task), (student, student_task) = sides
    chosen = heads("L0H1", "L1H0", "L1H3")

    def log_probability(model, bound, head):
        found = ablated(model, bound, head).log_softmax(-1)
        return float(
            torch.stack([p[list(e.answers)].logsumexp(0) for p, e in zip(found, bound.examples, strict=True)]).mean()
        )

    base = log_probability(student, student_task, None)
    ours, theirs = impacts(*sides, heads=chosen, performance="log-probability")
    wanted = [base - log_probability(student, student_task, h) for h in chosen]
    np.testing.assert_allclose(ours, wanted, atol=1e-4)
    some = [0, 5, 11]
    wanted = [base - log_probability(teacher, teacher_task, every(teacher)[i]) for i in some]
    np.testing.assert_allclose(theirs[some], wanted, atol=1e-4)


def test_accuracy_is_the_default(sides):
    (_, _), (student, bound) = sides
    ours, _ = impacts(*sides, heads=heads("L1H0"))
    right = [
        np.mean(
            [int(row.argmax()) in e.answers for row, e in zip(ablated(student, bound, h), bound.examples, strict=True)]
        )
        for h in (None, *heads("L1H0"))
    ]
    assert ours[0] == pytest.approx(right[0] - right[1])


def test_logit_differences_have_their_own_baselines_and_scale(sides):
    chosen = every(sides[1][0])
    ours, theirs = impacts(*sides, heads=chosen, performance="logit-difference")
    for (model, bound), found in zip(sides, (theirs, ours), strict=True):
        drops = sweep(model, bound).drops[: len(found)]
        np.testing.assert_allclose(found, drops / np.abs(drops).max(), atol=1e-5)


def test_a_map_by_impact(sides):
    chosen = heads("L0H2", "L1H1")
    found = map_pairs(*sides, heads=chosen, performance="log-probability")
    ours, theirs = impacts(*sides, heads=chosen, performance="log-probability")
    picked = map_heads(student_impact=ours, teacher_impact=theirs)
    assert found.student == chosen
    assert found.teacher == tuple(every(sides[0][0])[i] for i in picked)
    assert found.pairs == tuple(zip(chosen, found.teacher, strict=True))
    assert found.distance == pytest.approx(np.abs(ours - theirs[picked]))
    assert found.teacher_impact == pytest.approx(theirs[picked])
    assert "P: log-probability" in found.definition


def test_one_to_one_uses_each_teacher_head_once(sides):
    chosen = every(sides[1][0])
    free = map_pairs(*sides, heads=chosen, performance="logit-difference")
    found = map_pairs(*sides, heads=chosen, method="one-to-one", performance="logit-difference")
    assert found.distinct == len(chosen) >= free.distinct
    assert sum(found.distance) >= sum(free.distance)
    back = (sides[1], sides[0])
    with pytest.raises(ValueError, match="12 student heads cannot go one-to-one to 8 teacher heads: select fewer"):
        map_pairs(*back, heads=every(sides[0][0]), method="one-to-one")


def test_a_map_by_similarity_finds_copies(sides):
    student = sides[1]
    found = map_pairs(student, student, heads=heads("L1H2", "L0H3"), method="similarity")
    assert found.teacher == found.student
    assert found.distance == pytest.approx((0.0, 0.0), abs=1e-5)
    similar = head_similarity(*sides, heads=heads("L1H2"))
    z = [activations(*side, heads=chosen) for side, chosen in zip(sides, (heads("L2H1"), heads("L1H2")), strict=True)]
    row = every(sides[0][0]).index(heads("L2H1")[0])
    assert similar[row, 0] == pytest.approx(cka_of_arrays(z[0][0], z[1][0], debiased=True))


def test_random_pairs(pair):
    chosen = every(pair.student)
    found = random_pairs(pair.teacher, chosen, seed=1)
    assert found.student == chosen and found.distinct == 8
    assert found == random_pairs(pair.teacher, chosen, seed=1) or np.isnan(found.distance[0])
    assert found.teacher == random_pairs(pair.teacher, chosen, seed=1).teacher
    assert found.teacher != random_pairs(pair.teacher, chosen, seed=2).teacher
    drawn = {random_pairs(pair.teacher, chosen[:1], seed=s).teacher[0] for s in range(60)}
    assert len(drawn) > 8
    assert len(random_pairs(pair.student, every(pair.teacher), seed=0).teacher) == 12
    with pytest.raises(ValueError, match="no heads are selected: name at least one head"):
        random_pairs(pair.teacher, (), seed=0)


def test_unknown_methods_and_measures(sides):
    with pytest.raises(
        ValueError, match="unknown method of mapping heads 'random': choose one of impact, one-to-one, sim"
    ):
        map_pairs(*sides, heads=heads("L0H0"), method="random")
    with pytest.raises(ValueError, match="unknown measure of performance 'speed'"):
        map_pairs(*sides, heads=heads("L0H0"), performance="speed")


def test_few_teacher_heads_are_a_warning():
    def mapped(*teacher):
        nothing = (0.0,) * len(teacher)
        return HeadMap("impact", "", heads(*[f"L0H{i}" for i in range(len(teacher))]), heads(*teacher), *[nothing] * 3)

    assert mapped("L0H0", "L0H0", "L0H1").warnings == ()
    assert mapped("L0H0", "L0H0", "L0H0").warnings[0].startswith("3 student heads are mapped to only 1 teacher heads")


def test_choosing_heads(pair):
    model, found = pair.student, sweep(pair.student, pair.bound[1])
    assert choose_heads(model, ["L1H2", Component.parse("L0H3"), "1.2"]) == heads("L0H3", "L1H2")
    drops = found.drops[:8]
    best = {str(found.components[i]) for i in np.argsort(-drops)[:3]}
    assert {str(c) for c in choose_heads(model, 3, effects=found)} == best
    circuit = Circuit(ModelShape.of(model), "t", heads("L1H1", "L0H0", "MLP1"))
    assert choose_heads(model, circuit) == heads("L0H0", "L1H1")


def test_wrong_heads(pair):
    model = pair.student
    for which in ([], Circuit(ModelShape.of(model), "t", heads("MLP0"))):
        with pytest.raises(ValueError, match="no heads are selected: name at least one head, or a number of heads"):
            choose_heads(model, which)
    for n in (0, 9):
        with pytest.raises(ValueError, match=f"no heads are selected: choose 1 to 8 heads of tiny-llama, not {n}"):
            choose_heads(model, n)
    with pytest.raises(ValueError, match="the 2 most influential heads are known only after a sweep: pass effects"):
        choose_heads(model, 2)
    with pytest.raises(ValueError, match="tiny-llama has no head L2H0, MLP0: its heads are L0H0 to L1H3"):
        choose_heads(model, ["L2H0", "MLP0", "L0H0"])
    foreign = Circuit(replace(ModelShape.of(model), fingerprint="other"), "t", heads("L0H0"))
    with pytest.raises(ValueError, match="this circuit belongs to"):
        choose_heads(model, foreign)


def test_pairs_of_missing_heads(pair):
    good = tuple(zip(heads("L1H3"), heads("L2H3"), strict=True))
    check_pairs(pair.teacher, pair.student, pairs=good)
    with pytest.raises(
        ValueError, match=r"the pairs name L2H3, which the student tiny-llama does not have: .* \(student"
    ):
        check_pairs(pair.teacher, pair.student, pairs=[(b, a) for a, b in good])
    with pytest.raises(ValueError, match="the pairs name L3H0, MLP0, which the teacher tiny-llama does not have"):
        check_pairs(
            pair.teacher, pair.student, pairs=list(zip(heads("L0H0", "L0H0"), heads("L3H0", "MLP0"), strict=True))
        )
