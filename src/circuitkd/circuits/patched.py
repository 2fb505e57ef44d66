"""The metric with one edge patched: many edges into one block are rows of one run of what follows.

    attention   all senders' streams give q', k', v' once. With one of the three changed, attention is run for all heads at a
                time: heads do not mix, so head h's part of z' belongs to the edge into head h (a K/V group's heads to the edge
                into the group). Added to the attention output is (z' - z)_h W_O,h, and the rest of the block and of the model
                runs with that.
    MLP         MLP(stream'), and the blocks after it.
    logits      the stream itself: nothing is run.

The last block is computed at the answer position alone (keys and values still for all positions).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from circuitkd.circuits.base_run import BaseRun, Setup
from circuitkd.circuits.graph import heads_of
from circuitkd.circuits.streams import Site, change_flops, streams
from circuitkd.components import Component, Edge, Slot
from circuitkd.interventions.restart import rest_flops
from circuitkd.models import blocks, flops
from circuitkd.models.projections import SLOTS

Part = Literal["attention", "mlp", "logits"]
T = TypeVar("T")


@dataclass(frozen=True)
class Unit:
    """The edges into one part of one layer (`edges`: their indexes), the smallest piece of work that is kept on
    disk."""

    layer: int
    part: Part
    edges: tuple[int, ...]


def units(edges: Sequence[Edge], *, n_layers: int) -> list[Unit]:
    """Edges by what they go into, in order of computation; the layer of the logits is the number of blocks."""
    found: dict[tuple[int, Part], list[int]] = {}
    for index, edge in enumerate(edges):
        kind, layer = edge.receiver.kind, edge.receiver.layer
        part: Part = "logits" if kind == "logits" else "mlp" if kind == "mlp" else "attention"
        found.setdefault((n_layers if layer is None else layer, part), []).append(index)
    return [Unit(layer, part, tuple(members)) for (layer, part), members in sorted(found.items())]


def patched(setup: Setup, run: BaseRun, *, unit: Unit, edges: Sequence[Edge]) -> np.ndarray:
    """The metric [edge, row] with each of the unit's edges patched, one at a time."""
    work, wanted = _Work(setup, run, layer=unit.layer), defaultdict(list)
    for index, edge in enumerate(edges):
        wanted[edge.sender].append((index, edge))
    into = {"attention": _into_attention, "mlp": _into_mlp, "logits": _into_logits}[unit.part]
    n_pos = run.context.n_pos if unit.part == "attention" else work.n_pos
    found = work.in_groups(sorted(wanted), n_pos, measure=lambda senders: into(work, [(s, wanted[s]) for s in senders]))
    order = [index for sender in sorted(wanted) for index, _ in wanted[sender]]
    values = np.empty((len(order), run.rows))
    values[order] = found.double().cpu().numpy()
    return values


Wanted = Sequence[tuple[Component, Sequence[tuple[int, Edge]]]]


class _Work:
    """One layer of one base run. `here` is the run at the positions that have to be computed in this layer."""

    def __init__(self, setup: Setup, run: BaseRun, *, layer: int) -> None:
        self.setup, self.run, self.layer, self.model = setup, run, layer, run.model
        self.is_last = layer >= run.model.n_layers - 1
        self.here = run.at_answer() if self.is_last else run
        self.n_pos = 1 if self.is_last else run.context.n_pos

    def streams(self, run: BaseRun, senders: Sequence[Component], *, site: Site) -> Tensor:
        """What a receiver in this layer reads [sender, row, pos, d_model], each with one of the senders changed."""
        self.setup.flops += change_flops(run, senders)
        return streams(run, senders, layer=self.layer, site=site)

    def in_groups(self, items: Sequence[T], n_pos: int, *, measure: Callable[[Sequence[T]], Tensor]) -> Tensor:
        """`measure` [n, row] of the items, as many at a time as are worth it; fewer when memory runs out."""
        return torch.cat(self.setup.plan.in_groups(items, (self.run.rows, n_pos), measure=measure))

    def finish(self, resid: Tensor) -> Tensor:
        """resid_post of this layer [copy * row, pos, d_model] -> the metric [copy, row]."""
        self.setup.flops += self.run.target.flops(self.model, len(resid))
        if self.is_last:
            return self.here.values(resid)
        self.setup.flops += rest_flops(self.model, self.layer + 1, rows=len(resid), n_pos=self.n_pos)
        return self.run.rest(self.layer + 1, resid)


def _into_logits(work: _Work, wanted: Wanted) -> Tensor:
    resid = work.streams(work.here, [sender for sender, _ in wanted], site="logits")
    work.setup.flops += work.run.target.flops(work.model, len(wanted) * work.run.rows)
    return work.here.values(resid.flatten(0, 1))


def _into_mlp(work: _Work, wanted: Wanted) -> Tensor:
    model, layer, state = work.model, work.layer, work.here.states[work.layer]
    read = work.streams(work.here, [sender for sender, _ in wanted], site="mlp").flatten(0, 1)
    work.setup.flops += flops.mlp_flops(model, len(read), work.n_pos)
    # A parallel block's MLP reads the entering stream, the others' the middle one: here `read` is either.
    out = blocks.mlp(model, layer, read, read).unflatten(0, (-1, work.run.rows))
    return work.finish(blocks.after_mlp(model, layer, state.resid_mid, out).flatten(0, 1))


def _into_attention(work: _Work, wanted: Wanted) -> Tensor:
    slots = {edge.slot for _, edges in wanted for _, edge in edges}
    changes = _z_changes(work, [sender for sender, _ in wanted], slots)
    weights = blocks.output_matrices(work.model, work.layer)

    def added(edge: Edge, sender: int) -> Tensor:
        heads = list(heads_of(work.model, edge.receiver))
        change = changes[edge.slot][sender][..., heads, :]
        return change.flatten(-2) @ weights[heads].flatten(0, 1)

    pairs = [(edge, number) for number, (_, edges) in enumerate(wanted) for _, edge in edges]
    heads = sum(len(heads_of(work.model, edge.receiver)) for edge, _ in pairs)
    work.setup.flops += flops.head_change_flops(work.model, heads * work.run.rows, work.n_pos)
    return work.in_groups(
        pairs,
        work.n_pos,
        measure=lambda group: _after_attention(work, torch.stack([added(edge, sender) for edge, sender in group])),
    )


def _z_changes(work: _Work, senders: Sequence[Component], slots: Collection[Slot | None]) -> dict[Slot | None, Tensor]:
    """(z' - z) with one slot changed in all heads, for each slot [sender, row, pos, head, d_head]; 0 outside a
    circuit."""
    model, layer, run, copies = work.model, work.layer, work.run, len(senders)
    state, context = work.here.states[layer], run.context.tile(copies)
    positions = run.positions.repeat(copies) if work.is_last else None
    x = blocks.attention_input(model, layer, work.streams(run, senders, site="attention").flatten(0, 1))
    whole: dict[Slot, Tensor] = {"q": state.q, "k": state.k, "v": state.v}
    new: dict[Slot, Tensor] = {}
    if "q" in slots:
        new["q"] = blocks.queries(model, layer, x, context, query_positions=positions)
    if "k" in slots or "v" in slots:
        new["k"], new["v"] = blocks.key_values(model, layer, x, context)
    inputs = {slot: value.repeat(copies, 1, 1, 1) for slot, value in whole.items()}
    kept = 1.0 if run.outside is None else (~run.outside.heads[layer])[:, None].to(state.z)
    found: dict[Slot | None, Tensor] = {}
    for slot in slots:
        assert slot is not None
        q, k, v = (new[s] if s == slot else inputs[s] for s in SLOTS)
        z = blocks.attend(model, layer, q, k, v, context, query_positions=positions)
        change = z.unflatten(0, (copies, -1)) - state.z
        found[slot] = change.unflatten(-1, (model.n_heads, model.d_head)) * kept
    _count_attention(work, copies * run.rows, slots)
    return found


def _count_attention(work: _Work, rows: int, slots: Collection[Slot | None]) -> None:
    model, n_pos = work.model, work.run.context.n_pos
    if "q" in slots:
        work.setup.flops += flops.query_flops(model, rows, work.n_pos)
    if "k" in slots or "v" in slots:
        work.setup.flops += flops.key_value_flops(model, rows, n_pos)
    work.setup.flops += len(slots) * flops.attention_flops(model, rows, n_pos, queries=work.n_pos)


def _after_attention(work: _Work, added: Tensor) -> Tensor:
    """The metric [copy, row] when `added` [copy, row, pos, d_model] comes on top of the attention output."""
    model, layer, run = work.model, work.layer, work.run
    state, copies = work.here.states[layer], len(added)
    mid = blocks.after_attention(model, layer, state.resid_pre, state.attention_out + added).flatten(0, 1)
    if model.architecture.residual == "parallel":
        out = state.mlp_out.repeat(copies, 1, 1)
    else:
        out = blocks.mlp(model, layer, mid, mid)
        work.setup.flops += flops.mlp_flops(model, len(mid), work.n_pos)
    if run.outside is not None:
        out = run.outside.mlp(layer, out)
    return work.finish(blocks.after_mlp(model, layer, mid, out))
