"""The score of a circuit: a model's performance with everything outside a set of components ablated.

Idea: pruning, faithfulness and minimality ask for hundreds of sets that differ in one component. The residual stream
entering layer l depends only on what is ablated below l, so it is kept per layer with that set as its key, and a new
set reruns from the deepest layer whose key still fits: a candidate at layer l costs the blocks l and above. Attention
is skipped where all heads of a layer are ablated, an MLP where it is; the last block is computed at the answer
position alone. Sets asked for again cost nothing.

Ablation values are those of `interventions.ablations` (semantics, section 2), so they never change with the circuit.
Equal to one hooked forward per set. Memory: one residual stream per layer and example, thinned to every n-th layer
above `CACHE_BYTES`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuitkd.comparison.checks import one_of
from circuitkd.components import Component
from circuitkd.interventions.ablations import Ablation, LayerReplacement, replacements
from circuitkd.interventions.capture import Batch, batches, make_batch
from circuitkd.interventions.execution import Execution, Ledger, plan
from circuitkd.interventions.readout import PERFORMANCES, Readout, VocabularyReadout
from circuitkd.models import blocks, flops
from circuitkd.models.blocks import Context
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import BoundTask

Floats = NDArray[np.float64]
Kept = frozenset[Component]
CACHE_BYTES = 2e9


@dataclass(frozen=True, eq=False)
class _Part:
    """One batch with its ablation values by layer and, by layer, the set ablated below it and the residual stream
    entering it."""

    batch: Batch
    target: Readout | VocabularyReadout
    context: Context
    values: list[LayerReplacement]
    prefixes: dict[int, tuple[Kept, Tensor]] = field(default_factory=dict)


class KeptScorer:
    """Logit differences (or another of `readout.PERFORMANCES`) of a model on a task with only some components kept.

    `ablation` defaults to what suits the task, over its corrupted prompts. Calling it with a set gives the mean, as
    `pruning.prune` wants it; `values` gives every example. `calls` counts the different sets that were run and
    `forward_equivalents` all work done, in full forwards of the task; with a folder in `execution` finished sets are
    kept there and taken from it. Raises ValueError as `interventions.sweep` does.
    """

    def __init__(
        self,
        model: CircuitModel,
        task: Task | BoundTask,
        *,
        ablation: Ablation | None = None,
        execution: Execution | None = None,
        performance: str = "logit-difference",
    ) -> None:
        one_of(performance, tuple(PERFORMANCES), name="measure of performance")
        self.model, self.execution, self.performance = model, execution or Execution(), performance
        self.ablation = ablation or Ablation(task.ablation)
        bound = task.bind(model, aligned=self.ablation.needs_alignment) if isinstance(task, Task) else task
        self.task, self.everything, self.calls = bound, frozenset(model.components), 0
        self._memory: dict[Kept, Floats] = {}
        with torch.inference_mode():
            arrangement = plan(model, bound, execution=self.execution)
            replaced = replacements(model, bound, ablation=self.ablation, batch_size=arrangement.batch_size)
            self._parts = []
            for rows in batches(bound, arrangement.batch_size):
                batch = make_batch(bound, rows)
                resid, context = blocks.embed(model, batch.tokens, batch.lengths)
                part = _Part(
                    batch, PERFORMANCES[performance].readout(batch.examples), context, list(replaced.layers(batch))
                )
                part.prefixes[0] = (frozenset(), resid)
                self._parts.append(part)
        self._ledger = Ledger.open(model, bound, ablation=self.ablation, execution=self.execution)
        self.warnings = tuple(bound.warnings) + tuple(replaced.warnings)
        self._flops, self._full_forward = replaced.flops, arrangement.full_forward
        stored = sum(p.prefixes[0][1].nbytes for p in self._parts) * model.n_layers
        self._stride = 1 + int(stored // CACHE_BYTES)

    def __call__(self, kept: Iterable[Component]) -> float:
        """Mean performance with everything outside `kept` ablated."""
        return float(self.values(kept).mean())

    def values(self, kept: Iterable[Component]) -> Floats:
        """The performance [example] with everything outside `kept` ablated. Raises ValueError for unknown
        components."""
        wanted = frozenset(kept)
        if wanted not in self._memory:
            unknown = sorted(str(c) for c in wanted - self.everything)
            if unknown:
                raise ValueError(
                    f"{self.model.name} has no component {', '.join(unknown)}: a circuit's nodes are its heads and "
                    f"MLPs, layers 0..{self.model.n_layers - 1}, heads 0..{self.model.n_heads - 1}"
                )
            self._memory[wanted] = self._found(wanted)
        return self._memory[wanted]

    @property
    def forward_equivalents(self) -> float:
        """All work so far, the reference prompts included, in FLOPs of one full forward of the task."""
        return self._flops / self._full_forward

    def describe(self) -> str:
        """What the numbers are, in words."""
        return (
            f"{PERFORMANCES[self.performance].definition}, mean over examples; everything outside the circuit is replaced "
            f"by: {self.ablation.describe()}"
        )

    def _found(self, kept: Kept) -> Floats:
        """From the folder of finished pieces, or run and kept there."""
        rows, piece = range(len(self.task)), f"circuit {sorted(map(str, kept))}"
        if self.performance != "logit-difference":
            piece = f"{self.performance} of {piece}"
        known = self._ledger.read(rows, piece, components=1)
        if known is None:
            known = self._run(self.everything - kept)[None]
            self.calls += 1
            self._ledger.write(rows, piece, values=known)
        return np.asarray(known[0], dtype=np.float64)

    @torch.inference_mode()
    def _run(self, ablated: Kept) -> Floats:
        found = np.full(len(self.task), np.nan)
        by_layer = [frozenset(c for c in ablated if c.layer == layer) for layer in range(self.model.n_layers)]
        for part in self._parts:
            resid = self._last_residual(part, by_layer)
            values = part.target.values(self.model, resid[None])[0]
            self._flops += part.target.flops(self.model, len(part.batch))
            found[list(part.batch.rows)] = values.double().cpu().numpy()
        return found

    def _last_residual(self, part: _Part, ablated: list[Kept]) -> Tensor:
        """The last residual stream at the answer position [row, d_model], from the deepest prefix that fits."""
        below = [frozenset[Component]().union(*ablated[:layer]) for layer in range(len(ablated))]
        start = max(layer for layer, (key, _) in part.prefixes.items() if key == below[layer])
        resid, last = part.prefixes[start][1], len(ablated) - 1
        for layer in range(start, last):
            resid = self._block(part, layer, resid, out=ablated[layer])
            if (layer + 1) % self._stride == 0:
                part.prefixes[layer + 1] = (below[layer + 1], resid)
        return self._block(part, last, resid, out=ablated[last], positions=part.batch.positions)[:, 0]

    def _block(self, part: _Part, layer: int, resid: Tensor, *, out: Kept, positions: Tensor | None = None) -> Tensor:
        """One block with the components `out` of this layer ablated; at one position per row with `positions`."""
        model, context = self.model, part.context
        heads = [c.head for c in out if c.head is not None]
        ablated_z = _at(part.values[layer].z, positions, context.n_pos)
        z = None
        if len(heads) < model.n_heads:
            x = blocks.attention_input(model, layer, resid)
            q, k, v = blocks.qkv(model, layer, x, context, query_positions=positions)
            z = blocks.attend(model, layer, q, k, v, context, query_positions=positions)
        if positions is not None:
            resid = blocks.at_positions(resid, positions)
        mixed = _mixed(z, ablated_z.to(resid), shape=(*resid.shape[:2], model.n_heads, model.d_head), heads=heads)
        mid = blocks.after_attention(model, layer, resid, blocks.project(model, layer, mixed))
        mlp_ablated = len(heads) < len(out)
        if mlp_ablated:
            mlp_out = _at(part.values[layer].mlp, positions, context.n_pos).to(mid).expand_as(mid)
        else:
            mlp_out = blocks.mlp(model, layer, mid, resid)
        self._count(part, resid.shape[1], attention=z is not None, mlp=not mlp_ablated)
        return blocks.after_mlp(model, layer, mid, mlp_out)

    def _count(self, part: _Part, queries: int, *, attention: bool, mlp: bool) -> None:
        model, rows, n_pos = self.model, len(part.batch), part.context.n_pos
        work = flops.projection_flops(model, rows, queries)
        if attention:
            work += flops.key_value_flops(model, rows, n_pos) + flops.query_flops(model, rows, queries)
            work += flops.attention_flops(model, rows, n_pos, queries=queries)
        if mlp:
            work += flops.mlp_flops(model, rows, queries)
        self._flops += work


def _mixed(z: Tensor | None, ablated: Tensor, *, shape: tuple[int, ...], heads: list[int]) -> Tensor:
    """z [row, pos, n_heads * d_head] with the heads `heads` ablated (all of them where z is None)."""
    whole = ablated.expand(*shape[:2], shape[2] * shape[3])
    if z is None or not heads:
        return whole.contiguous() if z is None else z
    replaced = torch.zeros(shape[2], dtype=torch.bool, device=z.device)
    replaced[heads] = True
    return torch.where(replaced.repeat_interleave(shape[3]), whole, z)


def _at(values: Tensor, positions: Tensor | None, n_pos: int) -> Tensor:
    """Ablation values at one position per row; those that are equal at all positions stay as they are."""
    if positions is None or values.dim() < 3 or values.shape[1] != n_pos:
        return values
    return blocks.at_positions(values.expand(len(positions), -1, -1), positions)
