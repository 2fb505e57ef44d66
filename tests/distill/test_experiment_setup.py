"""The circuit comes from the training split, pairs from both models, objectives from conditions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from circuitkd.components import Component
from circuitkd.distill.conditions import BEYOND, PAPER, ExperimentOptions, Losses, Training
from circuitkd.distill.data import split
from circuitkd.distill.evaluation import right_answers
from circuitkd.distill.experiment_setup import objective_of, prepare, shares
from circuitkd.distill.head_map import choose_heads, head_similarity, impacts, map_heads, random_pairs
from circuitkd.distill.objective import Objective
from circuitkd.interventions.execution import Execution
from circuitkd.interventions.sweep import sweep
from distill_cases import Pair, pair
from small_runs import model_for, task_of

OPTIONS = ExperimentOptions(training=Training(batch_size=8), performance="log-probability")


@pytest.fixture(scope="module")
def case() -> Pair:
    return pair("llama", n=20, tasks=("numeral-sequence",))


@pytest.fixture(scope="module")
def setup(case):
    return prepare(case.teacher, case.student, task=case.task, options=OPTIONS, execution=Execution())


def test_splits_and_circuit(case, setup):
    parts = split(case.task)
    for bound, part in ((setup.train, parts.train), (setup.validation, parts.validation), (setup.test, parts.test)):
        assert [[e.id for e in b.examples] for b in bound] == [[e.id for e in part.examples]] * 2
    # Two of eight heads: 15 % would be one.
    assert setup.heads == choose_heads(case.student, 2, effects=sweep(case.student, setup.train[1]))
    sides = (case.teacher, setup.train[0]), (case.student, setup.train[1])
    ours, theirs = impacts(*sides, heads=setup.heads, performance="log-probability")
    every = [c for c in case.teacher.components if c.kind == "head"]
    assert setup.head_map.teacher == tuple(every[i] for i in map_heads(student_impact=ours, teacher_impact=theirs))
    np.testing.assert_array_equal(setup.teacher_accuracy, right_answers(case.teacher, setup.test[0]))


def test_surrogate_pairs(case, setup):
    sides = (case.teacher, setup.train[0]), (case.student, setup.train[1])
    every = [c for c in case.student.components if c.kind == "head"]
    similar = head_similarity(*sides, heads=every)
    rows = [i for i in range(12) if similar[i].max() > 0]
    pool = [c for c in case.teacher.components if c.kind == "head"]
    assert setup.surrogate_pairs == tuple((every[similar[i].argmax()], pool[i]) for i in rows)
    drops = np.maximum(sweep(case.teacher, setup.train[0]).drops[:12], 0)
    assert setup.surrogate_influence == pytest.approx((drops / drops.max())[rows])


def test_objectives(setup):
    by_name = {c.name: c for c in PAPER + BEYOND}

    def objective(name, pairs=None):
        return objective_of(setup, by_name[name], pairs=pairs)

    assert objective("circuit, CE") == objective("all parameters, CE") == Objective()
    mapped = objective("circuit, CE + CKA of mapped pairs")
    assert mapped.alignment.pairs == setup.head_map.pairs and mapped.task_loss == "teacher-labels"
    assert objective("circuit, CKA of mapped pairs") == replace(mapped, task_loss=None)
    drawn = random_pairs(setup.teacher, setup.heads, seed=1)
    assert objective("circuit, CE + CKA of random pairs", drawn).alignment.pairs == drawn.pairs
    surrogate = objective("circuit, CE + alignment surrogate").alignment
    assert (surrogate.kind, surrogate.pairs) == ("surrogate", setup.surrogate_pairs)
    assert objective("circuit, CE + head ablation") == Objective(head_ablation=0.1)
    other = replace(
        setup, options=replace(OPTIONS, losses=Losses("kl", 3.0, weight=0.5, debiased=True, ablated_share=0.3))
    )
    found = objective_of(other, by_name["circuit, CE + CKA of mapped pairs"], pairs=None)
    assert (found.task_loss, found.temperature, found.alignment.weight, found.alignment.debiased) == (
        "kl",
        3.0,
        0.5,
        True,
    )
    assert objective_of(other, by_name["circuit, CE + head ablation"], pairs=None).head_ablation == 0.3


def test_shares(setup):
    conditions = {c.parameters: c for c in PAPER}
    assert shares(setup, conditions["none"]) == (0.0, 0.0)
    assert shares(setup, conditions["all"]) == (1.0, 1.0)
    parameters, heads = shares(setup, conditions["circuit"])
    assert heads == 0.25 and 0 < parameters < 0.1


def test_what_a_reader_should_know(case, setup):
    told = " ".join(setup.warnings)
    assert "the teacher is not better than the student on mixed (accuracy" in told
    assert "training K/V groups of the circuit also changes what" in told
    assert "biased CKA over 8 rows of width 12 is high for unrelated heads too" in told
    options = replace(OPTIONS, losses=Losses(debiased=True), conditions=PAPER[:3])
    other = prepare(case.teacher, case.student, task=case.task, options=options, execution=Execution())
    assert not any("CKA" in w for w in other.warnings)
    assert other.surrogate_pairs == ()


def test_named_heads_and_wrong_ones(case):
    options = replace(OPTIONS, heads=("L1H2",), conditions=PAPER[:1])
    found = prepare(case.teacher, case.student, task=case.task, options=options, execution=Execution())
    assert found.heads == (Component.parse("L1H2"),)
    with pytest.raises(ValueError, match="tiny-llama has no head L9H0"):
        prepare(
            case.teacher, case.student, task=case.task, options=replace(options, heads=("L9H0",)), execution=Execution()
        )


def test_a_batch_of_one_row(case):
    options = replace(OPTIONS, training=Training(batch_size=1))
    with pytest.raises(
        ValueError, match="CKA needs at least 2 rows in a batch and there are 1: give a larger batch_size"
    ):
        prepare(case.teacher, case.student, task=case.task, options=options, execution=Execution())


def test_tokenizers_that_differ(case):
    from tiny_models import tiny

    with pytest.raises(ValueError, match=r"the tokenizers of tiny-llama and tiny-llama differ \(\d+ and \d+ tokens\)"):
        prepare(tiny("llama"), model_for("llama"), task=task_of(n=6), options=OPTIONS, execution=Execution())
