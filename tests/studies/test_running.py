"""Studies of tiny models: what is kept, taken, refused, recorded; and a crash at any moment changes nothing."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from circuitkd.artifacts import load_run
from circuitkd.comparison.result import Comparison
from circuitkd.studies import running
from circuitkd.studies.job_kinds import RUNNERS
from circuitkd.studies.running import INDEX, MEMORY, Machine, run_study
from circuitkd.studies.study_file import jobs, read_study
from equal_results import assert_same
from small_study import EVERYTHING, QUICK

FOLDERS = ["tiny/numerals/compare", "tiny/numerals/noise"]


class Watch:
    """Remembers what it is told."""

    def __init__(self):
        self.steps, self.reports = [], []

    def step(self, text, *, number=0, total=None):
        self.steps.append((text, number, total))

    def report(self, label, done, total):
        self.reports.append(label)


def test_results_are_kept_and_taken(run, tmp_path):
    watch = Watch()
    first = run(QUICK, watch=watch)
    assert list(first.results) == FOLDERS and first.failures == () and first.taken == 0
    assert_same(load_run(tmp_path / "out" / FOLDERS[0], Comparison), first.results[FOLDERS[0]])
    assert watch.steps == [
        ("loading tiny", 0, 2),
        ("tiny, numerals: compare", 0, 2),
        ("tiny, numerals: noise", 1, 2),
    ]
    assert "ablation sweep" in watch.reports
    again = run(QUICK)
    assert again.taken == 2
    assert_same(list(again.results.values()), list(first.results.values()))
    assert [job.folder for job, _ in again.of_kind("noise")] == FOLDERS[1:]
    assert not list(tmp_path.rglob("partial"))
    index = json.loads((tmp_path / "out" / INDEX).read_text())
    assert index["jobs"] == [{"folder": f, "state": "finished"} for f in FOLDERS]
    assert index["study"]["title"] == "Tiny models"


def test_an_edited_study_is_refused_until_told(run):
    first = run(QUICK)
    edited = QUICK.replace("seeds: 1", "seeds: 2")
    refused = run(edited)
    assert refused.taken == 1 and [f.job.folder for f in refused.failures] == FOLDERS[1:]
    assert "(it differs in options)" in refused.failures[0].reason and "--overwrite" in refused.failures[0].reason
    replaced = run(edited, overwrite=True)
    assert replaced.taken == 1 and replaced.failures == ()
    assert replaced.results[FOLDERS[1]].seeds == (0, 1) != first.results[FOLDERS[1]].seeds
    assert run(edited, overwrite=True).taken == 2


def test_a_damaged_result_is_computed_again(run, tmp_path):
    first = run(QUICK)
    (tmp_path / "out" / FOLDERS[1] / "arrays.safetensors").write_bytes(b"x")
    again = run(QUICK)
    assert again.taken == 1
    assert_same(again.results[FOLDERS[1]], first.results[FOLDERS[1]])


def test_a_pair_that_cannot_be_loaded_does_not_stop_the_others(run, tiny_folder):
    (tiny_folder / "empty").mkdir(exist_ok=True)
    text = QUICK.replace("pairs:\n", "pairs:\n  - {name: broken, teacher: empty, student: small}\n", 1)
    found = run(text)
    assert list(found.results) == FOLDERS
    assert [f.job.folder for f in found.failures] == ["broken/numerals/compare", "broken/numerals/noise"]
    assert "config.json" in found.failures[0].reason and found.failures[0].details == ""


def test_what_builds_on_a_failed_comparison_fails_too(run):
    text = QUICK.replace("n: 16", "n: 1").replace("{kind: noise, options: {steps: 2, seeds: 1}}", "{kind: roles}")
    found = run(text)
    assert found.results == {}
    assert [f.reason for f in found.failures][1] == "the comparison that it builds on failed"
    assert "a comparison needs at least two examples" in found.failures[0].reason


@pytest.mark.parametrize(
    ("error", "reason", "has_details"),
    [
        (torch.OutOfMemoryError("x"), MEMORY, False),
        (MemoryError(), MEMORY, False),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero", True),
        (ValueError("no"), "no", False),
    ],
)
def test_how_failures_are_told(run, monkeypatch, tmp_path, error, reason, has_details):
    def fail(ready):
        raise error

    patched = dict(RUNNERS) | {kind: (RUNNERS[kind][0], fail) for kind in ("compare", "noise")}
    monkeypatch.setattr(running, "RUNNERS", patched)
    found = run(QUICK)
    assert [f.reason for f in found.failures] == [reason] * 2
    assert bool(found.failures[0].details) == has_details
    rows = json.loads((tmp_path / "out" / INDEX).read_text())["jobs"]
    assert [(r["state"], r["reason"]) for r in rows] == [("failed", reason)] * 2


def test_an_interruption_is_not_a_failure(run, monkeypatch):
    def interrupt(ready):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "RUNNERS", dict(RUNNERS) | {"noise": (RUNNERS["noise"][0], interrupt)})
    with pytest.raises(KeyboardInterrupt):
        run(QUICK)
    monkeypatch.undo()
    assert run(QUICK).taken == 1


def test_where_models_are_loaded(run, monkeypatch):
    asked = []

    def load(name, **options):
        asked.append(options)
        raise ValueError("not now")

    monkeypatch.setattr(running, "load", load)
    text = QUICK.replace("student: small}", "student: small, dtype: float64, device: cpu, teacher_revision: main}")
    run(text)
    run(text, machine=Machine(device="cuda:3", dtype="bfloat16"))
    assert asked == [
        {"device": "cpu", "dtype": "float64", "revision": "main"},
        {"device": "cuda:3", "dtype": "bfloat16", "revision": "main"},
    ]


def test_names_that_can_be_no_model_are_refused_first(run, tmp_path):
    with pytest.raises(ValueError, match="no bundled model 'gpt2-techer'; did you mean 'zoo:gpt2-teacher'"):
        run(QUICK.replace("teacher: big", 'teacher: "zoo:gpt2-techer"'))
    assert not (tmp_path / "out").exists()


def test_an_index_that_cannot_be_written(run, tmp_path):
    (tmp_path / "out" / INDEX).mkdir(parents=True)
    with pytest.raises(ValueError, match=r"cannot write .*study.json"):
        run(QUICK)


@pytest.mark.slow
def test_every_kind_of_analysis_on_saved_models(run):
    found = run(EVERYTHING)
    assert found.failures == ()
    assert set(found.results) == {job.folder for job in jobs(found.study)} and len(found.results) == 6
    assert_same(without_times(run(EVERYTHING)), without_times(found))


@pytest.mark.slow
def test_killed_at_random_moments_it_gives_the_same(write, tmp_path):
    """Two kills -9, somewhere in the time that the whole study takes; then it is run to its end."""
    path = write(EVERYTHING)
    start = time.monotonic()
    assert started(path, tmp_path / "whole").wait(timeout=600) == 0
    duration = time.monotonic() - start
    moments = [random.uniform(0.2, 0.9) for _ in range(2)]
    for moment in moments:
        process = started(path, tmp_path / "killed")
        time.sleep(moment * duration / 2)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert started(path, tmp_path / "killed").wait(timeout=600) == 0, moments
    study = read_study(path)
    killed, whole = (run_study(study, tmp_path / name) for name in ("killed", "whole"))
    assert killed.taken == whole.taken == 6, moments
    assert_same(without_times(killed), without_times(whole))
    for table in (tmp_path / "whole" / "tables").iterdir():
        assert (tmp_path / "killed" / "tables" / table.name).read_bytes() == table.read_bytes()


def started(path, folder):
    """The study as a command of its own."""
    command = [sys.executable, "-m", "circuitkd", "study", str(path), "--output-dir", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def without_times(found):
    """The results, but for how long training took."""
    results = dict(found.results)
    for job, result in found.of_kind("distill"):
        runs = tuple(replace(r, seconds=0.0) for r in result.experiment.runs)
        results[job.folder] = replace(result, experiment=replace(result.experiment, runs=runs))
    return results
