"""Processes killed (kill -9) in the middle of a run: the same command again gives the result of an undisturbed run."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from circuitkd.circuit_analysis import CircuitComparison
from circuitkd.comparison.noise import NoiseCurve
from circuitkd.comparison.result import Comparison
from circuitkd.distill.experiment_result import ExperimentResult
from robustness.test_broken_off import BOXES, NUMERALS, files, same

pytestmark = pytest.mark.slow
STUDY = """
title: Killed
pairs: [{name: p, teacher: BIG, student: SMALL}]
tasks: [{name: numeral-sequence, n: 4}, {name: greater-than, n: 4}]
analyses: [{kind: compare}, {kind: noise, options: {steps: 3, seeds: 2}}]
"""
COMMANDS = {
    "compare": (("big", "small", *NUMERALS, "--circuits"), {".": Comparison, "circuits": CircuitComparison}),
    "distill": (
        ("small", "other", *BOXES, "--paper-only", "--heads", "L0H0"),
        {".": ExperimentResult, "after": Comparison},
    ),
    "study": (
        ("study.yaml",),
        {"p/numeral-sequence/compare": Comparison, "p/greater-than/noise": NoiseCurve},
    ),
}


@pytest.fixture(autouse=True)
def quick():
    """No shortcuts: results made in this process must equal those of the killed ones."""


def kill_after(writes: int, arguments: list[str], folder: Path) -> bool:
    """Run the command until so many files have come into the folder, then kill it; False where it ended before."""
    seen: set[Path] = set()
    with subprocess.Popen([sys.executable, "-m", "circuitkd", *arguments], stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and len(seen) < writes:
            seen.update(folder.rglob("*"))
            time.sleep(0.002)
        process.kill()
    return process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("command", COMMANDS)
def test_a_killed_run_is_resumed_to_the_same_result(run, models, tmp_path, command):
    arguments, kinds = COMMANDS[command]
    (tmp_path / "study.yaml").write_text(
        STUDY.replace("BIG", str(models / "big")).replace("SMALL", str(models / "small"))
    )
    arguments = [str(models / a) if a in ("big", "small", "other") else str(a) for a in arguments]
    assert run(command, *arguments, "--output-dir", "whole").code == 0
    rng, kills = random.Random(command), 0
    for _ in range(2):
        writes = rng.randrange(3, 30)
        kills += kill_after(writes, [command, *arguments, "--output-dir", "broken"], tmp_path / "broken")
    assert kills >= 1
    assert run(command, *arguments, "--output-dir", "broken").code == 0
    for folder, kind in kinds.items():
        same(Path("whole") / folder, Path("broken") / folder, kind)
    assert files("broken") == files("whole")
