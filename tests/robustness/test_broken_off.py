"""Runs that break off at a write, again and again, by a full disk or an interrupt: one clear message, nothing half is
taken for whole, and in the end the result is that of a run which nothing disturbed."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path

import pytest

from circuitkd.artifacts import load_run
from circuitkd.circuits.circuit import Circuit
from circuitkd.comparison.result import Comparison
from circuitkd.distill.experiment_result import ExperimentResult
from circuitkd.roles.result import RolesResult
from circuitkd.selection import Selection
from equal_results import assert_same

NUMERALS = ("--task", "numeral-sequence", "--n", 4)
BOXES = ("--task", "entity-tracking-object-first", "--n", 20, "--steps", 1, "--seeds", 1, "--batch-size", 4)
# Arguments, the results to look at, and how many more writes each attempt gets than the one before.
COMMANDS = {
    "compare": (("big", "small", *NUMERALS, "--no-random-null"), {".": Comparison}, 1),
    "circuit": (("big", *NUMERALS, "--force", "--no-edges"), {".": Circuit}, 8),
    "select": (("big", "small", "other", *NUMERALS), {"small": Comparison, "selection": Selection}, 4),
    "roles": (("big", "small", *NUMERALS), {".": RolesResult, "comparison": Comparison}, 5),
    "distill": (
        ("small", "other", *BOXES, "--paper-only", "--heads", "L0H0"),
        {".": ExperimentResult, "before": Comparison, "after": Comparison},
        9,
    ),
}
SLOW = ("roles", "distill")


class BreakOff:
    """Raises at the n-th write: a file written to the disk, or put in its place."""

    def __init__(self, monkeypatch):
        self.left = None
        replace_file = Path.replace

        def put(path, target):
            self.count()
            return replace_file(path, target)

        monkeypatch.setattr(os, "fsync", lambda descriptor: self.count())
        monkeypatch.setattr(Path, "replace", put)

    def after(self, writes, error):
        self.left, self.error = writes, error

    def count(self):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise self.error


@pytest.mark.parametrize("command", [pytest.param(c, marks=[pytest.mark.slow] * (c in SLOW)) for c in COMMANDS])
def test_what_breaks_off_is_resumed_to_the_same_result(run, models, monkeypatch, command):
    arguments, kinds, step = COMMANDS[command]
    arguments = [models / a if a in ("big", "small", "other") else a for a in arguments]
    assert run(command, *arguments, "--output-dir", "whole").code == 0
    breaking, attempts, code = BreakOff(monkeypatch), 0, None
    while code != 0:
        full = attempts % 2 == 0
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if full else KeyboardInterrupt()
        breaking.after(attempts * step, error)
        found = run(command, *arguments, "--output-dir", "broken")
        code, attempts = found.code, attempts + 1
        assert attempts < 50
        if code != 0:
            assert code == (2 if full else 130)
            told = [
                x for x in found.stderr.splitlines() if x.startswith(("error: ", "interrupted; run the same command"))
            ]
            assert len(told) == 1
            assert ("No space left on device" in told[0] and "free some space" in told[0]) if full else told
            assert list(Path("broken").rglob("*.tmp")) == []
            for folder, kind in kinds.items():
                if (Path("broken") / folder / "result.json").exists():
                    same(Path("whole") / folder, Path("broken") / folder, kind)
    assert attempts > 3
    for folder, kind in kinds.items():
        same(Path("whole") / folder, Path("broken") / folder, kind)
    assert files("broken") == files("whole")


def same(whole, other, kind):
    """Equal in all but the work that was done and the seconds that training took."""
    assert_same(undated(load_run(whole, kind)), undated(load_run(other, kind)))


def undated(value):
    """The value without what a resumed run counts otherwise."""
    if dataclasses.is_dataclass(value):
        found = {f.name: undated(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {name: v for name, v in found.items() if name not in ("forward_equivalents", "seconds")}
    if isinstance(value, dict):
        return {name: undated(v) for name, v in value.items() if not str(name).startswith("forward_equivalents")}
    return [undated(v) for v in value] if isinstance(value, tuple | list) else value


def files(root):
    return sorted(str(path.relative_to(root)) for path in Path(root).rglob("*") if path.is_file())
