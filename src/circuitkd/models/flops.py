"""Work of each step in floating point operations, counted from the weight matrices.

A product of [n, a] with [a, b] is 2 n a b operations; norms, activations, biases, softmax and embedding
look-ups are left out, as in torch's own counter. Attention is counted dense: causal and window masks save
nothing. `rows` x `pos` tokens come in, `queries` positions per row are asked for (all of them by default).
Layers of the supported classes are equal, so layer 0 stands for all.
"""

from __future__ import annotations

from circuitkd.models.circuit_model import CircuitModel
from circuitkd.models.projections import weight_of


def key_value_flops(model: CircuitModel, rows: int, pos: int) -> int:
    """Keys and values at all positions."""
    return 2 * rows * pos * model.modules.blocks[0].qkv.weight_count("kv")


def query_flops(model: CircuitModel, rows: int, queries: int) -> int:
    """Queries at `queries` positions of every row."""
    return 2 * rows * queries * model.modules.blocks[0].qkv.weight_count("q")


def attention_flops(model: CircuitModel, rows: int, pos: int, *, queries: int | None = None) -> int:
    """Scores and weighted values of all heads, without any weight matrix."""
    return 4 * rows * (pos if queries is None else queries) * pos * model.n_heads * model.d_head


def projection_flops(model: CircuitModel, rows: int, queries: int) -> int:
    """The attention output projection."""
    return 2 * rows * queries * weight_of(model.modules.blocks[0].out_projection).numel()


def mlp_flops(model: CircuitModel, rows: int, queries: int) -> int:
    """The MLP at `queries` positions of every row."""
    return 2 * rows * queries * model.modules.blocks[0].mlp_entries


def head_change_flops(model: CircuitModel, rows: int, pos: int) -> int:
    """(z' - z)_h W_O,h of one head per row at `pos` positions."""
    return 2 * rows * pos * model.d_head * model.d_model


def block_flops(model: CircuitModel, rows: int, pos: int, *, queries: int | None = None) -> int:
    """One block; with `queries`, only keys and values cover all positions."""
    asked = pos if queries is None else queries
    return (
        key_value_flops(model, rows, pos)
        + query_flops(model, rows, asked)
        + attention_flops(model, rows, pos, queries=asked)
        + projection_flops(model, rows, asked)
        + mlp_flops(model, rows, asked)
    )


def unembed_flops(model: CircuitModel, rows: int, *, tokens: int | None = None) -> int:
    """Logits of `rows` positions: the head modules and `tokens` rows of the unembedding (all of them by
    default).
    """
    wanted = model.vocab_size if tokens is None else tokens
    return 2 * rows * (model.modules.head_entries + wanted * model.d_model)


def full_forward_flops(model: CircuitModel, rows: int, pos: int) -> int:
    """Every block, and the logits of all positions: the unit of `forward_equivalents`."""
    return model.n_layers * block_flops(model, rows, pos) + unembed_flops(model, rows * pos)
