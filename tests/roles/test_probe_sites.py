"""What probes share: the split, what is asked, the places that are read, and sites trained together or one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from circuitkd.interventions.execution import Execution
from circuitkd.roles import probe_sites as module
from circuitkd.roles.probe_sites import probe_sites, questions, sites_together, split, states_at
from circuitkd.roles.probe_targets import Place, find_targets
from circuitkd.tasks.base import Example, Task
from small_runs import model_for, prompts, task_of


def test_prompts_of_one_text_stay_on_one_side():
    examples = prompts("ioi", n=20)
    twice = [replace(e, id=f"{e.id}-{copy}") for e in examples for copy in range(3)]
    task = Task("t", tuple(twice)).bind(model_for("gpt2"))
    is_train = split(task, seed=0).reshape(20, 3)
    assert (is_train.all(axis=1) | ~is_train.any(axis=1)).all()
    assert is_train[:, 0].sum() == 16
    assert (split(task, seed=1).reshape(20, 3) != is_train).any()


def test_too_few_prompts_are_refused():
    task = Task("few", tuple(replace(e, id=f"{e.id}-{i}") for i in range(4) for e in prompts("ioi", n=9)))
    with pytest.raises(ValueError, match="'few' has 9 different prompts, and probes need 10 or more: give more"):
        questions(task.bind(model_for("gpt2")), seed=0)


def alike(*endings):
    """Prompts of twelve names with the same answer."""
    names = "Mary John Anna Tom Paul Kate Emma Jack Lucy Mark Sarah Peter".split()
    texts = [f"{name} went to the {ending}" for name in names for ending in endings]
    return tuple(Example(text, text, text, " 5", " 7") for text in texts)


def test_a_target_with_a_single_class_is_named():
    task = Task("one", alike("park and the park", "park and the school"))
    found = questions(task.bind(model_for("gpt2")), seed=0)
    assert [target.name for target, _ in found.asked] == ["seen before"]
    assert "24 rows of 1 classes have 1: give more prompts" in found.left_out["answer"]


def test_a_task_with_nothing_to_tell_apart_is_refused():
    task = Task("nothing", alike("park and the park"))
    with pytest.raises(ValueError, match="'nothing' has nothing to probe for: .*answer: a probe needs two classes"):
        questions(task.bind(model_for("gpt2")), seed=0)


def test_every_place_that_is_asked_about_has_a_number():
    task = task_of("numeral-sequence", n=12).bind(model_for("gpt2"))
    found = questions(task, seed=0)
    wanted = {place for target in find_targets(task)[0] for place in target.places}
    assert set(found.places) <= wanted
    assert sorted(found.places.values()) == list(range(len(found.places)))


def test_states_are_handed_out_with_the_places_in_them():
    model, seen = model_for("gpt2"), []
    task = task_of(n=4).bind(model)
    places = {Place(5, "clean", 2): 0, Place(0, "corrupted", 3): 1, Place(5, "clean", 7): 2}
    reports = []
    execution = Execution(batch_size=3, progress=lambda *told: reports.append(told))
    for state, (rows, positions), to in states_at(model, task, places=places, label="reading", execution=execution):
        seen += [(state.layer, int(p), int(n)) for p, n in zip(positions, to, strict=True)]
        assert rows.max() < len(state.resid_pre)
    assert sorted(seen) == [(layer, p, n) for layer in range(3) for p, n in ((2, 0), (3, 1), (7, 2))]
    assert reports == [("reading", 1, 2), ("reading", 2, 2)]


def test_sites_are_trained_together_as_memory_allows(monkeypatch):
    task = task_of("numeral-sequence", n=16).bind(model_for("gpt2"))
    asked = questions(task, seed=0)
    features = torch.randn(5, len(asked.places), 6, generator=torch.Generator().manual_seed(0))
    scores, controls = probe_sites(features, asked)
    assert scores.shape == (len(asked.asked), 5) and controls.shape == (len(asked.asked), module.SHUFFLES, 5)
    monkeypatch.setattr(module, "TOGETHER", 1)
    assert sites_together(6, rows=16, outputs=3) == 1
    for found, alone in zip((scores, controls), probe_sites(features, asked), strict=True):
        np.testing.assert_array_equal(alone, found)


def test_memory_of_a_site_is_that_of_its_weights_and_predictions():
    per_site = (100 + 28) * 10 * (module.SHUFFLES + 1)
    assert sites_together(100, rows=28, outputs=10) == module.TOGETHER // per_site
