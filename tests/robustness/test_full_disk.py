"""A limit on the size of files, which the operating system enforces: one clear message, and a later run goes on."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from circuitkd.cli.distill_students import MARKER
from circuitkd.comparison.result import Comparison
from robustness.test_broken_off import BOXES, NUMERALS

resource = pytest.importorskip("resource", reason="needs the limits of POSIX systems")


@contextlib.contextmanager
def largest_file(size):
    """Files of this process grow to so many bytes at most."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def told(found):
    """The only error that a command told."""
    assert found.code == 2
    (line,) = [line for line in found.stderr.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize("size, kept", [(10, 0), (300, 3)])
def test_a_comparison_that_does_not_fit(run, models, size, kept):
    arguments = (models / "big", models / "small", *NUMERALS, "--no-random-null", "--output-dir", "out")
    with largest_file(size):
        text = told(run("compare", *arguments))
    assert "cannot write" in text and "File too large; free some space" in text
    assert not (Path("out") / "result.json").exists()
    assert list(Path("out").rglob("*.tmp")) == []
    pieces = list(Path("out/partial").glob("*.safetensors"))
    assert len(pieces) == kept
    assert run("compare", *arguments).code == 0
    whole = run("compare", *arguments[:-1], "whole", "--json").json
    resumed, anew = (
        Comparison.load("out").teacher_sweep.forward_equivalents,
        whole["teacher_sweep"]["forward_equivalents"],
    )
    assert resumed < anew if kept else resumed == anew


def test_a_student_that_does_not_fit(run, models):
    arguments = (models / "small", models / "other", *BOXES, "--paper-only", "--heads", "L0H0", "--output-dir", "out")
    with largest_file(40_000):
        text = told(run("distill", *arguments))
    assert "File too large" in text and "free some space or choose another --output-dir" in text
    assert list(Path("out/students").rglob(MARKER)) == []
    assert not (Path("out") / "result.json").exists()
