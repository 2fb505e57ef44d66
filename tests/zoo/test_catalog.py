import pytest

from circuitkd.models.loading import load
from circuitkd.models.self_check import self_check
from circuitkd.zoo import catalog

SEQUENCES = ("numeral-sequence", "word-sequence", "months-sequence", "ioi")


def test_all_nine_are_there_and_small():
    assert catalog.available() == list(catalog.RECIPES)
    assert sum(catalog.card(name)["megabytes"] for name in catalog.RECIPES) < 30


@pytest.mark.parametrize("name", [n for n in catalog.RECIPES if n.endswith("teacher")])
def test_teachers_do_the_tasks(name):
    measured = {task: m["accuracy"] for task, m in catalog.card(name)["held_out"].items()}
    assert min(measured[task] for task in SEQUENCES) >= 0.95
    if not name.startswith("bert"):
        assert min(measured["entity-tracking"], measured["belief-tracking"]) >= 0.95


@pytest.mark.parametrize("name", list(catalog.RECIPES))
def test_bundled_models_load_and_match_their_card(name):
    model, card = load(f"zoo:{name}"), catalog.card(name)
    assert self_check(model).passed
    assert (model.n_layers, model.n_heads, model.n_kv_heads) == (card["layers"], card["heads"], card["kv_heads"])
    assert model.parameter_count == card["parameters"]


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="gpt2-teacher"):
        catalog.recipe("gpt2-techer")


def test_roles():
    assert catalog.recipe("bert-student").teacher == "bert-teacher"
    assert catalog.recipe("bert-independent").teacher is None
