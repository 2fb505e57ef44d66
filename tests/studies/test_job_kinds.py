"""Every kind has its result type, and a job that builds on a comparison gets it."""

from __future__ import annotations

import pytest

from circuitkd.interventions.execution import Execution
from circuitkd.studies import job_kinds
from circuitkd.studies.job_kinds import RUNNERS, ReadyJob, run_circuits, run_compare
from circuitkd.studies.study_file import jobs
from circuitkd.tasks.registry import load_task
from small_runs import model_for
from synthetic_study import TEXT, study_of


@pytest.fixture(scope="module")
def models():
    return model_for("gpt2"), model_for("gpt2", seed=1, n_layer=1)


def ready(kind, models, *, text=TEXT, comparison=None):
    job = next(j for j in jobs(study_of(text)) if j.analysis.kind == kind)
    return ReadyJob(job, models, load_task("ioi", 4), Execution(), comparison)


def test_a_comparison_has_the_options_of_the_file(models):
    text = TEXT.replace(
        "{kind: compare, tasks: [ioi]}", "{kind: compare, tasks: [ioi], options: {ablation: zero, random_null: false}}"
    )
    found = run_compare(ready("compare", models, text=text))
    assert found.teacher_sweep.ablation == "zero" and found.alignment.null.random_score is None


def test_circuits_have_the_ablation_of_the_comparison(models, monkeypatch):
    seen = {}

    def compare_circuits(comparison, models, **options):
        seen.update(options)
        raise ValueError("enough")

    monkeypatch.setattr(job_kinds, "compare_circuits", compare_circuits)
    text = TEXT.replace("{kind: compare, tasks: [ioi]}", "{kind: compare, tasks: [ioi], options: {ablation: zero}}")
    asked = ready("circuits", models, text=text, comparison=object())
    with pytest.raises(ValueError, match="enough"):
        run_circuits(asked)
    assert seen["ablation"].kind == "zero" and seen["options"].threshold == 0.2


def test_result_types():
    assert {kind: result.__name__ for kind, (result, _) in RUNNERS.items()} == {
        "compare": "Comparison",
        "circuits": "StudyCircuits",
        "roles": "RolesResult",
        "noise": "NoiseCurve",
        "distill": "Distillation",
    }
