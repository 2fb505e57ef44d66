from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import circuitkd
from circuitkd import Comparison
from circuitkd.artifacts import write_together
from circuitkd.cli.compare import noise_grid
from circuitkd.comparison.noise import SEEDS, STDS

SOURCE = Path(circuitkd.__file__).parents[1]
# The command, made to wait once the first piece is on disk: so it is interrupted there however busy the machine is.
# A shell's background job ignores SIGINT, and so would a child of a test run in one.
WAITS_AFTER_A_PIECE = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from circuitkd.cli import main
from circuitkd.interventions.execution import Ledger

write = Ledger.write

def write_and_wait(*args, **named):
    write(*args, **named)
    time.sleep(600)

Ledger.write = write_and_wait
main()
"""


def left_behind(folder):
    """A piece as of a run that was killed after its result was written."""
    (folder / "partial").mkdir()
    (folder / "partial" / "0123456789abcdef-0123456789abcdef.safetensors").write_bytes(b"")


def test_a_single_task(run, models, tmp_path):
    found = run("compare", models / "big", models / "small", "--task", "ioi", "--n", 6, "--output-dir", "out")
    assert found.code == 0
    assert "big → small, 6 examples" in found.stdout
    assert "\x1b" not in found.stdout + found.stderr
    assert found.stdout.endswith(f"run folder: out\nreport:     {Path('out/report.html')}\n")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"manifest.json", "result.json", "arrays.safetensors", "report.html"}
    saved = Comparison.load("out")
    assert (saved.task, saved.performance.n, saved.manifest["task_seed"]) == ("ioi", 6, "0")
    assert f"{saved.alignment.score:.3f}" in found.stdout
    assert saved.alignment.null.random_score is not None
    left_behind(Path("out"))
    again = run("compare", models / "big", models / "small", "--task", "ioi", "--n", 6, "--output-dir", "out", "--json")
    assert "taken from out: it holds this result already" in again.stderr and not Path("out/partial").exists()
    assert again.json["alignment"]["score"] == saved.alignment.score
    other = run("compare", models / "big", models / "other", "--task", "ioi", "--n", 6, "--output-dir", "out")
    assert other.code == 2
    assert "out holds the finished result of another run (it differs in student)" in other.stderr
    assert np.array_equal(Comparison.load("out").student_sweep.effects, saved.student_sweep.effects)


def test_json_is_alone_on_stdout_and_options_reach_the_library(run, models):
    arguments = (
        "--task ioi --n 6 --seed 3 --ablation zero --head-similarity cka --mlp-similarity cka --matching hungarian"
    )
    more = "--normalization l2 --top 4 --preset released-notebook-ioi --no-random-null --dtype float64 --batch-size 2"
    found = run("compare", models / "big", models / "small", *arguments.split(), *more.split(), "--json")
    assert found.code == 0
    result = found.json
    assert result["teacher"]["dtype"] == "float64"
    assert result["teacher_sweep"]["ablation"] == "zero"
    definition = result["alignment"]["definition"]
    for part in ("debiased linear CKA of z", "CKA of MLP outputs", "l2 normalised", "hungarian", "top 4 components"):
        assert part in definition
    assert result["alignment"]["null"]["random_score"] is None
    assert result["notebook"]["score"]["score"] > 0
    assert result["manifest"]["task_seed"] == "3"
    folder = Path("circuitkd-runs/big--small/ioi")
    assert found.stderr.endswith(f"run folder: {folder}\n")
    assert Comparison.load(folder).alignment.score == result["alignment"]["score"]


def test_a_screen_ablates_some_and_estimates_the_others(run, models):
    arguments = ("compare", models / "big", models / "small", "--task", "ioi", "--n", 6, "--no-random-null")
    found = run(*arguments, "--screen", 3, "--json", "--output-dir", "screened")
    assert found.code == 0
    teacher = found.json["teacher_sweep"]
    assert len(teacher["components"]) - len(teacher["estimated"]) == 3
    assert found.json["manifest"]["effects"].startswith("ablation of the 3 components of largest attribution")
    other = run(*arguments, "--output-dir", "screened")
    assert "it differs in options" in other.stderr
    assert run(*arguments, "--screen", 0).stderr == "error: --screen must be at least 1, got 0\n"


def test_several_tasks_and_noise(run, models):
    own = Path("own.jsonl")
    lines = [
        {"id": str(i), "clean": f"{i} 1 2 3", "corrupted": f"{i} 7 9 4", "answer": " 4", "distractor": " 3"}
        for i in range(10, 14)
    ]
    own.write_text("\n".join(map(json.dumps, lines)))
    arguments = "--task ioi --task own.jsonl --task ioi --n 4 --no-random-null --noise --noise-steps 2 --noise-seeds 1"
    found = run("compare", models / "big", models / "small", *arguments.split(), "--json")
    assert found.code == 0
    assert [c["task"] for c in found.json] == ["ioi", "own"]
    for result in found.json:
        curve = result["noise"]
        assert (curve["stds"], curve["seeds"]) == ([0.0, 2.0], [0])
        assert curve["scores"][0][0] == pytest.approx(result["alignment"]["score"], abs=1e-6)
    root = Path("circuitkd-runs/big--small")
    assert [row["folder"] for row in json.loads((root / "index.json").read_text())["runs"]] == ["ioi", "own"]
    assert (root / "report.html").is_file()
    assert not (root / "report.html").read_text().startswith("{")
    shown = run("compare", models / "big", models / "small", *arguments.split())
    assert shown.stderr.count("it holds this result already") == 4
    assert "own: the student disturbed by Gaussian noise, 1 draw " in shown.stdout


def test_a_task_that_does_not_fit_fails_before_any_run(run, models):
    Path("bad.jsonl").write_text(
        '{"id": "1", "clean": "a", "corrupted": "a b c", "answer": " 4", "distractor": " 3"}\n'
    )
    found = run("compare", models / "big", models / "small", "--task", "ioi", "--n", 4, "--task", "bad.jsonl")
    assert (found.code, found.stdout) == (2, "")
    assert "line 1" in found.stderr
    assert not Path("circuitkd-runs/big--small/ioi").exists()


def test_a_folder_that_cannot_be_written(run, models):
    Path("file").write_text("")
    found = run("compare", models / "big", models / "small", "--task", "ioi", "--output-dir", "file/out")
    assert found.code == 2
    assert found.stderr == (
        "error: cannot write to file/out: Not a directory; free some space or choose another --output-dir\n"
    )


def test_a_full_disk(run, models, monkeypatch):
    def full(contents):
        if any(path.name == "result.json" for path in contents):
            raise OSError(28, "No space left on device")
        write_together(contents)

    monkeypatch.setattr("circuitkd.artifacts.write_together", full)
    arguments = ("--task", "ioi", "--n", 4, "--no-random-null", "--output-dir", "out")
    found = run("compare", models / "big", models / "small", *arguments)
    assert found.code == 2
    assert found.stderr == (
        "error: cannot write the run folder out: No space left on device; free some space or choose another "
        "--output-dir\n"
    )
    assert any(Path("out/partial").iterdir())  # nothing computed is lost


def test_the_grid_of_the_papers_noise_experiment():
    assert noise_grid(41, 5, []) == (STDS, SEEDS)


def test_interrupted_it_resumes_and_gives_the_same(run, models, tmp_path):
    arguments = [
        models / "big",
        models / "small",
        "--task",
        "entity-tracking",
        "--n",
        30,
        "--batch-size",
        2,
        "--no-random-null",
    ]
    command = [sys.executable, "-c", WAITS_AFTER_A_PIECE, "compare", *map(str, arguments), "--output-dir", "out"]
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        while process.poll() is None and not list((tmp_path / "out" / "partial").glob("*.safetensors")):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout.decode()) == (130, "")
    assert stderr.decode() == "interrupted; run the same command again to resume\n"
    pieces = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "partial").glob("*.safetensors")}
    assert len(pieces) == 1
    assert not (tmp_path / "out" / "result.json").exists()
    assert run("compare", *arguments, "--output-dir", "out").code == 0
    assert not (tmp_path / "out" / "partial").exists()
    assert run("compare", *arguments, "--output-dir", "whole").code == 0
    resumed, whole = Comparison.load("out"), Comparison.load("whole")
    assert np.array_equal(resumed.teacher_sweep.effects, whole.teacher_sweep.effects)
    assert np.array_equal(resumed.student_sweep.effects, whole.student_sweep.effects)
    assert resumed.alignment.score == whole.alignment.score
