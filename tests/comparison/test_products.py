"""Squared norms of all products: both ways against the plain formula, whatever the size of the parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from circuitkd.comparison import products as module
from circuitkd.comparison.cka import cka_matrix
from circuitkd.comparison.products import (
    Features,
    Scratch,
    copies,
    norms_by_features,
    norms_by_rows,
    operations,
    squared_norms,
    with_float64,
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def arrays(rows=23, teacher=(5, 6), student=(4, 3)):
    """Correlated activations [component, row, width] in float32, as `measure` keeps them: rows first in memory."""
    shared = normal(rows, 1, 1)
    x = normal(rows, *teacher, seed=1) + shared + 3
    y = normal(rows, *student, seed=2) - 2 * shared
    return tuple(side.astype(np.float32).transpose(1, 0, 2) for side in (x, y))


def sides(x, y):
    scratch = Scratch()
    return Features.of(x, scratch=scratch), Features.of(y, scratch=scratch)


def plain(x, y):
    """The formula, pair by pair."""
    x, y = (side.astype(np.float64) - side.astype(np.float64).mean(axis=1, keepdims=True) for side in (x, y))
    cross = np.array([[((a.T @ b) ** 2).sum() for b in y] for a in x])
    return cross, *(np.array([((a.T @ a) ** 2).sum() for a in side]) for side in (x, y))


# Bytes: everything at once, a few components or tiles at a time, one component or tile entry at a time.
@pytest.mark.parametrize("block", [2**29, 20_000, 4_000, 1])
@pytest.mark.parametrize("way", [norms_by_rows, norms_by_features])
@pytest.mark.parametrize("rows", [1, 2, 23, 130, 300])
def test_both_ways_against_the_plain_formula(way, rows, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", max(block, 2000 if rows > 100 else 0))
    x, y = arrays(rows)
    for found, wanted in zip(way(*sides(x, y)), plain(x, y), strict=True):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)


@pytest.mark.parametrize("way", [norms_by_rows, norms_by_features])
def test_a_single_component_on_either_side(way):
    x, y = arrays(9, (1, 4), (1, 7))
    for found, wanted in zip(way(*sides(x, y)), plain(x, y), strict=True):
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)


@pytest.mark.parametrize("block", [2**29, 3_000])
def test_row_norms(block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    x = arrays()[0]
    wanted = ((x.astype(np.float64) - x.astype(np.float64).mean(axis=1, keepdims=True)) ** 2).sum(axis=2)
    np.testing.assert_allclose(Features.of(x, scratch=Scratch()).row_norms().numpy(), wanted, rtol=1e-12)


@pytest.mark.parametrize("way", [norms_by_rows, norms_by_features])
@pytest.mark.parametrize("shapes", [((60, 4), (50, 4)), ((12, 40), (9, 30)), ((40, 16), (3, 2))])
def test_memory_is_bounded(way, shapes, monkeypatch):
    block = 200_000  # more than a component or a product of two, less than all of them
    monkeypatch.setattr(module, "BLOCK", block)
    teacher, student = sides(*arrays(100, *shapes))
    way(teacher, student)
    held = teacher.scratch._held
    assert sum(8 * len(memory) for memory in held.values()) <= block
    assert all(8 * len(memory) <= block / (4 if name in ("left", "right") else 2) for name, memory in held.items())
    (t, p), (s, q) = shapes
    assert 8 * (100 * (t * p + s * q) + (100**2 * (t + s) if way is norms_by_rows else t * p * s * q)) > 2 * block


def test_the_cheaper_way_is_taken(monkeypatch):
    taken = []
    for name in ("norms_by_rows", "norms_by_features"):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, name=name, real=real: taken.append(name) or real(*args))
    for shapes in (((30, 2), (30, 2)), ((30, 12), (30, 12)), ((1, 12), (1, 12))):
        x, y = arrays(40, *shapes)
        found = squared_norms(*sides(x, y))
        np.testing.assert_allclose(found.cross, plain(x, y)[0], rtol=1e-12)
    # Few rows for so many pairs of wide components, though 40^2 > 12^2; and a single pair.
    assert taken == ["norms_by_features", "norms_by_rows", "norms_by_features"]


def test_operations_by_hand():
    # 40 rows are one tile; 1024 are two a side, of which three of four are made.
    assert operations((3, 5), (2, 7), rows=40) == (40**2 * (15 + 14 + 6), 40 * (5 * 7 * 6 + 25 * 3 + 49 * 2))
    assert operations((3, 5), (2, 7), rows=1024)[0] == 1024**2 * 3 / 4 * (15 + 14 + 6)


@pytest.mark.parametrize("rows, block", [(40, 2**29), (200, 2**29), (200, 50_000)])
def test_copies_are_counted(rows, block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    real, seen = Features.centred, []

    def counted(self, components, which=slice(None), **more):
        found = real(self, components, which, **more)
        seen.append(found.numel())
        return found

    monkeypatch.setattr(Features, "centred", counted)
    teacher, student = sides(*arrays(rows))
    for side in (teacher, student):
        side.row_norms()
    norms_by_rows(teacher, student)
    assert sum(seen) == rows * (5 * 6 + 4 * 3) * copies(9, rows=rows)


def test_read_only_arrays_are_copied_and_others_left_alone():
    x = arrays()[0]
    before = x.copy()
    features = Features.of(x, scratch=Scratch())
    assert features.values.data_ptr() == x.ctypes.data
    features.row_norms()
    np.testing.assert_array_equal(x, before)
    frozen = before.copy()
    frozen.flags.writeable = False
    assert Features.of(frozen, scratch=Scratch()).values.data_ptr() != frozen.ctypes.data


def test_devices_without_float64_leave_the_work_to_the_cpu():
    assert with_float64("mps") == torch.device("cpu")
    assert with_float64("cuda:1") == torch.device("cuda:1")
    assert with_float64(torch.device("cpu")) == torch.device("cpu")


def test_a_named_device_gives_the_same():
    x, y = arrays()
    np.testing.assert_array_equal(cka_matrix(x, y, device=torch.device("cpu")), cka_matrix(x, y))


def test_memory_is_used_again():
    scratch = Scratch()
    first = scratch.take("a", 3, 4)
    again = scratch.take("a", 2, 5)
    assert again.shape == (2, 5)
    assert again.data_ptr() == first.data_ptr()
    assert scratch.take("b", 2).data_ptr() != first.data_ptr()
    assert scratch.take("a", 5, 5).numel() == 25
