import dataclasses
import json

import pytest

from circuitkd.zoo import catalog, make
from circuitkd.zoo.curriculum import held_out
from circuitkd.zoo.evaluation import held_out_task


def shrink(monkeypatch, name, **changes):
    small = dataclasses.replace(catalog.recipe(name), **changes)
    monkeypatch.setitem(catalog.RECIPES, name, small)


def test_a_model_is_made_measured_and_described(tmp_path, monkeypatch):
    shrink(monkeypatch, "gpt2-teacher", layers=2, steps=2)
    shrink(monkeypatch, "gpt2-student", layers=1, steps=2)
    monkeypatch.setattr("circuitkd.zoo.evaluation.PROMPTS", 8)
    monkeypatch.setattr("circuitkd.zoo.catalog.WEIGHTS", tmp_path / "bundled")
    with pytest.raises(ValueError, match="distilled from gpt2-teacher"):
        make.make("gpt2-student", folder=tmp_path / "gpt2-student")
    card = make.make("gpt2-teacher", folder=tmp_path / "gpt2-teacher")
    assert json.loads((tmp_path / "gpt2-teacher" / "card.json").read_text()) == card
    assert card["layers"] == 2 and card["steps"] == 2 and card["seed"] == 1
    assert set(card["held_out"]) >= {"ioi", "numeral-sequence", "entity-tracking"}
    assert 0 <= card["held_out"]["ioi"]["accuracy"] <= 1
    student = make.make("gpt2-student", folder=tmp_path / "gpt2-student")
    assert student["teacher"] == "gpt2-teacher" and student["layers"] == 1
    monkeypatch.setattr("circuitkd.zoo.catalog.WEIGHTS", tmp_path)
    shorter = make.make("gpt2-student", folder=tmp_path / "elsewhere" / "gpt2-student", steps=1)
    assert shorter["steps"] == 1 and shorter["teacher"] == "gpt2-teacher"


def test_another_number_of_steps_never_replaces_a_bundled_model(tmp_path):
    with pytest.raises(ValueError, match="needs a folder of its own"):
        make.make("gpt2-teacher", steps=5)
    with pytest.raises(ValueError, match="at least 1"):
        make.make("gpt2-teacher", folder=tmp_path, steps=0)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown zoo model"):
        make.make("gpt3-teacher")


def test_held_out_prompts_are_held_out():
    task = held_out_task("belief-tracking", 20)
    assert len(task) == 20
    assert all(held_out(e.clean) for e in task.examples)
