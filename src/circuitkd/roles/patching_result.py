"""What activation patching found: effects of every component at every position, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from circuitkd.components import Component

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ActivationPatching:
    """Mean effects, in logits, of taking something from the clean run (definitions in `activation_patching.py`).

    `components`: the embedding, every head layer by layer, every MLP. `positions` [position]: their names. `effects`
    [component, position]; `at_all` [component]: at all positions at once. `blocks` [layer, position], `blocks_at_all`
    [layer]: whole attention blocks. `qk`, `ov` [head]: a head's pattern, or its values, at all positions. `clean`,
    `corrupted` [example]: logit differences. `left_out`: id -> why an example was not used.
    """

    model: str
    task: str
    components: tuple[Component, ...]
    positions: tuple[str, ...]
    effects: Floats
    at_all: Floats
    blocks: Floats
    blocks_at_all: Floats
    qk: Floats
    ov: Floats
    clean: Floats
    corrupted: Floats
    examples: tuple[str, ...]
    left_out: dict[str, str]

    @property
    def gap(self) -> float:
        """m(clean) - m(corrupted), in logits."""
        return float(self.clean.mean() - self.corrupted.mean())

    @property
    def heads(self) -> tuple[Component, ...]:
        """The heads, in the order of `qk` and `ov`."""
        return tuple(c for c in self.components if c.kind == "head")

    @property
    def head_effects(self) -> Floats:
        """The rows of `effects` that are heads [head, position]."""
        return self.effects[[c.kind == "head" for c in self.components]]

    def recovery(self, effects: Floats) -> Floats:
        """Effects as shares of the gap: 0 as corrupted, 1 as clean. NaN where the gap is 0."""
        return effects / (self.gap or np.nan)

    def multiples(self, effects: Floats) -> Floats:
        """Effects of the heads [head, ...] as multiples of the mean over their layer's heads; NaN where it is 0."""
        mean = np.stack([effects[same].mean(axis=0) for same in self._same_layer()])
        return effects / np.where(mean == 0, np.nan, mean)

    def z_scores(self, effects: Floats) -> Floats:
        """Effects of the heads [head, ...] as z-scores among their layer's heads; NaN where those are all equal."""
        mean = np.stack([effects[same].mean(axis=0) for same in self._same_layer()])
        spread = np.stack([effects[same].std(axis=0) for same in self._same_layer()])
        return (effects - mean) / np.where(spread == 0, np.nan, spread)

    def to_pandas(self) -> pd.DataFrame:
        """One row for each component and position, and one for all positions ("all")."""
        values = np.concatenate([self.effects, self.at_all[:, None]], axis=1)
        recovery = self.recovery(values)
        rows = [
            (str(component), position, values[i, j], recovery[i, j])
            for i, component in enumerate(self.components)
            for j, position in enumerate((*self.positions, "all"))
        ]
        return pd.DataFrame(rows, columns=["component", "position", "effect", "recovery"])

    def _same_layer(self) -> list[NDArray[np.bool_]]:
        """For each head which heads are in its layer."""
        layers = np.array([head.layer for head in self.heads])
        return [layers == layer for layer in layers]
