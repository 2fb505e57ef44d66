"""The experiment on the tiny pair: every condition, nothing changed that should not, resumed from finished runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from circuitkd.distill import experiment
from circuitkd.distill.circuit_parameters import CircuitParameters
from circuitkd.distill.conditions import BEYOND, PAPER, ExperimentOptions, Training
from circuitkd.distill.evaluation import circuit_accuracy, fit
from circuitkd.distill.experiment import run_experiment
from circuitkd.interventions.execution import Execution, fingerprint
from distill_cases import pair

OPTIONS = ExperimentOptions(
    heads=("L0H3", "L1H0"),
    training=Training(steps=2, learning_rate=1e-2, batch_size=6),
    seeds=(0, 1),
    random_circuits=2,
)


@pytest.fixture(scope="module")
def case():
    return pair("llama", n=20, tasks=("numeral-sequence",))


@pytest.fixture(scope="module")
def kept():
    return {}


@pytest.fixture(scope="module")
def result(case, kept):
    return run_experiment(
        case.teacher,
        case.student,
        case.task,
        options=OPTIONS,
        keep=lambda *key_and_model: kept.update({key_and_model[:2]: key_and_model[2]}),
    )


def test_every_condition_and_seed_was_run(result):
    assert [(r.condition, r.seed) for r in result.runs] == [(c.name, s) for c in PAPER + BEYOND for s in (0, 1)]
    for r in result.runs:
        trained = r.condition != "untrained"
        assert list(r.loss_steps) == ([1.0, 2.0] if trained else [])
        assert (r.untouched is not None) == r.condition.startswith("circuit")
        assert r.untouched is None or r.untouched.identical
        assert (r.pairs is not None) == ("random pairs" in r.condition)
        assert r.accuracy.random.shape == (2, len(result.examples))
    first, second = result.of("circuit, CE + CKA of random pairs")
    assert first.pairs.teacher != second.pairs.teacher


def test_the_untrained_student_is_the_one_that_was_given(case, result):
    found = result.of("untrained")[0]
    bound = case.bound[1].select(result.examples)
    np.testing.assert_array_equal(
        found.accuracy.circuit, circuit_accuracy(case.student, bound, heads=result.heads, draws=0).circuit
    )
    sides = (case.teacher, case.bound[0].select(result.examples)), (case.student, bound)
    measured = fit(*sides, pairs=result.head_map.pairs)
    assert (found.ce, found.cka) == (measured.ce, measured.cka)
    assert found.seconds < 1


def test_neither_model_is_changed_and_students_are_what_was_measured(case, result, kept):
    fresh = pair("llama", n=20, tasks=("numeral-sequence",))
    assert fingerprint(case.student) == fingerprint(fresh.student)
    assert fingerprint(case.teacher) == fingerprint(fresh.teacher)
    assert all(p.requires_grad for p in case.student.hf.parameters())
    assert set(kept) == {(r.condition, r.seed) for r in result.runs if r.condition != "untrained"}
    student = kept["circuit, CE", 1]
    masks = CircuitParameters.of(case.student, result.heads).masks
    for name, value in case.student.hf.state_dict().items():
        mask = masks.get(name, torch.zeros_like(value, dtype=torch.bool))
        assert torch.equal((student.hf.state_dict()[name] != value), mask), name
    bound = case.bound[1].select(result.examples)
    measured = circuit_accuracy(student, bound, heads=result.heads, draws=0)
    np.testing.assert_array_equal(result.of("circuit, CE")[1].accuracy.full, measured.full)


def test_the_result_says_what_was_done(case, result):
    assert (
        result.manifest["heads"] == "L0H3 L1H0" and "12 training, 4 validation, 4 test" in result.manifest["examples"]
    )
    assert fingerprint(case.student) in result.manifest["student"] and result.manifest["torch"]
    assert any("the teacher is not better than the student" in w for w in result.warnings)
    assert len(result.rows()) == len(PAPER + BEYOND)


def test_finished_runs_are_not_made_again(case, tmp_path, monkeypatch):
    options = replace(OPTIONS, conditions=PAPER[:3:2], seeds=(0,))
    heard = []
    execution = Execution(folder=tmp_path, progress=lambda label, done, total: heard.append((label, done, total)))
    first = run_experiment(case.teacher, case.student, case.task, options=options, execution=execution)
    assert [h for h in heard if h[0] == "distillation"] == [("distillation", i, 2) for i in range(3)]
    trained = []
    monkeypatch.setattr(experiment, "train_copy", lambda *a, **k: trained.append(1))
    again = run_experiment(case.teacher, case.student, case.task, options=options, execution=execution)
    assert again.rows() == first.rows() and not trained
    monkeypatch.undo()
    longer = replace(options, training=replace(OPTIONS.training, steps=3))
    other = run_experiment(case.teacher, case.student, case.task, options=longer, execution=execution)
    assert list(other.of("circuit, CE")[0].loss_steps) == [1, 2, 3]


def test_the_same_seed_gives_the_same_run(case, result):
    options = replace(OPTIONS, conditions=PAPER[4:5], seeds=(1,))
    (again,) = run_experiment(case.teacher, case.student, case.task, options=options).runs
    before = result.of("circuit, CE + CKA of random pairs")[1]
    assert (again.ce, again.alignment, list(again.losses)) == (before.ce, before.alignment, list(before.losses))
    assert list(again.task_losses) == list(before.task_losses) and len(again.task_losses) == len(again.losses)
    assert not len(result.of("circuit, CKA of mapped pairs")[0].task_losses)
