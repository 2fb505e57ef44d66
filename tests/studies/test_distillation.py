"""The circuits of both models are found on the training split, each with its own model."""

from __future__ import annotations

import pytest

from circuitkd.circuits.entity_groups import EntityGroups
from circuitkd.distill.data import split
from circuitkd.distill.evaluation import circuit_accuracy
from circuitkd.distill.head_map import choose_heads
from circuitkd.interventions.execution import Execution
from circuitkd.interventions.sweep import sweep
from circuitkd.studies import distillation as module
from circuitkd.studies.distillation import distillation
from circuitkd.studies.settings import DistillSettings
from circuitkd.tasks.registry import load_task
from equal_results import assert_same
from small_runs import model_for

SHORT = {"steps": 1, "seeds": 1, "batch_size": 4}


@pytest.fixture(scope="module")
def pair():
    import torch

    return model_for("gpt2", torch.float32), model_for("gpt2", torch.float32, seed=1, n_layer=1)


@pytest.fixture(autouse=True)
def untrained_only(monkeypatch):
    """One condition is enough here."""
    options = DistillSettings.options
    from dataclasses import replace

    monkeypatch.setattr(
        DistillSettings, "options", lambda self: replace(options(self), conditions=options(self).conditions[:1])
    )


def test_by_ablation(pair):
    task = load_task("numeral-sequence", 20)
    found = distillation(pair, task, settings=DistillSettings(heads=3, **SHORT), execution=Execution())
    parts = split(task)
    train, test = parts.train.bind(pair[0]), parts.test.bind(pair[0])
    wanted = choose_heads(pair[0], 3, effects=sweep(pair[0], train))
    assert found.teacher_heads == wanted and len(found.experiment.heads) == 3
    assert_same(found.teacher_accuracy, circuit_accuracy(pair[0], test, heads=wanted))
    assert found.teacher_groups is found.student_groups is None
    assert found.experiment.teacher_accuracy.tolist() == found.teacher_accuracy.full.tolist()


def test_by_path_patching(pair):
    task = load_task("entity-tracking-object-first", 20)
    settings = DistillSettings(circuit="path-patching", group_size=1, **SHORT)
    found = distillation(pair, task, settings=settings, execution=Execution())
    for groups, heads in ((found.teacher_groups, found.teacher_heads), (found.student_groups, found.experiment.heads)):
        members = [head for group in groups.groups for head in group.heads]
        assert all(len(group.heads) <= 1 for group in groups.groups)
        assert set(members) == set(heads) and members


def test_no_head_by_path_patching(pair, monkeypatch):
    empty = EntityGroups("tiny", "boxes", (), -1.0, "log-probability", "resample")
    monkeypatch.setattr(module, "entity_groups", lambda *_, **__: empty)
    task = load_task("entity-tracking-object-first", 20)
    with pytest.raises(ValueError, match="path patching finds no head of tiny that helps on boxes"):
        distillation(pair, task, settings=DistillSettings(circuit="path-patching", **SHORT), execution=Execution())
