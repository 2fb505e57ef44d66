"""Gradients of the metric with respect to what every head and MLP writes and what every receiver reads, block by block.

A base run keeps the residual stream entering each block. Going backwards, one block at a time is computed again
with autograd, from the gradient of its output, so memory holds the graph of one block whatever the depth. For edges
each head's query, key and value read a copy of the stream of their own (a key and value per K/V group), and the
gradient with respect to each copy, layer norm included, comes out of one backward pass.

Cost: about one forward more to recompute the blocks and two for the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from circuitkd.circuits.base_run import BaseRun
from circuitkd.circuits.streams import stream
from circuitkd.models import blocks
from circuitkd.models.context import rotated
from circuitkd.models.projections import SLOTS


@dataclass(frozen=True, eq=False)
class LayerGradients:
    """Gradients of the summed metric in one block; row by row, because rows don't mix.

    `z` [row, pos, n_heads * d_head] and `mlp_out` [row, pos, d_model]: of what heads and MLP write. `attention`
    [receiver, row, pos, d_model]: of the streams that q of each head, then k, then v of each head or K/V group read
    (None unless asked for); `mlp` [row, pos, d_model]: of the stream that the MLP reads.
    """

    layer: int
    z: Tensor
    mlp_out: Tensor
    mlp: Tensor
    attention: Tensor | None


def final_gradient(run: BaseRun) -> Tensor:
    """Gradient of the metric with respect to the last residual stream at the answer [row, 1, d_model]."""
    with torch.enable_grad():
        last = _leaf(blocks.at_positions(run.states[-1].resid_post, run.positions))
        return torch.autograd.grad(run.values(last).sum(), last)[0]


def layer_gradients(run: BaseRun, final: Tensor, *, per_receiver: bool) -> Iterator[LayerGradients]:
    """Gradients in every block, from the last to the first. `final` [row, 1, d_model]: that of `final_gradient`."""
    upstream = torch.zeros_like(run.states[-1].resid_post)
    rows = torch.arange(run.rows, device=upstream.device)
    upstream[rows, run.positions.to(upstream.device)] = final[:, 0].to(upstream.device)
    for layer in reversed(range(run.model.n_layers)):
        found, upstream = _block(run, layer, upstream=upstream, per_receiver=per_receiver)
        yield found


def _block(run: BaseRun, layer: int, *, upstream: Tensor, per_receiver: bool) -> tuple[LayerGradients, Tensor]:
    """Gradients in one block from that of its resid_post, and the gradient of its resid_pre."""
    model, state = run.model, run.states[layer]
    is_parallel = model.architecture.residual == "parallel"
    with torch.enable_grad():
        # What reaches the sum before a layer norm (or no norm) reaches the stream and the output added to it alike.
        mid = _leaf(state.resid_mid)
        of_sum = _pulled(blocks.after_mlp(model, layer, mid, state.mlp_out), mid, upstream)
        read = _leaf(stream(run, layer, site="mlp"))
        of_mlp = _pulled(blocks.mlp(model, layer, read, read), read, of_sum)
        pre = _leaf(state.resid_pre)
        through = of_sum if is_parallel else of_sum + of_mlp.to(of_sum.device)
        of_attention = _pulled(blocks.after_attention(model, layer, pre, state.attention_out), pre, through)
        z = _leaf(state.z)
        of_z = _pulled(blocks.project(model, layer, z), z, of_attention)
        copies = _leaf(_copies(run, layer) if per_receiver else state.resid_pre[None])
        of_reads = _pulled(_attention(run, layer, copies), copies, of_z)
    below = of_attention + of_reads.sum(0).to(of_attention.device)
    if is_parallel:
        below = below + of_mlp.to(below.device)
    return LayerGradients(layer, of_z, of_sum, of_mlp, of_reads if per_receiver else None), below


def _attention(run: BaseRun, layer: int, copies: Tensor) -> Tensor:
    """z [row, pos, n_heads * d_head] from one copy of the stream [1, row, pos, d_model], or one for each receiver."""
    model, context = run.model, run.context
    x = blocks.attention_input(model, layer, copies)
    if len(x) == 1:
        q, k, v = blocks.qkv(model, layer, x[0], context)
    else:
        reader = model.modules.blocks[layer].qkv
        own = x.split([model.n_heads, model.n_kv_heads, model.n_kv_heads])
        parts = [reader.read_own(part, slot).transpose(1, 2) for part, slot in zip(own, SLOTS, strict=True)]
        q, k, v = rotated(parts[0], context), rotated(parts[1], context), parts[2]
    return blocks.attend(model, layer, q, k, v, context)


def _copies(run: BaseRun, layer: int) -> Tensor:
    """resid_pre for each query head, then for each key and each value."""
    resid = run.states[layer].resid_pre
    return resid.expand(run.model.n_heads + 2 * run.model.n_kv_heads, *resid.shape)


def _leaf(x: Tensor) -> Tensor:
    return x.detach().requires_grad_()


def _pulled(output: Tensor, leaf: Tensor, upstream: Tensor) -> Tensor:
    """Gradient with respect to `leaf` from that with respect to `output`."""
    return torch.autograd.grad(output, leaf, upstream.to(output.device))[0]
