"""Students made from a teacher by known changes of its weights."""

from __future__ import annotations

import copy

import torch

from circuitkd.components import Component
from circuitkd.models import CircuitModel, wrap
from circuitkd.models.weights import output_slice


@torch.no_grad()
def without_output(model: CircuitModel, head: Component) -> CircuitModel:
    """A copy in which this head attends as before and writes nothing."""
    changed = wrap(copy.deepcopy(model.hf), model.tokenizer, name=f"{model.name}-silenced", check=False)
    output_slice(changed, head.layer, head=head.head).view().zero_()
    return changed


@torch.no_grad()
def with_shared_output(model: CircuitModel, head: Component, *, twin: int) -> CircuitModel:
    """A copy of a GPT-2 in which this head's twin attends and reads as the head does, and each writes half of its
    output: the same function, by two heads."""
    hf, size, width = copy.deepcopy(model.hf), model.d_head, model.n_heads * model.d_head
    attention = hf.transformer.h[head.layer].attn
    for part in range(3):
        old, new = (slice(part * width + h * size, part * width + (h + 1) * size) for h in (head.head, twin))
        attention.c_attn.weight[:, new] = attention.c_attn.weight[:, old]
        attention.c_attn.bias[new] = attention.c_attn.bias[old]
    own, other = (slice(h * size, (h + 1) * size) for h in (head.head, twin))
    attention.c_proj.weight[own] /= 2
    attention.c_proj.weight[other] = attention.c_proj.weight[own]
    return wrap(hf, model.tokenizer, name=f"{model.name}-shared", check=False)
