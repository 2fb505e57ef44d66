"""Trained students on disk are taken for what they are, and what cannot be compared is named in one line."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from circuitkd import load
from circuitkd.cli import distill_students
from circuitkd.cli.runs import REQUEST, Request
from circuitkd.comparison.result import Comparison
from circuitkd.distill.conditions import ExperimentOptions
from circuitkd.interventions.execution import Execution
from circuitkd.tasks.registry import load_task
from synthetic_comparison import synthetic
from synthetic_experiment import ALL_CE, MAPPED, experiment

IDENTITY = {"teacher": "a", "options": "b"}


@pytest.fixture(scope="module")
def pair(models):
    return load(str(models / "big"), check=False), load(str(models / "small"), check=False)


@pytest.fixture(scope="module")
def request_():
    return distill_students.state_request(load_task("numeral-sequence", 20, seed=0), ExperimentOptions(), seed=0)


def result_of(request, identity=None):
    """An experiment on the examples of the request, made for IDENTITY."""
    made = experiment({ALL_CE: (9, 9), MAPPED: (9, 9)})
    ids = tuple(e.id for e in request.task.examples)
    return replace(made, examples=ids, manifest={REQUEST: json.dumps(identity or IDENTITY)})


@pytest.fixture
def result(request_):
    return result_of(request_)


def keep(folder, student, condition=MAPPED, seed=0):
    distill_students.keeper(folder, IDENTITY, seed=0)(condition, seed, student)


def compared(folder, pair, request, result):
    return distill_students.compare_states(folder, pair, request, result=result, execution=Execution(), overwrite=False)


def test_only_the_first_seed_is_kept(tmp_path, pair):
    keep(tmp_path, pair[1], seed=1)
    assert not (tmp_path / "students").exists()
    keep(tmp_path, pair[1])
    place = distill_students.folder_of(tmp_path, MAPPED)
    assert place.name == "circuit-CE-CKA-of-mapped-pairs"
    assert json.loads((place / "trained.json").read_text()) == {"condition": MAPPED, "seed": 0, "request": IDENTITY}


def test_the_trained_student_is_loaded_under_a_name_of_its_own(tmp_path, pair, result):
    keep(tmp_path, pair[1])
    found = distill_students.trained_student(tmp_path, pair[1], result=result)
    assert found.name == f"{pair[1].name} ({MAPPED})"
    assert found.parameter_count == pair[1].parameter_count


@pytest.mark.parametrize("fault", ["nothing", "another request", "another condition", "no marker", "broken marker"])
def test_a_student_of_another_run_is_refused(tmp_path, pair, request_, fault):
    result = result_of(request_, {"teacher": "c"} if fault == "another request" else None)
    if fault != "nothing":
        keep(tmp_path, pair[1], ALL_CE if fault == "another condition" else MAPPED)
    marker = distill_students.folder_of(tmp_path, MAPPED) / "trained.json"
    if fault == "no marker":
        marker.unlink()
    if fault == "broken marker":
        marker.write_text("{")
    with pytest.raises(ValueError, match=r"with seed 0; --overwrite trains it again"):
        distill_students.trained_student(tmp_path, pair[1], result=result)


def test_before_is_the_given_student_and_after_the_trained_one(tmp_path, pair, request_, result, models):
    keep(tmp_path, load(str(models / "other"), check=False))
    before, after = compared(tmp_path, pair, request_, result)
    assert before.student.fingerprint != after.student.fingerprint
    assert before.teacher.fingerprint == after.teacher.fingerprint
    assert set(before.teacher_sweep.examples) == {e.id for e in request_.task.examples} == set(result.examples)
    assert Comparison.load(tmp_path / "after").alignment.score == after.alignment.score
    assert after.alignment.null.random_largest is not None


def test_a_missing_student_is_named_once_and_what_was_compared_is_still_shown(tmp_path, pair, request_, result, capsys):
    states = compared(tmp_path, pair, request_, result)
    assert states[0].student.name == pair[1].name and states[1] is None
    told = capsys.readouterr().err
    assert (
        told.count("does not show before and after") == 1 and "students/circuit-CE-CKA-of-mapped-pairs does not" in told
    )
    assert "--overwrite trains it again" in " ".join(told.split())
    states[0].save(tmp_path / "after")
    assert None not in compared(tmp_path, pair, request_, result)
    assert "does not show" not in capsys.readouterr().err


def test_states_of_other_examples_or_damaged_ones_are_left_out(tmp_path, result, capsys):
    synthetic().save(tmp_path / "before")
    synthetic().save(tmp_path / "after")
    (tmp_path / "after" / "arrays.safetensors").write_bytes(b"")
    assert distill_students.saved_states(tmp_path, result) == (None, None)
    assert "left out of the report: " in capsys.readouterr().err
    own = replace(result, examples=synthetic().teacher_sweep.examples)
    assert distill_students.saved_states(tmp_path, own)[0] is not None


def test_training_again_forgets_what_was_compared(tmp_path, result):
    synthetic().save(tmp_path / "before")
    distill_students.forget_states(tmp_path)
    assert not (tmp_path / "before" / "result.json").exists()
    distill_students.forget_states(tmp_path)


def test_the_request_is_that_of_the_test_split(request_):
    assert isinstance(request_, Request)
    assert len(request_.task) == 4 and request_.options.random_null
