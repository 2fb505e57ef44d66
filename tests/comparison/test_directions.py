"""Directions of rows in batches, of few rows and of many."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from circuitkd.comparison import directions as module
from circuitkd.comparison.directions import Directions
from circuitkd.comparison.similarity import leading_eigenvectors


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count, unused", [(19, "leading_eigenvectors"), (20, "leading_directions")])
def test_both_ways_are_the_eigenvectors_of_the_covariance(count, unused, dtype, monkeypatch):
    rng = np.random.default_rng(0)
    rows = torch.tensor(rng.normal(size=(count, 20)) * np.arange(1, 21) + 5).to(dtype)
    monkeypatch.setattr(module, unused, None)
    directions = Directions(count, 20)
    for batch in rows.split(8):
        directions.update(batch)
    wanted = leading_eigenvectors(np.cov(rows.double().numpy().T, bias=True))
    np.testing.assert_allclose(directions.result(), wanted, atol=1e-9)


@pytest.mark.parametrize("count", [2, 9])
def test_beyond_the_rank_they_are_zero(count):
    directions = Directions(count, 4)
    directions.update(torch.arange(float(count))[:, None] * torch.ones(4))
    found = directions.result()
    np.testing.assert_allclose(found[:, 0], 0.5)
    assert not found[:, 1:].any()
