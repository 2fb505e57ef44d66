"""The search on the tiny pair: every candidate is tried on the validation split, the test split is never touched."""

from __future__ import annotations

from dataclasses import replace

import pytest

from circuitkd.distill import search as searching
from circuitkd.distill.conditions import MAPPED, UNTRAINED, ExperimentOptions, Grid, Losses, Training
from circuitkd.distill.evaluation import right_answers
from circuitkd.distill.experiment import run_experiment
from circuitkd.distill.experiment_result import ExperimentResult
from circuitkd.distill.experiment_setup import prepare
from circuitkd.distill.search import Candidate, SearchResult, apply, search
from circuitkd.distill.training_run import train_copy
from circuitkd.interventions.execution import Execution
from distill_cases import pair

GRID = Grid((0.1, 1.0), ("answer", "tokens"), (7,))
OPTIONS = ExperimentOptions(
    heads=("L0H3", "L1H0"),
    training=Training(steps=2, learning_rate=1e-1, batch_size=6),
    seeds=(0,),
    random_circuits=1,
    conditions=(UNTRAINED, MAPPED),
)


@pytest.fixture(scope="module")
def case():
    return pair("llama", n=20, tasks=("numeral-sequence",))


def setup_of(case, folder=None):
    return prepare(case.teacher, case.student, task=case.task, options=OPTIONS, execution=Execution(folder=folder))


def test_every_candidate_is_trained_with_its_weight_and_rows_and_scored_on_the_validation_split(case):
    setup = setup_of(case)
    found = search(replace(setup, test=None, scorer=None), GRID)
    assert [(c.weight, c.points) for c in found.candidates] == [
        (0.1, "answer"),
        (0.1, "tokens"),
        (1.0, "answer"),
        (1.0, "tokens"),
    ]
    losses = replace(OPTIONS.losses, weight=1.0, points="tokens")
    student, trainer = train_copy(replace(setup, options=replace(OPTIONS, losses=losses)), MAPPED, seed=7)
    assert trainer.objective.alignment.weight == 1.0 and trainer.objective.alignment.points == "tokens"
    assert found.candidates[3].accuracies == (right_answers(student, setup.validation[1]).mean(),)
    assert found.chosen.mean == max(c.mean for c in found.candidates)


@pytest.mark.parametrize(
    ("means", "chosen"),
    [((0.5, 0.75, 0.5, 0.5), 1), ((0.5, 0.5, 0.75, 0.75), 2), ((0.5, 0.5, 0.5, 0.5), 0)],
)
def test_the_best_wins_and_among_equals_the_smaller_weight_then_the_answer_alone(case, monkeypatch, means, chosen):
    values = iter(means)
    monkeypatch.setattr(
        searching, "_candidate", lambda setup, weight, points, seeds: Candidate(weight, points, (next(values),))
    )
    found = search(setup_of(case), GRID)
    assert found.chosen is found.candidates[chosen]
    assert [row["chosen"] for row in found.rows()] == ["yes" if i == chosen else "" for i in range(4)]


def test_finished_candidates_are_not_trained_again(case, tmp_path, monkeypatch):
    first = search(setup_of(case, tmp_path), GRID)
    monkeypatch.setattr(searching, "train_copy", lambda *a, **k: pytest.fail("it was trained again"))
    assert search(setup_of(case, tmp_path), GRID) == first


def test_the_experiment_trains_with_what_was_chosen_and_says_so(case, tmp_path):
    result = run_experiment(case.teacher, case.student, case.task, options=replace(OPTIONS, search=GRID))
    assert result.search == search(setup_of(case), GRID)
    assert apply(Losses(weight=5.0), result.search).weight == result.search.chosen.weight
    assert f"weight={result.search.chosen.weight}, " in result.manifest["options"]
    result.save(tmp_path / "run")
    assert ExperimentResult.load(tmp_path / "run").search == result.search


def test_the_table_of_candidates():
    candidates = Candidate(0.03, "answer", (0.5, 0.6)), Candidate(1.0, "tokens", (0.25, 0.5))
    assert SearchResult(GRID, candidates, candidates[0]).rows() == [
        {"weight": "0.03", "rows of CKA": "answer", "validation accuracy %": "55.0", "chosen": "yes"},
        {"weight": "1", "rows of CKA": "tokens", "validation accuracy %": "37.5", "chosen": ""},
    ]
