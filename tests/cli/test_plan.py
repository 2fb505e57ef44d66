"""`circuitkd plan` prints tables, totals and assumptions, and says what is wrong with what it is given."""

import json
from functools import partial

import pytest

from circuitkd.cli.plan import duration
from circuitkd.studies import hardware
from circuitkd.zoo.vocabulary import tokenizer
from public_shapes import config_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("configs")
    for name in ("gpt2", "distilgpt2"):
        config_folder(place, name)
    return place


@pytest.fixture
def plan(run, folder):
    return partial(run, "plan", folder / "gpt2", folder / "distilgpt2", "--task", "ioi", "--n", 8)


def test_a_pair_on_a_named_device(plan):
    outcome = plan("--hardware", "H200")
    assert outcome.code == 0
    for text in ("ablation sweep", "path patching", "205 disturbed students", "Totals", "Assumptions", "on h200"):
        assert text in outcome.stdout
    assert "EAP-IG estimates all edges" in outcome.stderr


def test_json(plan):
    found = plan("--hardware", "l4", "--dtype", "bfloat16", "--json").json
    assert found["hardware"] == "l4"
    assert {"compare", "circuits", "roles", "noise", "distill"} == {s["analysis"] for s in found["steps"]}
    assert found["steps"][0]["seconds"][0] > 0


def test_a_study_file(run, folder, tmp_path):
    text = f"""
title: Two tasks
pairs: [{{name: one, teacher: {folder / "gpt2"}, student: {folder / "distilgpt2"}}}]
tasks: [{{name: ioi, n: 5}}, {{name: greater-than, n: 5}}]
analyses: [{{kind: compare}}]
"""
    (tmp_path / "study.yaml").write_text(text)
    outcome = run("plan", "study.yaml", "--hardware", "h100")
    assert outcome.code == 0
    assert "Two tasks, on h100" in outcome.stdout
    assert "greater-than" in outcome.stdout
    wrong = run("plan", "study.yaml", "--task", "ioi", "--hardware", "h100")
    assert (wrong.code, wrong.stderr.strip()) == (
        2,
        "error: a study file says its own tasks: leave out --task and --n",
    )


def test_this_machine_is_measured(plan, monkeypatch):
    monkeypatch.setattr(hardware, "ENOUGH", 0.0)
    monkeypatch.setattr(hardware, "WIDEST", 64)
    outcome = plan()
    assert outcome.code == 0
    assert "on this-machine" in outcome.stdout
    assert "GFLOP/s" in outcome.stdout


def test_tokens_are_counted_where_there_is_a_tokenizer(run, tmp_path):
    for name in ("gpt2", "distilgpt2"):
        tokenizer().save_pretrained(config_folder(tmp_path / "models", name, vocab_size=len(tokenizer())))
    outcome = run("plan", "models/gpt2", "models/distilgpt2", "--task", "ioi", "--n", 5, "--hardware", "h200")
    assert "counted with the tokenizer of models/distilgpt2 and of models/gpt2" in " ".join(outcome.stdout.split())


BAD = [
    (("--hardware", "h20"), "unknown hardware 'h20': did you mean 'h200'?"),
    (("--dtype", "int4"), "unknown dtype 'int4'"),
    (("--hardware", "h200", "--dtype", "float64"), "h200: no figure for float64"),
    (("--hardware", "h200", "--batch-size", "0"), "--batch-size"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_options(plan, arguments, message):
    outcome = plan(*arguments)
    assert outcome.code == 2
    assert message in outcome.stderr


def test_bad_models(run, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({"model_type": "t5", "architectures": ["T5Model"]}))
    cases = [
        (("empty", folder / "gpt2", "--task", "ioi"), "empty: no config.json"),
        (("other", folder / "gpt2", "--task", "ioi"), "T5Model is not supported"),
        (("nobody/nothing", folder / "gpt2", "--task", "ioi"), "Check the spelling and the connection"),
        (("zoo:gpt2-techer", folder / "gpt2", "--task", "ioi"), "did you mean 'zoo:gpt2-teacher'?"),
        ((folder / "gpt2", folder / "distilgpt2"), "--task is missing"),
        ((folder / "gpt2", "--task", "ioi"), "plan takes two models, TEACHER STUDENT, or one study file"),
        (("missing.yaml",), "missing.yaml"),
    ]
    for arguments, message in cases:
        outcome = run("plan", *arguments, "--hardware", "h200")
        assert outcome.code == 2, outcome
        assert message in outcome.stderr


ENDS = ((0.4, 0.4, 0.4), (80, 80, 80), (100.0, 500.0, 5000.0), (7200.0, 8000.0, 9000.0), (2e6, 2e6, 2e6))


def test_numbers_for_people():
    assert [duration(r) for r in ENDS] == [
        "0.4 s",
        "80 s",
        "8.3 (1.7–83) min",
        "2.2 (2.0–2.5) h",
        "23 days",
    ]
