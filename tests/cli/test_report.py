from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from circuitkd.artifacts import save_run
from circuitkd.cli.runs import save_index
from circuitkd.comparison.noise import NoiseCurve
from synthetic_comparison import synthetic
from synthetic_study import finished_run, save_study


def test_a_page_of_one_run(run):
    synthetic(examples=4).save("one")
    found = run("report", "one")
    assert (found.code, found.stdout) == (0, f"report: {Path('one/report.html')}\n")
    assert "tiny-student" in Path("one/report.html").read_text()


def test_a_page_of_all_runs_of_an_index(run):
    made = [(Path(f"runs/{task}"), synthetic(task, examples=4)) for task in ("ioi", "months-sequence")]
    for folder, comparison in made:
        comparison.save(folder)
    save_index(Path("runs"), made)
    assert run("report", "runs", "--title", "Both of <them>").code == 0
    page = Path("runs/report.html").read_text()
    assert "months-sequence" in page
    assert "Both of &lt;them&gt;" in page
    assert run("report", "runs/ioi", "runs/months-sequence", "--output", "all.html").code == 0
    assert "months-sequence" in Path("all.html").read_text()


def test_wrong_reports(run):
    synthetic(examples=4).save("one")
    found = run("report", "one", "one")
    assert found.stderr == "error: several run folders: say where the page goes, as in --output report.html\n"
    found = run("report", "none")
    assert found.stderr == "error: none is not a run folder: it holds neither result.json nor index.json\n"
    Path("one/arrays.safetensors").write_bytes(b"")
    assert "one is damaged" in run("report", "one").stderr


def test_a_model_card_of_all_tasks(run):
    made = [(Path(f"runs/{task}"), synthetic(task, examples=4)) for task in ("ioi", "months-sequence")]
    for folder, comparison in made:
        comparison.save(folder)
    save_index(Path("runs"), made)
    Path("README.md").write_text("# Mine\n")
    found = run("report", "runs", "--model-card", "README.md")
    assert (found.code, found.stdout) == (0, "model card: README.md\nreport: runs/report.html\n")
    card = Path("README.md").read_text()
    assert card.count("## Circuits kept from tiny-teacher") == 2
    assert "# Mine\n" in card


def test_a_model_card_is_of_one_student(run):
    one = synthetic(examples=4)
    one.save("one")
    replace(one, student=replace(one.student, name="other")).save("two")
    found = run("report", "one", "two", "--output", "all.html", "--model-card", ".")
    assert found.stderr == (
        "error: a model card is of one model, not of tiny-student, other: name one student's run folders\n"
    )
    assert not Path("README.md").exists()


def test_a_model_card_is_for_comparisons(run):
    save_run("curve", NoiseCurve((0.0,), (0,), *np.ones((3, 1, 1))), manifest={})
    assert run("report", "curve", "--model-card", ".").stderr == (
        "error: --model-card is for comparisons: leave it out for other runs\n"
    )


def test_a_study_is_written_again(run):
    save_study(finished_run(failing=("one/ioi/noise",)), Path("out"))
    found = run("report", "out")
    assert (found.code, found.stdout) == (0, f"report: {Path('out/report.html')}\n")
    assert found.stderr == "warning: one/ioi/noise: the model is gated\n"
    page = Path("out/report.html").read_text()
    assert "<b>Not finished</b>" in page and "one/ioi/noise: the model is gated" in page
    assert Path("out/tables/alignment.csv").exists()
    assert "untrained" in Path("out/one/belief_tracking/distill/report.html").read_text()
    first = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    assert run("report", "out").code == 0
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == first


def test_an_unfinished_study_says_what_is_missing(run):
    save_study(finished_run(failing=("one/ioi/noise",)), Path("out"), waiting=("one/ioi/noise",))
    found = run("report", "out")
    assert found.stderr == "warning: one/ioi/noise: not finished yet: run the study again, it goes on\n"
    assert "one/ioi/noise: not finished yet" in Path("out/report.html").read_text()


def test_wrong_reports_of_a_study(run):
    save_study(finished_run(), Path("out"))
    message = "error: a study has its page, tables and title in its own folder: name that folder alone\n"
    for more in (["--title", "x"], ["--output", "x.html"], ["--model-card", "."], ["out"]):
        assert run("report", "out", *more).stderr == message
    Path("out/one/ioi/roles/arrays.safetensors").write_bytes(b"")
    found = run("report", "out")
    assert found.code == 2 and "out/one/ioi/roles is damaged or not a result of this version" in found.stderr
    Path("out/study.json").write_text("{")
    assert "error: out/study.json is damaged or not of this version" in run("report", "out").stderr
