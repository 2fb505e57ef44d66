"""The residual stream that a receiver reads when one sender alone is changed: the direct path from sender to receiver.

Everything between the two is frozen to its value in the base run, so with d the change of what the sender writes

    pre-norm, parallel   stream' = stream + d: nothing acts on the residual stream itself
    post-norm            the stream passes two layer norms in every block: it is recomputed from the sender on, block by block,
                         as norm(stream' + frozen attention output), norm(stream' + frozen MLP output)

Sites of a block: "attention" (the stream entering it) and "mlp" (the stream that its MLP reads: resid_mid, in
parallel blocks the entering one); "logits" is the stream after the last block. Shapes [sender, row, pos, d_model].
A run that is cut to the answer position gives pos = 1: only layer norms stand on a direct path, and they act on
each position alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor

from circuitkd.circuits.base_run import BaseRun
from circuitkd.components import Component
from circuitkd.models import blocks, flops

Site = Literal["attention", "mlp", "logits"]


@dataclass(frozen=True, eq=False)
class Senders:
    """Senders that write to the same place, and the change of what they write [sender, row, pos, d_model]."""

    kind: str
    layer: int
    components: tuple[Component, ...]
    change: Tensor


def changed(run: BaseRun, senders: Sequence[Component]) -> list[Senders]:
    """Changes of what senders write: (z' - z)_h W_O,h for a head, the difference itself for an MLP and the embedding.

    Neighbours in `senders` that are heads of one layer come together.
    """
    found = []
    for (kind, layer), members in groupby(senders, key=lambda c: (c.kind, c.layer)):
        together = tuple(members)
        found.append(Senders(kind, layer or 0, together, _change(run, together)))
    return found


def _change(run: BaseRun, members: Sequence[Component]) -> Tensor:
    layer = members[0].layer
    if layer is None:
        return run.embed_change[None]
    if members[0].kind == "mlp":
        return run.changes[layer].mlp[None]
    heads = [c.head for c in members]
    change = run.changes[layer].z.unflatten(-1, (run.model.n_heads, run.model.d_head))[..., heads, :]
    return torch.einsum("rphd,hdm->hrpm", change, blocks.output_matrices(run.model, layer)[heads])


def change_flops(run: BaseRun, senders: Iterable[Component]) -> int:
    """Work of `changed`: the output projection of every head among the senders."""
    heads = sum(sender.kind == "head" for sender in senders)
    return flops.head_change_flops(run.model, heads * run.rows, run.embed_change.shape[1])


def streams(run: BaseRun, senders: Sequence[Component], *, layer: int, site: Site) -> Tensor:
    """What a receiver at this site reads [sender, row, pos, d_model], each with one of the senders changed."""
    found = [arrived(run, group, change=group.change, layer=layer, site=site) for group in changed(run, senders)]
    return torch.cat(found)


def tangents(run: BaseRun, group: Senders, *, layer: int, site: Site) -> Tensor:
    """First-order changes of what a receiver reads [sender, row, pos, d_model]: `streams` derived along the changes."""
    if run.model.architecture.residual != "post":
        return group.change.to(stream(run, layer, site=site).device)

    # J t by two reverse passes, the derivative of J^T u by u along t: forward mode would load torch's script decompositions.
    with torch.enable_grad():
        at = torch.zeros_like(group.change).requires_grad_()
        read = arrived(run, group, change=at, layer=layer, site=site)
        weights = torch.zeros_like(read).requires_grad_()
        (back,) = torch.autograd.grad(read, at, weights, create_graph=True)
        return torch.autograd.grad(back, weights, group.change.detach())[0]


def stream(run: BaseRun, layer: int, *, site: Site) -> Tensor:
    """What a receiver at this site reads in the base run [row, pos, d_model]."""
    if site == "logits":
        return run.states[-1].resid_post
    if site == "mlp" and run.model.architecture.residual != "parallel":
        return run.states[layer].resid_mid
    return run.states[layer].resid_pre


def arrived(run: BaseRun, group: Senders, *, change: Tensor, layer: int, site: Site) -> Tensor:
    """What a receiver reads when `change` is added to what the senders write."""
    if run.model.architecture.residual != "post":
        there = stream(run, layer, site=site)
        return there + change.to(there.device)
    # Norm by norm: step 2 l is the norm after the attention of block l, step 2 l + 1 the one after its MLP.
    end = 2 * len(run.states) if site == "logits" else 2 * layer + (site == "mlp")
    if group.kind == "embed":
        start, x = 0, run.states[0].resid_pre + change
    else:
        start = 2 * group.layer + (group.kind == "mlp")
        state = run.states[group.layer]
        x = _step(run, start, resid=state.resid_mid if group.kind == "mlp" else state.resid_pre, change=change)
        start += 1
    for step in range(start, end):
        x = _step(run, step, resid=x)
    return x


def _step(run: BaseRun, step: int, *, resid: Tensor, change: Tensor | float = 0.0) -> Tensor:
    """Add the frozen output of one step (plus a change of it) to the stream, and normalise."""
    layer, is_mlp = divmod(step, 2)
    state = run.states[layer]
    if is_mlp:
        return blocks.after_mlp(run.model, layer, resid, state.mlp_out + change)
    return blocks.after_attention(run.model, layer, resid, state.attention_out + change)
