"""A study's run with made-up results of every kind, as if its jobs had been done; nothing is run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import yaml

from circuitkd.artifacts import save_run, to_json
from circuitkd.circuits.discovery import ThresholdSweep
from circuitkd.comparison.noise import NoiseCurve
from circuitkd.components import Component
from circuitkd.distill.conditions import PAPER
from circuitkd.distill.evaluation import CircuitAccuracy
from circuitkd.distill.experiment_result import DistillationRun, ExperimentResult
from circuitkd.distill.head_map import HeadMap
from circuitkd.studies.distillation import Distillation
from circuitkd.studies.job_kinds import StudyCircuits
from circuitkd.studies.run_folders import REQUEST
from circuitkd.studies.running import INDEX, Failure, StudyRun
from circuitkd.studies.study_file import Study, jobs
from synthetic_circuit import circuits_of
from synthetic_comparison import synthetic
from synthetic_roles import roles_of

TEXT = """
title: Made up & <small>
description: One of each kind.
pairs:
  - {name: one, teacher: tiny-teacher, student: tiny-student}
tasks:
  - {name: ioi}
  - {name: belief-tracking, label: belief_tracking}
analyses:
  - {kind: compare, tasks: [ioi]}
  - {kind: circuits, tasks: [ioi], options: {thresholds: [0.2]}}
  - {kind: roles, tasks: [ioi]}
  - {kind: noise, tasks: [ioi]}
  - {kind: distill, tasks: [belief_tracking]}
printed:
  - {source: Paper Table 1, pair: one, task: ioi, quantity: alignment, value: -1.0}
  - {source: Paper Table 1, pair: one, task: ioi, quantity: teacher-drop, of: L0H9, value: 12.0}
  - {source: Paper Table 1, pair: one, task: ioi, quantity: alignment, low: 0.0, high: 1.0}
  - {source: Paper Table 1, pair: one, task: ioi, quantity: variant, of: l1+nearest, value: 0.5}
"""


def study_of(text: str = TEXT) -> Study:
    """The study in a text."""
    return Study.model_validate(yaml.safe_load(text))


def finished_run(text: str = TEXT, *, failing: tuple[str, ...] = ()) -> StudyRun:
    """Every job done with a made-up result, but for those whose folders are named."""
    study = study_of(text)
    c = synthetic()
    made = {
        "compare": c,
        "circuits": circuits(c),
        "roles": roles_of(c),
        "noise": noise(),
        "distill": distillation(),
    }
    work = jobs(study)
    results = {job.folder: made[job.analysis.kind] for job in work if job.folder not in failing}
    failures = tuple(Failure(job, "the model is gated") for job in work if job.folder in failing)
    return StudyRun(study, results, failures, 0)


def save_study(run: StudyRun, folder: Path, *, waiting: tuple[str, ...] = ()) -> Path:
    """The folder that a study leaves, as if its last run had not come to the jobs whose folders are named."""
    rows = []
    failed = {f.job.folder: f.reason for f in run.failures}
    for job in jobs(run.study):
        if job.folder in run.results:
            request = {"comparison": repr(job.comparison), "options": repr(job.analysis.options)}
            save_run(folder / job.folder, run.results[job.folder], manifest={REQUEST: json.dumps(request)})
        state = "waiting" if job.folder in waiting else "failed" if job.folder in failed else "finished"
        rows.append({"folder": job.folder, "state": state, "reason": failed.get(job.folder, "")})
    record = {"format": 1, "study": run.study.model_dump(mode="json"), "jobs": rows}
    (folder / INDEX).write_text(to_json(record))
    return folder


def circuits(c=None) -> StudyCircuits:
    """Circuits of both models, at one threshold for the teacher."""
    found = circuits_of(c)
    assert found.teacher is not None
    return StudyCircuits(found, ThresholdSweep((0.2,), (found.teacher,), np.ones((1, 1))), None)


def noise() -> NoiseCurve:
    """Alignment that falls from 0.8 to 0.3 and 0.1 over two seeds."""
    scores = np.array([[0.8, 0.8], [0.4, 0.2], [0.1, 0.1]])
    return NoiseCurve((0.0, 0.5, 2.0), (0, 1), scores, scores, np.ones((3, 2)))


def distillation() -> Distillation:
    """Two seeds of the untrained student, and one of every other condition, on four test examples."""
    right = [(1, 0, 0, 0), (1, 1, 1, 0)]
    runs = [_run(PAPER[0].name, seed, right[seed]) for seed in (0, 1)]
    runs += [_run(c.name, 0, (1, 1, 1, 1)) for c in PAPER[1:]]
    heads = (Component.parse("L0H1"), Component.parse("L1H0"))
    head_map = HeadMap("impact", "least |dP_s - dP_t|", heads, heads, (0.1, 0.2), (0.3, 0.4), (0.2, math.nan))
    ids = ("a", "b", "c", "d")
    experiment = ExperimentResult(
        "big/teacher", "student", "task", heads, head_map, ids, np.ones(4), tuple(runs), (), {}
    )
    return Distillation(experiment, heads, _accuracy((1, 1, 1, 1), (1, 1, 1, 0)), None, None)


def _run(condition: str, seed: int, right: tuple[int, ...]) -> DistillationRun:
    return DistillationRun(
        condition=condition,
        seed=seed,
        accuracy=_accuracy(right, (1, 0, 0, 0)),
        validation_accuracy=0.5,
        ce=0.25,
        cka=0.5,
        alignment=0.75,
        mean_drop=10.0,
        head_share=0.25,
        parameter_share=0.05,
        loss_steps=np.array([1.0, 2.0]),
        losses=np.array([3.0, 1.5]),
        seconds=1.0,
        task_losses=np.array([2.0, 1.0 + seed]) if condition != PAPER[3].name else np.zeros(0),
    )


def _accuracy(full: tuple[int, ...], circuit: tuple[int, ...]) -> CircuitAccuracy:
    random = np.zeros((2, 4))
    random[0, 0] = 1
    return CircuitAccuracy(np.array(full, dtype=float), np.array(circuit, dtype=float), random)
