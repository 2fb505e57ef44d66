"""The terms of the training loss, kept between two log entries.

CD reports that cross-entropy falls faster with the alignment term than without. The loss that the Trainer logs is the sum
of both, so that cannot be seen in it: `task_loss` and `alignment_loss` stand beside it, with loss = task_loss + weight x
alignment_loss.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


class LossParts:
    """Sums of the terms over the micro-batches of some optimiser steps."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def add(self, **terms: Tensor | None) -> None:
        """Scalars of one micro-batch, scaled as the loss is; None for a term that the loss doesn't have."""
        for name, value in terms.items():
            if value is not None:
                self._sums[name] = self._sums.get(name, 0.0) + value.detach().float()

    def step(self) -> None:
        """One optimiser step is done."""
        self._steps += 1

    def take(self, accelerator: Any) -> dict[str, float]:
        """Means over the steps since the last call and over processes, which must all call this."""
        steps = max(self._steps, 1)
        found = {name: float(accelerator.gather(total).mean()) / steps for name, total in self._sums.items()}
        self._sums, self._steps = {}, 0
        return found
