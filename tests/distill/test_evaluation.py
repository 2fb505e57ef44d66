"""Circuit accuracy against hooked forwards, and McNemar's test by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import circuitkd as ck
from circuitkd.comparison import pair_similarity
from circuitkd.comparison.cka import cka as cka_of_arrays
from circuitkd.components import Component
from circuitkd.distill.data import collate, rows_of
from circuitkd.distill.evaluation import CircuitAccuracy, Scorer, circuit_accuracy, fit, mcnemar, right_answers
from circuitkd.distill.signals import LiveTeacher, Needs
from circuitkd.distill.student import head_rows, run_student
from circuitkd.interventions.execution import Execution
from circuitkd.models.hooks import hooked_logits
from distill_cases import pair, shared_pair
from oracle import replacement
from planted import induction

HEADS = tuple(Component.parse(h) for h in ("L0H1", "L1H2"))


def right_with_heads(model, bound, heads):
    """Whether each example is right with all heads but these at their mean, by hooks."""
    values, found = replacement(model, bound, "mean-positional"), []
    for e in bound.examples:
        edits = {}
        for c in model.components:
            if c.kind == "head" and c not in heads:
                new = values(e)["z", c.layer][:, c.head * model.d_head : (c.head + 1) * model.d_head][None]
                edits[c] = lambda old, new=new: new
        with torch.no_grad():
            logits = hooked_logits(model, torch.tensor([e.clean]), torch.tensor([len(e.clean)]), edits)
        found.append(float(int(logits[0, e.answer_position].argmax()) in e.answers))
    return np.array(found)


def test_a_planted_circuit_does_the_task_alone():
    planted = induction(n=16)
    bound = planted.task.bind(planted.model)
    heads = tuple(c for c in planted.components if c.kind == "head")
    found = circuit_accuracy(planted.model, bound, heads=heads, draws=6)
    assert found.full.mean() == 1 and found.circuit.mean() == 1 and found.faithfulness == 1
    other = tuple(Component.parse(h) for h in ("L0H1", "L1H1"))
    broken = circuit_accuracy(planted.model, bound, heads=other, draws=6)
    assert broken.circuit.mean() < 0.5 and broken.faithfulness == broken.circuit.mean()
    # Of six pairs of heads one is the circuit: some random draw misses it.
    assert found.random.shape == (6, 16) and found.random.mean() < 1


def test_against_hooks():
    case = shared_pair("llama")
    bound = case.bound[1]
    found = circuit_accuracy(case.student, bound, heads=HEADS, draws=2, seed=3)
    np.testing.assert_array_equal(found.circuit, right_with_heads(case.student, bound, HEADS))
    every = [c for c in case.student.components if c.kind == "head"]
    np.testing.assert_array_equal(found.full, right_with_heads(case.student, bound, every))
    again = circuit_accuracy(case.student, bound, heads=HEADS, draws=2, seed=3)
    np.testing.assert_array_equal(found.random, again.random)
    assert circuit_accuracy(case.student, bound, heads=HEADS, draws=0).random.shape == (0, len(bound))


def test_heads_the_model_does_not_have():
    case = shared_pair("llama")
    with pytest.raises(ValueError, match="tiny-llama has no component L7H0"):
        circuit_accuracy(case.student, case.bound[1], heads=(Component.parse("L7H0"),))


def test_faithfulness_of_a_student_that_gets_nothing_right():
    zeros = np.zeros(4)
    assert np.isnan(CircuitAccuracy(zeros, zeros, zeros[None]).faithfulness)
    half = CircuitAccuracy(np.array([1, 1, 1, 0.0]), np.array([1, 0, 0, 1.0]), zeros[None])
    assert half.faithfulness == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(0, 0, 1.0), (5, 0, 2 / 32), (0, 5, 2 / 32), (6, 1, 2 * 8 / 128), (3, 3, 1.0)],
)
def test_mcnemar_by_hand(only_first, only_second, p):
    first = np.array([1.0] * only_first + [0.0] * only_second + [1, 0, 1])
    second = np.array([0.0] * only_first + [1.0] * only_second + [1, 0, 1])
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (only_first, only_second)
    assert found.p_value == pytest.approx(p)


def test_right_answers():
    planted = induction(n=16)
    assert right_answers(planted.model, planted.task.bind(planted.model)).tolist() == [1.0] * 16
    case = shared_pair("llama")
    every = [c for c in case.student.components if c.kind == "head"]
    np.testing.assert_array_equal(
        right_answers(case.student, case.bound[1]), right_with_heads(case.student, case.bound[1], every)
    )


def test_fit_is_that_of_all_examples_at_once():
    case = shared_pair("llama")
    pairs = tuple(zip(HEADS, (Component.parse("L2H0"), Component.parse("L0H0")), strict=True))
    sides = (case.teacher, case.bound[0]), (case.student, case.bound[1])
    found, batch = fit(*sides, pairs=pairs), collate(list(rows_of(case.bound[1])))
    wanted = LiveTeacher(case.teacher, Needs(tuple(t for _, t in pairs), labels=True)).signals(batch)
    with torch.no_grad():
        run = run_student(case.student, case.student.hf, batch=batch, with_z=True)
    assert found.ce == pytest.approx(float(cross_entropy(run.logits, wanted.labels)), rel=1e-5)
    z = head_rows(case.student, run, batch=batch, heads=HEADS, points="answer")
    values = [cka_of_arrays(a.numpy(), b.numpy()) for a, b in zip(z, wanted.z, strict=True)]
    assert found.cka == pytest.approx(np.mean(values), rel=1e-5)
    copies = fit(sides[1], sides[1], pairs=tuple(zip(HEADS, HEADS, strict=True)), debiased=True)
    assert copies.cka == pytest.approx(1.0, abs=1e-5)


def test_alignment_and_drop_are_those_of_compare():
    case = shared_pair("llama")
    wanted = ck.compare(case.teacher, case.student, case.task, options=ck.CompareOptions(random_null=False))
    scorer = Scorer((case.teacher, case.bound[0]), (case.student, case.bound[1]), execution=Execution())
    assert scorer(case.student) == pytest.approx((wanted.alignment.score, wanted.robustness.student.mean_drop))


def test_only_what_scores_is_made(monkeypatch):
    case = shared_pair("llama")
    for unasked in ("cka_matrix", "subspace_overlap"):
        monkeypatch.setattr(pair_similarity, unasked, None)
    scorer = Scorer((case.teacher, case.bound[0]), (case.student, case.bound[1]), execution=Execution())
    assert scorer.asked.fields == {"patterns", "mlp_vectors"}
    assert 0 < scorer(case.student)[0] < 1


def test_a_student_without_a_logit_difference_has_no_drop():
    case = pair("llama")
    scorer = Scorer((case.teacher, case.bound[0]), (case.student, case.bound[1]), execution=Execution())
    with torch.no_grad():
        case.student.hf.get_output_embeddings().weight.zero_()
    assert np.isnan(scorer(case.student)[1])


def test_mcnemar_needs_the_same_examples():
    with pytest.raises(ValueError, match="the students have 3 and 4 examples: compare them on the same ones"):
        mcnemar(np.ones(3), np.ones(4))
