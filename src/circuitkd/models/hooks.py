"""Edit and record components inside Hugging Face's own forward: the only file that registers hooks.

A head is a slice of z, the input of the attention output projection; an MLP is the output of its last module.
This path is slow and simple, and it is the reference for the fast one in `blocks.py`: without an edit its
logits are bit-equal to the unhooked model. Hooks of one layer run in the order of registration, so `record`
entered inside `edits` sees edited values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from circuitkd.components import Component
from circuitkd.models.circuit_model import CircuitModel

Edit = Callable[[Tensor], Tensor]
Edits = Mapping[Component, Edit]


@dataclass(frozen=True)
class Record:
    """What one forward computed, by layer: z [row, pos, n_heads * d_head], outputs [row, pos, d_model]."""

    z: dict[int, Tensor] = field(default_factory=dict)
    attention_outputs: dict[int, Tensor] = field(default_factory=dict)
    mlp_outputs: dict[int, Tensor] = field(default_factory=dict)


@contextmanager
def edits(model: CircuitModel, functions: Edits) -> Iterator[None]:
    """Replace components while the context is open.

    A head's function gets z_h [row, pos, d_head], an MLP's function its output [row, pos, d_model]; each
    returns the replacement, of the same shape. Raises ValueError for anything but heads and MLPs of this
    model.
    """
    heads: dict[int, dict[int, Edit]] = defaultdict(dict)
    handles: list[RemovableHandle] = []
    for component in functions:
        _check_component(model, component)
    try:
        for component, function in functions.items():
            if component.kind == "head":
                heads[_index(component.layer)][_index(component.head)] = function
            else:
                handles.append(_edit_mlp(model, component, function))
        handles += [_edit_heads(model, layer, by_head) for layer, by_head in heads.items()]
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def record(model: CircuitModel, *, gradients: bool = False) -> Iterator[Record]:
    """Collect z, attention outputs and MLP outputs of the forwards run while the context is open (the last
    one wins). `gradients`: gradients can be taken for every z, also where no parameter before it is trained.
    """
    result, handles = Record(), []

    def require_grad(module: nn.Module, args: Any) -> None:
        if not args[0].requires_grad:
            args[0].requires_grad_()

    def keep_attention(layer: int) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            result.z[layer], result.attention_outputs[layer] = args[0], _tensor(output)

        return hook

    def keep_mlp(layer: int) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            result.mlp_outputs[layer] = _tensor(output)

        return hook

    try:
        for layer, parts in enumerate(model.modules.blocks):
            if gradients:
                handles.append(parts.out_projection.register_forward_pre_hook(require_grad))
            handles.append(parts.out_projection.register_forward_hook(keep_attention(layer)))
            handles.append(parts.mlp[-1].register_forward_hook(keep_mlp(layer)))
        yield result
    finally:
        for handle in handles:
            handle.remove()


def hooked_logits(
    model: CircuitModel,
    tokens: Tensor,
    lengths: Tensor,
    edits: Edits | None = None,
    *,
    positions: Tensor | None = None,
) -> Tensor:
    """Hugging Face's own forward on right-padded tokens [row, pos]: logits [row, pos, vocab], or [row, vocab]
    at `positions`.

    Edits as in the context manager `edits`. Passes the attention mask and position ids that the class
    expects.
    """
    with _edits(model, edits or {}):
        logits: Tensor = model.hf(**hf_inputs(model, tokens, lengths=lengths)).logits
    if positions is None:
        return logits
    return logits[torch.arange(len(logits), device=logits.device), positions.to(logits.device)]


def hf_inputs(model: CircuitModel, tokens: Tensor, *, lengths: Tensor) -> dict[str, Any]:
    """Keyword arguments for the Hugging Face forward of right-padded tokens [row, pos] with `lengths` [row]
    real ones.
    """
    device, n_pos = model.device, tokens.shape[1]
    columns = torch.arange(n_pos, device=device)
    real = columns < lengths.to(device)[:, None]
    if any(parts.window is not None for parts in model.modules.blocks):
        # A padded query may see nothing but padding: masked, eager attention makes it NaN, and real rows too.
        real = torch.ones_like(real)
    inputs: dict[str, Any] = {"input_ids": tokens.to(device), "attention_mask": real.long()}
    if model.architecture.takes_position_ids:
        offset = model.architecture.position_offset(model.hf.config)
        inputs["position_ids"] = (columns + offset).expand(len(tokens), -1)
    if model.is_causal:
        inputs["use_cache"] = False
    return inputs


_edits = edits  # `hooked_logits` has a parameter of that name


def _edit_heads(model: CircuitModel, layer: int, by_head: dict[int, Edit]) -> RemovableHandle:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        z = args[0].unflatten(-1, (model.n_heads, model.d_head))
        edited = z.clone()
        for head, function in by_head.items():
            edited[..., head, :] = _same_shape(Component("head", layer, head), z[..., head, :], function)
        return (edited.flatten(-2), *args[1:])

    return model.modules.blocks[layer].out_projection.register_forward_pre_hook(hook)


def _edit_mlp(model: CircuitModel, component: Component, function: Edit) -> RemovableHandle:
    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        edited = _same_shape(component, _tensor(output), function)
        return (edited, *output[1:]) if isinstance(output, tuple) else edited

    return model.modules.blocks[_index(component.layer)].mlp[-1].register_forward_hook(hook)


def _same_shape(component: Component, value: Tensor, function: Edit) -> Tensor:
    edited = function(value)
    if edited.shape != value.shape:
        raise ValueError(
            f"the edit of {component} returned shape {tuple(edited.shape)}; it must return "
            f"{tuple(value.shape)} [row, pos, d_head or d_model], like the tensor it was given"
        )
    return edited


def _check_component(model: CircuitModel, component: Component) -> None:
    if component.kind not in ("head", "mlp"):
        raise ValueError(
            f"{component} can't be edited by a hook, only heads and MLPs can; for queries, keys and values "
            "use the functions of circuitkd.models.blocks"
        )
    if component not in model.components:
        raise ValueError(
            f"{model.name} has no {component}: it has {model.n_layers} layers with {model.n_heads} heads each, from 0"
        )


def _tensor(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _index(number: int | None) -> int:
    assert number is not None
    return number
