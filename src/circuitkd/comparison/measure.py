"""One pass of each model over the clean prompts: everything that similarities are computed from, streamed.

Kept per model, as far as it is asked for: mean attention patterns, z and z W_O for each prompt length (or number of
words), leading directions of MLP outputs over all real tokens, and z and MLP outputs at up to POINTS sampled positions
for CKA (the same tokens, or last tokens of the same words, in both models).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuitkd.accumulators import Gram, GramResult, Mean
from circuitkd.comparison.alignment_of_tokens import Units
from circuitkd.comparison.directions import Directions
from circuitkd.comparison.notebook_preset import centre_tokens
from circuitkd.interventions.capture import Batch, LayerState, Noise, batches, make_batch, walk_batch
from circuitkd.models import blocks
from circuitkd.models.blocks import Context, make_context
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.tasks.binding import BoundTask

Floats = NDArray[np.float64]
POINTS = 1024
Points = dict[int, list[int]]
Field = Literal["patterns", "mean_z", "mean_results", "mlp_vectors", "mlp_centred", "z", "mlp_points"]
FIELDS: frozenset[Field] = frozenset(get_args(Field))


def _none() -> NDArray[Any]:
    return np.zeros((0, 0, 0))


@dataclass(frozen=True, eq=False)
class Measured:
    """`widths`: (d_model, d_head). What was not asked for is empty.

    `patterns`: per number of units, mean patterns [head, unit, unit] (row: query); `mean_z` [head, unit, d_head]
    and `mean_results` [head, unit, d_model] likewise. `mlp_vectors` [mlp, d_model, 3]: leading eigenvectors of the
    covariance of each MLP's outputs, zero beyond its rank. `mlp_centred`: moments of these outputs centred over d_model
    token by token. `z` [point, head, d_head], `mlp_points` [point, mlp, d_model].
    """

    widths: tuple[int, int]
    patterns: dict[int, Floats] = field(default_factory=dict)
    mean_z: dict[int, Floats] = field(default_factory=dict)
    mean_results: dict[int, Floats] = field(default_factory=dict)
    mlp_vectors: Floats = field(default_factory=_none)
    mlp_centred: tuple[GramResult, ...] = ()
    z: NDArray[np.float32] = field(default_factory=_none)
    mlp_points: NDArray[np.float32] = field(default_factory=_none)


@dataclass(frozen=True)
class Asked:
    """What a pass is asked for: `fields` of `Measured`, and the `points` at which z and MLP outputs are kept."""

    points: Points
    fields: Collection[Field] = FIELDS


def sample_points(units: Units, *, seed: int = 0) -> Points:
    """Up to POINTS (example, unit) pairs: all of them, or a random sample from `seed`."""
    every = [(row, unit) for row, count in enumerate(units.count) for unit in range(count)]
    if len(every) > POINTS:
        chosen = np.random.default_rng(seed).choice(len(every), POINTS, replace=False)
        every = [every[i] for i in sorted(chosen)]
    points: Points = {}
    for row, unit in every:
        points.setdefault(row, []).append(unit)
    return points


def measure(
    model: CircuitModel,
    task: BoundTask,
    *,
    units: Units,
    asked: Asked,
    batch_size: int,
    noise: Noise | None = None,
) -> Measured:
    """Run the clean prompts once."""
    run = _Run(model, task, units, asked.points)
    kept = {name: _KEEPERS[name](run) for name in asked.fields}
    with torch.inference_mode():
        for rows in batches(task, batch_size):
            batch = make_batch(task, rows)
            context = make_context(model, batch.lengths, n_pos=batch.tokens.shape[1])
            for state in walk_batch(model, batch, noise=noise):
                for keeper in kept.values():
                    keeper.add(batch, state, context)
    found: dict[str, Any] = {name: keeper.result() for name, keeper in kept.items()}
    return Measured((model.d_model, model.d_head), **found)


@dataclass(frozen=True)
class _Run:
    """What is run, and where units and points are."""

    model: CircuitModel
    task: BoundTask
    units: Units
    points: Points


class _Keeper(Protocol):
    """Takes every layer of every batch, and makes one field of `Measured`."""

    def add(self, batch: Batch, state: LayerState, context: Context) -> None: ...
    def result(self) -> Any: ...


class _Means:
    """Means over the examples of each number of units, head by head."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self._means: dict[int, list[Mean]] = {}

    def _update(self, row: int, layer: int, values: Tensor) -> None:
        layers = self._means.setdefault(self.run.units.count[row], [Mean() for _ in range(self.run.model.n_layers)])
        layers[layer].update(values.double().cpu().numpy()[None])

    def result(self) -> dict[int, Floats]:
        return {n: np.concatenate([m.result().mean for m in layers]) for n, layers in self._means.items()}


class _Patterns(_Means):
    def add(self, batch: Batch, state: LayerState, context: Context) -> None:
        units = self.run.units
        found = blocks.patterns(self.run.model, state.layer, state.q, state.k, context).double()
        for row, attention in zip(batch.rows, found, strict=True):
            length = len(units.of_token[row])
            inner = attention[:, :length, :length]
            if units.are_words:
                average, total = units.matrices(row, inner)
                inner = average @ inner @ total
            self._update(row, state.layer, inner)


class _MeanZ(_Means):
    def add(self, batch: Batch, state: LayerState, context: Context) -> None:
        heads = (self.run.model.n_heads, self.run.model.d_head)
        for i, row in enumerate(batch.rows):
            z = state.z[i, self.run.units.last_tokens(row)]
            self._update(row, state.layer, z.unflatten(-1, heads).transpose(0, 1))


class _MeanResults(_MeanZ):
    """z W_O: the mean of z, projected."""

    def result(self) -> dict[int, Floats]:
        return {n: self._projected(z) for n, z in super().result().items()}

    def _projected(self, z: Floats) -> Floats:
        """z [head, unit, d_head] of all layers -> [head, unit, d_model]."""
        model, found = self.run.model, []
        for layer in range(model.n_layers):
            weights = blocks.output_matrices(model, layer).detach().double().cpu().numpy()
            found.append(z[layer * model.n_heads : (layer + 1) * model.n_heads] @ weights)
        return np.concatenate(found)


class _Directions:
    def __init__(self, run: _Run) -> None:
        model, tokens = run.model, sum(len(e.clean) for e in run.task.examples)
        self._layers = [Directions(tokens, model.d_model, device=model.device) for _ in range(model.n_layers)]

    def add(self, batch: Batch, state: LayerState, context: Context) -> None:
        self._layers[state.layer].update(_real_tokens(state.mlp_out, batch))

    def result(self) -> Floats:
        return np.stack([directions.result() for directions in self._layers])


class _Centred:
    def __init__(self, run: _Run) -> None:
        self._grams = [Gram() for _ in range(run.model.n_layers)]

    def add(self, batch: Batch, state: LayerState, context: Context) -> None:
        self._grams[state.layer].update(centre_tokens(_real_tokens(state.mlp_out, batch).double().numpy()))

    def result(self) -> tuple[GramResult, ...]:
        return tuple(gram.result() for gram in self._grams)


class _Points:
    """MLP outputs at the points."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self._kept: dict[int, list[Tensor]] = {}

    def add(self, batch: Batch, state: LayerState, context: Context) -> None:
        for i, row in enumerate(batch.rows):
            if row in self.run.points:
                last = self.run.units.last_tokens(row)
                places = [last[unit] for unit in self.run.points[row]]
                self._kept.setdefault(row, []).append(self._values(state)[i, places].float().cpu())

    def _values(self, state: LayerState) -> Tensor:
        """[row, pos, width] of a layer."""
        return state.mlp_out

    def result(self) -> NDArray[np.float32]:
        return torch.cat([torch.stack(self._kept[row], dim=1) for row in sorted(self._kept)]).numpy()


class _ZPoints(_Points):
    def _values(self, state: LayerState) -> Tensor:
        return state.z

    def result(self) -> NDArray[np.float32]:
        """[point, layer, head x d_head] -> [point, head, d_head]."""
        found = super().result()
        return found.reshape(len(found), -1, self.run.model.d_head)


_KEEPERS: Mapping[Field, Callable[[_Run], _Keeper]] = MappingProxyType(
    {
        "patterns": _Patterns,
        "mean_z": _MeanZ,
        "mean_results": _MeanResults,
        "mlp_vectors": _Directions,
        "mlp_centred": _Centred,
        "z": _ZPoints,
        "mlp_points": _Points,
    }
)


def _real_tokens(x: Tensor, batch: Batch) -> Tensor:
    """[row, pos, width] -> [token, width] without padding, on the host."""
    real = torch.arange(x.shape[1])[None] < batch.lengths[:, None]
    return x.cpu()[real]


def example_patterns(model: CircuitModel, task: BoundTask, *, row: int) -> NDArray[np.float32]:
    """Attention patterns [head, pos, pos] of every head, layer by layer, on one example."""
    batch = make_batch(task, [row])
    with torch.inference_mode():
        context = make_context(model, batch.lengths, n_pos=batch.tokens.shape[1])
        found = [
            blocks.patterns(model, state.layer, state.q, state.k, context)[0] for state in walk_batch(model, batch)
        ]
    return torch.cat(found).float().cpu().numpy()
