"""Finished pieces that resuming takes: one in which any bit changed is made again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitkd.artifacts import load_if_whole
from circuitkd.distill import signals
from circuitkd.distill.experiment_result import DistillationRun
from circuitkd.interventions.execution import Ledger

VALUES = np.array([[0.5, -1.0, 3.0]])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("pieces")


@settings(max_examples=60)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_piece_in_which_a_bit_changed_is_not_taken(place, at, bit):
    ledger = Ledger(place / "sweep", "key")
    (place / "sweep").mkdir(exist_ok=True)
    ledger.write((0, 1, 2), "heads", values=VALUES)
    (path,) = (place / "sweep").iterdir()
    flip(path, at, bit)
    found = ledger.read((0, 1, 2), "heads", components=1)
    assert found is None or np.array_equal(found, VALUES)  # a bit of a name or a space may mean nothing
    ledger.write((0, 1, 2), "heads", values=VALUES)
    assert np.array_equal(ledger.read((0, 1, 2), "heads", components=1), VALUES)


@settings(max_examples=60)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_teachers_file_in_which_a_bit_changed_is_not_taken(place, at, bit):
    path = place / "teacher.safetensors"
    made = {"z": torch.arange(6.0).reshape(1, 2, 3), "points": torch.tensor([1, 1]), "labels": torch.tensor([4, 5])}
    signals._write(path, made)
    flip(path, at, bit)
    found = signals._read(path)
    assert found is None or (found.keys() == made.keys() and all(torch.equal(found[n], made[n]) for n in made))
    signals._write(path, made)
    assert signals._read(path).keys() == made.keys()


def flip(path, at, bit):
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 1 << bit
    path.write_bytes(bytes(content))


def test_a_damaged_run_of_an_experiment_counts_as_none(tmp_path):
    assert load_if_whole(None, DistillationRun) is None
    assert load_if_whole(tmp_path, DistillationRun) is None
    (tmp_path / "result.json").write_text("{")
    assert load_if_whole(tmp_path, DistillationRun) is None
