"""Leading directions of the outputs of one MLP, whose rows come in batches: what DC Eq. 6 compares.

Of fewer rows than they are wide the rows are kept, in their own dtype, and a product of rows with rows gives the directions
(`similarity.leading_directions`); of more, a covariance [d, d] is summed on the host (`similarity.leading_eigenvectors`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from circuitkd.accumulators import Gram
from circuitkd.comparison.checks import Array
from circuitkd.comparison.similarity import leading_directions, leading_eigenvectors


class Directions:
    """The three leading directions of `count` rows of some width, multiplied on `device`."""

    def __init__(self, count: int, width: int, *, device: torch.device | str = "cpu") -> None:
        self.device = device
        self._kept: list[Tensor] | None = [] if count < width else None
        self._gram = Gram()

    def update(self, rows: Tensor) -> None:
        """Add rows [row, d], which lie on the host."""
        if self._kept is not None:
            self._kept.append(rows)
        else:
            self._gram.update(rows.double().numpy())

    def result(self) -> Array:
        """[d, 3], zero beyond the rank."""
        if self._kept is not None:
            return leading_directions(torch.cat(self._kept).double().numpy(), undefined="zero", device=self.device)
        return leading_eigenvectors(self._gram.result().covariance, undefined="zero")
