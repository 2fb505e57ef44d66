"""Students with fewer heads, layers or MLP neurons: the teacher's own weights, cut.

What is kept is chosen on prompts of a task:
    heads    the K/V groups, each with all of its query heads, whose ablation costs most, as many in every layer
    layers   all but one contiguous block in the later part of the model (at least half of the layers kept stand before
             it), the block whose removal leaves the largest mean logit difference (as in Minitron)
    MLPs     the neurons that write most, root mean square activation times norm of output weights, as many in every MLP

A config has one number of heads, one width of MLPs for all layers, hence "as many in every". Classes that fix
n_heads * d_head to d_model (GPT-2, BERT, DistilBERT, RoBERTa, GPT-NeoX) cannot hold fewer heads of the same size, and
are refused.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import circuitkd as ck
from circuitkd.distill.data import real_tokens
from circuitkd.models.hooks import hf_inputs
from circuitkd.models.projections import ParameterSlice
from circuitkd.models.weights import head_slices, output_slice
from compressing.prompts import batches, mean_logit_difference

FREE_HEAD_SIZE = ("llama", "mistral", "qwen2", "qwen3")
# Inside a block: the maps into the neurons, the map out of them; and the config attribute that counts them.
_LLAMA_MLP = (("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj", "intermediate_size")
_BERT_MLP = (("intermediate.dense",), "output.dense", "intermediate_size")
MLPS = {
    "gpt2": (("mlp.c_fc",), "mlp.c_proj", "n_inner"),
    "bert": _BERT_MLP,
    "roberta": _BERT_MLP,
    "distilbert": (("ffn.lin1",), "ffn.lin2", "hidden_dim"),
    "gpt_neox": (("mlp.dense_h_to_4h",), "mlp.dense_4h_to_h", "intermediate_size"),
    **dict.fromkeys(FREE_HEAD_SIZE, _LLAMA_MLP),
}


def check_heads_can_go(model: ck.CircuitModel) -> None:
    """Raise ValueError for a class whose heads cannot become fewer."""
    kind = model.architecture.model_type
    if kind not in FREE_HEAD_SIZE:
        raise ValueError(
            f"{model.architecture.hf_class} fixes n_heads * d_head to d_model ({model.n_heads} * {model.d_head} = "
            f"{model.d_model}), so fewer heads of the same size cannot be saved as that class: choose a model with its "
            f"own head_dim ({', '.join(FREE_HEAD_SIZE)}), or another kind"
        )


def important_groups(model: ck.CircuitModel, task: ck.Task, *, keep: float) -> list[list[int]]:
    """By layer the K/V groups to keep, in order: those with the largest sum of ablation effects of their heads."""
    effects = ck.sweep(model, task).drops[: model.n_layers * model.n_heads]
    by_group = effects.reshape(model.n_layers, model.n_kv_heads, -1).sum(axis=-1)
    return largest(by_group, kept_of(model.n_kv_heads, keep))


def with_groups(model: ck.CircuitModel, kept: Sequence[Sequence[int]]) -> Any:
    """The Hugging Face model with only these K/V groups and their query heads in each layer."""
    check_heads_can_go(model)
    names = {id(parameter): name for name, parameter in model.hf.named_parameters()}
    tensors, size = dict(model.hf.state_dict()), model.n_heads // model.n_kv_heads

    def cut(places: Sequence[ParameterSlice]) -> None:
        found = torch.cat([place.view() for place in places], dim=places[0].dim)
        tensors[names[id(places[0].parameter)]] = found

    for layer, groups in enumerate(kept):
        heads = [group * size + i for group in groups for i in range(size)]
        cut([output_slice(model, layer, head=head) for head in heads])
        for slot, members in (("q", heads), ("k", groups), ("v", groups)):
            for places in zip(*(head_slices(model, layer, head=m, slot=slot) for m in members), strict=True):
                cut(places)
    n_groups = len(kept[0])
    changes = {"num_attention_heads": n_groups * size, "num_key_value_heads": n_groups, "head_dim": model.d_head}
    return rebuilt(model, tensors, changes)


def block_to_drop(model: ck.CircuitModel, task: ck.Task, *, keep: float) -> range:
    """The layers whose removal costs the task least, a contiguous block of the later part."""
    n_kept = kept_of(model.n_layers, keep)
    n_dropped = model.n_layers - n_kept
    blocks = [range(start, start + n_dropped) for start in range((n_kept + 1) // 2, n_kept + 1)]
    left = [mean_logit_difference(_shorter(model, block), task) for block in blocks]
    return blocks[int(np.argmax(left))]


def _shorter(model: ck.CircuitModel, dropped: range) -> ck.CircuitModel:
    return ck.wrap(without_layers(model, dropped), model.tokenizer, name=f"{model.name} without layers", check=False)


def without_layers(model: ck.CircuitModel, dropped: Sequence[int]) -> Any:
    """The Hugging Face model without these blocks."""
    kept = [layer for layer in range(model.n_layers) if layer not in dropped]
    place = {f"{model.architecture.blocks}.{old}.": f"{model.architecture.blocks}.{i}." for i, old in enumerate(kept)}
    tensors = {}
    for name, tensor in model.hf.state_dict().items():
        prefix = next((p for p in place if name.startswith(p)), None)
        if prefix is not None:
            tensors[place[prefix] + name.removeprefix(prefix)] = tensor
        elif not name.startswith(f"{model.architecture.blocks}."):
            tensors[name] = tensor
    changes: dict[str, Any] = {"num_hidden_layers": len(kept)}
    kinds = getattr(model.hf.config, "layer_types", None)
    if kinds:
        changes["layer_types"] = [kinds[layer] for layer in kept]
    return rebuilt(model, tensors, changes)


@torch.inference_mode()
def important_neurons(model: ck.CircuitModel, task: ck.Task, *, keep: float) -> list[list[int]]:
    """By layer the MLP neurons to keep, in order: those that write most on the clean prompts."""
    outs = [block.get_submodule(MLPS[model.architecture.model_type][1]) for block in _blocks(model)]
    squares = [torch.zeros(mlp_width(model), device=out.weight.device) for out in outs]
    for batch in batches(model, task):
        with inputs_of(outs) as seen:
            model.hf(**hf_inputs(model, batch["input_ids"], lengths=batch["lengths"]))
        for layer, values in seen.items():
            squares[layer] += values[real_tokens(batch).to(values.device)].square().sum(0)
    written = [s.sqrt() * out.weight.norm(dim=1 - _inputs(out)) for s, out in zip(squares, outs, strict=True)]
    return largest(torch.stack(written).numpy(force=True), kept_of(mlp_width(model), keep))


@contextmanager
def inputs_of(modules: Sequence[nn.Module]) -> Iterator[dict[int, Tensor]]:
    """What these modules were given in the last forward, by their place in the list."""
    seen: dict[int, Tensor] = {}
    handles = [
        module.register_forward_pre_hook(lambda _, given, place=place: seen.update({place: given[0]}))
        for place, module in enumerate(modules)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def with_neurons(model: ck.CircuitModel, kept: Sequence[Sequence[int]]) -> Any:
    """The Hugging Face model with only these neurons in each MLP."""
    ins, out, attribute = MLPS[model.architecture.model_type]
    tensors = dict(model.hf.state_dict())
    for layer, (block, neurons) in enumerate(zip(_blocks(model), kept, strict=True)):
        prefix, index = f"{model.architecture.blocks}.{layer}.", torch.tensor(neurons, device=model.device)
        for path in ins:
            module = block.get_submodule(path)
            tensors[f"{prefix}{path}.weight"] = module.weight.index_select(1 - _inputs(module), index)
            if module.bias is not None:
                tensors[f"{prefix}{path}.bias"] = module.bias[index]
        module = block.get_submodule(out)
        tensors[f"{prefix}{out}.weight"] = module.weight.index_select(_inputs(module), index)
    return rebuilt(model, tensors, {attribute: len(kept[0])})


def mlp_width(model: ck.CircuitModel) -> int:
    """Number of neurons of each MLP."""
    out = _blocks(model)[0].get_submodule(MLPS[model.architecture.model_type][1])
    return int(out.weight.shape[_inputs(out)])


def kept_of(number: int, keep: float) -> int:
    """How many of `number` are kept: the share `keep`, rounded, at least 1. ValueError where all are."""
    kept = max(1, round(number * keep))
    if kept >= number:
        raise ValueError(f"keeping {keep:g} of {number} drops nothing: use a smaller --keep, or another kind")
    return kept


def largest(values: Any, n: int) -> list[list[int]]:
    """Columns of the `n` largest values of each row of [layer, member], in ascending order."""
    order = np.argsort(-np.asarray(values), axis=1, kind="stable")
    return np.sort(order[:, :n], axis=1).tolist()


def rebuilt(model: ck.CircuitModel, tensors: Mapping[str, Tensor], changes: Mapping[str, Any]) -> Any:
    """A new model of the class with `changes` of its config and exactly these weights."""
    config = copy.deepcopy(model.hf.config)
    for name, value in changes.items():
        setattr(config, name, value)
    hf = type(model.hf)(config).to(device=model.device, dtype=model.dtype)
    hf.load_state_dict(tensors)
    return hf.eval()


def _blocks(model: ck.CircuitModel) -> list[nn.Module]:
    return list(model.hf.get_submodule(model.architecture.blocks))


def _inputs(module: nn.Module) -> int:
    """The dimension of a linear map's weight that counts its inputs: the last of a Linear, the first of a Conv1D."""
    return 1 if isinstance(module, nn.Linear) else 0
