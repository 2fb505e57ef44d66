"""The command on tiny models: its files, its tables, and what it refuses."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from circuitkd import load
from circuitkd.circuits.circuit import Circuit, ModelShape
from circuitkd.cli import distill
from circuitkd.components import Component
from circuitkd.distill.conditions import BEYOND, MAPPED, PAPER, UNTRAINED, Grid
from circuitkd.distill.experiment_result import ExperimentResult
from circuitkd.distill.head_map import METHODS
from circuitkd.distill.objective import TASK_LOSSES
from circuitkd.interventions.readout import PERFORMANCES

FAST = ("--task", "numeral-sequence", "--n", 20, "--steps", 2, "--seeds", 1, "--batch-size", 6)


@pytest.fixture(scope="module")
def made(tmp_path_factory, models):
    """One finished run, made once: its folder and what was printed."""
    from typer.testing import CliRunner

    from circuitkd.cli import app

    folder = tmp_path_factory.mktemp("distilled")
    arguments = ["distill", models / "big", models / "small", *FAST, "--heads", "L0H1,L0H3", "--output-dir", folder]
    return folder, CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def test_tables_students_and_losses(made, models):
    folder, found = made
    assert found.exit_code == 0
    result = ExperimentResult.load(folder)
    assert result.conditions == tuple(c.name for c in PAPER + BEYOND)
    assert [str(h) for h in result.heads] == ["L0H1", "L0H3"]
    for row in result.rows():
        assert row["condition"].split(",")[0] in found.stdout and row["CE"] in found.stdout
    assert f"run folder: {folder}" in found.stdout
    assert "warning: the teacher is not better than the student on numeral-sequence" in found.stderr
    assert (folder / "table.md").read_text().startswith("| condition | full | circuit |")
    with (folder / "table.csv").open() as file:
        assert [r["condition"] for r in csv.DictReader(file)] == [r.condition for r in result.runs]
    assert (folder / "losses.csv").read_text().count("\n") == 1 + 2 * (len(result.runs) - 1)
    assert not (folder / "partial").exists()
    students = sorted(p.name for p in (folder / "students").iterdir())
    assert len(students) == len(result.runs) - 1
    student, before = (
        AutoModelForCausalLM.from_pretrained(p) for p in (folder / "students" / "circuit-CE", models / "small")
    )
    page = (folder / "report.html").read_text()
    assert "Before training" in page and "Training losses" in page
    assert f"report:     {folder / 'report.html'}" in found.stdout
    changed = {n for n, v in student.state_dict().items() if not v.equal(before.state_dict()[n])}
    assert changed and all(".attn." in name for name in changed)


def test_a_finished_run_is_taken_as_it_is(run, made, models):
    folder, _ = made
    arguments = ("distill", models / "big", models / "small", *FAST, "--heads", "L0H1,L0H3", "--output-dir", folder)
    (folder / "partial" / "run-0-0123").mkdir(parents=True)  # as of a run that was killed after its result was written
    found = run(*arguments, "--json")
    assert found.code == 0 and "it holds this result already" in found.stderr and not (folder / "partial").exists()
    assert found.json["task"] == "numeral-sequence" and found.json["heads"] == ["L0H1", "L0H3"]
    other = run(*arguments, "--weight", 2)
    assert other.code == 2 and "it differs in options" in other.stderr


def test_the_search_is_shown_and_kept(run, models, monkeypatch, tmp_path):
    monkeypatch.setattr("circuitkd.distill.conditions.PAPER", (UNTRAINED, MAPPED))
    monkeypatch.setattr("circuitkd.distill.conditions.Grid", lambda: Grid((0.5, 1.0), ("tokens",), (9,)))
    arguments = ("--heads", "L0H1", "--paper-only", "--search", "--output-dir", "out")
    found = run("distill", models / "big", models / "small", *FAST, *arguments)
    assert found.code == 0 and "Search on the validation split" in found.stdout
    searched = ExperimentResult.load("out").search
    assert [(c.weight, c.points) for c in searched.candidates] == [(0.5, "tokens"), (1.0, "tokens")]
    assert Path("out/search.md").read_text().count("\n") == 4


def test_the_page_is_drawn_again_from_the_folder(run, made, tmp_path):
    folder, _ = made
    found = run("report", folder, "--output", tmp_path / "again.html", "--title", "Once <more>")
    assert (found.code, found.stdout) == (0, f"report: {tmp_path / 'again.html'}\n")
    page = (tmp_path / "again.html").read_text()
    assert "Once &lt;more&gt;" in page and "After training" in page
    found = run("report", folder, folder / "before", "--output", tmp_path / "both.html")
    assert "an experiment of circuitkd distill has a page of its own: name its folder alone" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--heads 0", "no heads are selected: choose 1 to 4 heads of"),
        ("--heads ,", "no heads are selected: name at least one head"),
        ("--heads L3H0", "has no head L3H0: its heads are L0H0 to L0H3"),
        ("--heads L0H0 --circuit x.json", "--heads and --circuit both choose the heads: leave out one of them"),
        ("--circuit x.json", "x.json does not exist: give a circuit file"),
        ("--batch-size 1", "CKA needs at least 2 rows in a batch and there are 1: give a larger batch_size"),
        ("--mapping random", "unknown method of mapping heads 'random': choose one of impact, one-to-one, similarity"),
        ("--points all", "unknown rows of CKA 'all': choose one of answer, tokens"),
        ("--task-loss mse", "unknown task loss 'mse': choose one of teacher-labels, ground-truth, kl"),
        ("--steps 0", "steps must be at least 1, got 0"),
        ("--seeds 0", "--seeds must be at least 1, got 0"),
        ("--weight 0", "the weight of the alignment must be above 0"),
        ("--n 4", "4 examples with 4 different prompts leave"),
    ],
)
def test_wrong_requests(run, models, arguments, message):
    found = run("distill", models / "big", models / "small", *FAST, *arguments.split())
    assert (found.code, found.stdout) == (2, "")
    assert message in found.stderr


def test_heads_of_a_circuit(models, tmp_path):
    student = load(str(models / "small"), check=False)
    circuit = Circuit(ModelShape.of(student), "t", tuple(Component.parse(c) for c in ("L0H2", "MLP0")))
    path = circuit.save(tmp_path / "circuit.json")
    assert distill.which_heads(None, path, student) == ("L0H2",)
    assert distill.which_heads("3", None, student) == 3
    assert distill.which_heads(None, None, student) is None
    with pytest.raises(ValueError, match="this circuit belongs to"):
        distill.which_heads(None, path, load(str(models / "big"), check=False))


def test_help_names_the_choices_of_the_library(run):
    assert distill.MAPPINGS.split(", ") == [m for m in METHODS if m != "random"]
    assert distill.PERFORMANCES.split(", ") == list(PERFORMANCES)
    assert distill.TASK_LOSSES.split(", ") == list(TASK_LOSSES)
    found = run("distill", "--help")
    for flag in "--task --heads --circuit --mapping --steps --seeds --weight --paper-only --output-dir --json".split():
        assert f"{flag} " in found.stdout


def test_the_default_folder_is_named_after_the_models(run, models):
    found = run("distill", models / "big", models / "small", *FAST[:-2], "--batch-size", 1)
    assert found.code == 2
    assert Path("circuitkd-runs/big--small--distill/numeral-sequence").is_dir()
