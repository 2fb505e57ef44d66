"""Running the rest of a model when only some late positions have changed.

In a causal model a change at position p of the stream entering block l reaches positions p and later, nothing before
them. So block l and all after it are computed for those positions alone, with the keys and values of the earlier ones
taken from a cached run; the last block only at the answer position. In an encoder everything reaches everything, and
the rest of the model is run whole. All rows must have the same number of tokens, none of them padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from circuitkd.interventions.capture import Batch, LayerState, make_batch, walk
from circuitkd.interventions.readout import Readout, readout
from circuitkd.interventions.restart import run_from
from circuitkd.models import blocks
from circuitkd.models.blocks import Context
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.models.context import causal_mask
from circuitkd.tasks.binding import BoundTask


@dataclass(frozen=True, eq=False)
class CachedRun:
    """One run of a batch: what every block computed. `positions` [row]: where the answer is read."""

    model: CircuitModel
    context: Context
    positions: Tensor
    embedding: Tensor
    states: tuple[LayerState, ...]

    @property
    def rows(self) -> int:
        """Number of examples."""
        return len(self.positions)

    def last(self) -> Tensor:
        """The last residual stream at the answer position [row, d_model]."""
        return blocks.at_positions(self.states[-1].resid_post, self.positions)[:, 0]

    def rest(self, layer: int, resid: Tensor, *, start: int) -> Tensor:
        """Blocks `layer`.. with the stream at positions `start`.. [copy * row, pos - start, d_model] changed -> the
        last residual stream at the answer position [copy * row, d_model]."""
        model, copies = self.model, len(resid) // self.rows
        positions = self.positions.repeat(copies)
        if start == 0:
            return run_from(model, layer, resid=resid, context=self.context.tile(copies), positions=positions)
        assert model.is_causal, "in an encoder a change reaches earlier positions too"
        for current in range(layer, model.n_layers):
            resid = self._block(current, resid, start)
        # The answer is read at the last position, and the last block has computed nothing else.
        return resid[:, -1]

    def _block(self, layer: int, resid: Tensor, start: int) -> Tensor:
        model, copies = self.model, len(resid) // self.rows
        queries = resid.shape[1] if layer < model.n_layers - 1 else 1
        x = blocks.attention_input(model, layer, resid)
        q, k, v = blocks.qkv(model, layer, x, self._late(start))
        before = self.states[layer]
        k, v = (
            torch.cat([old[:, :, :start].repeat(copies, 1, 1, 1), new], dim=2)
            for old, new in ((before.k, k), (before.v, v))
        )
        mask = causal_mask(self.context, model.modules.blocks[layer].window)[..., -queries:, :].to(q.device)
        k, v = blocks.expand_groups(model, k), blocks.expand_groups(model, v)
        z = scaled_dot_product_attention(q[:, :, -queries:], k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        resid = resid[:, -queries:]
        mid = blocks.after_attention(model, layer, resid, blocks.project(model, layer, z))
        return blocks.after_mlp(model, layer, mid, blocks.mlp(model, layer, mid, resid))

    def _late(self, start: int) -> Context:
        """The context of the late positions, with their own rotary angles."""
        rotary = self.context.rotary
        late = None if rotary is None else (rotary[0][:, start:], rotary[1][:, start:])
        return replace(self.context, n_pos=self.context.n_pos - start, rotary=late)


@dataclass(frozen=True, eq=False)
class RunPair:
    """The clean and the corrupted run of some examples, and the metric: the clean prompt's answer against its
    distractor."""

    model: CircuitModel
    clean: CachedRun
    corrupted: CachedRun
    target: Readout

    @property
    def rows(self) -> int:
        """Number of examples."""
        return self.clean.rows

    @cached_property
    def base(self) -> NDArray[np.float64]:
        """The metric of the corrupted run [row]."""
        return self.metric(self.corrupted.last())[0]

    @property
    def answer_places(self) -> frozenset[int]:
        """The positions where an answer is read."""
        return frozenset(self.corrupted.positions.tolist())

    def metric(self, resid: Tensor) -> NDArray[np.float64]:
        """Logit differences [copy, row] from last residual streams at the answer [copy * row, d_model]."""
        values = self.target.values(self.model, resid.unflatten(0, (-1, self.rows)))
        return np.asarray(values.double().cpu().numpy())

    def at_one_position(self, patched: Tensor, *, layer: int, place: int) -> Tensor:
        """The corrupted stream after block `layer` (-1: the embedding) as `patched` [copy, row, pos, d_model] has it at
        this position: all positions for an encoder, from `place` on for a causal model."""
        corrupted = self.corrupted.embedding if layer < 0 else self.corrupted.states[layer].resid_post
        start = place if self.model.is_causal else 0
        changed = corrupted[:, start:].repeat(len(patched), 1, 1, 1)
        changed[:, :, place - start] = patched[:, :, place]
        return changed


def run_pair(model: CircuitModel, task: BoundTask, *, rows: Sequence[int]) -> RunPair:
    """Run the clean and the corrupted prompts of these examples."""
    clean, corrupted = make_batch(task, rows), make_batch(task, rows, prompts="corrupted")
    return RunPair(model, _cached(model, clean), _cached(model, corrupted), readout(clean.examples))


def _cached(model: CircuitModel, batch: Batch) -> CachedRun:
    assert len(set(batch.lengths.tolist())) == 1, "rows of different lengths"
    resid, context = blocks.embed(model, batch.tokens, batch.lengths)
    return CachedRun(model, context, batch.positions, resid, tuple(walk(model, resid, context=context)))
