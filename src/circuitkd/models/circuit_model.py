"""A Hugging Face model, untouched, with the few facts about it that the rest of the package needs.

`CircuitModel` holds references and numbers, no behaviour: the forward pass is in `blocks.py`, hooks in
`hooks.py`, loading in `loading.py`. The modules are looked up once, when the object is made: exchanging a
submodule of `hf` afterwards (an adapter library does that) needs a new `CircuitModel`; changing weights in
place, `.to()` and training do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from circuitkd.components import Component, model_components
from circuitkd.models.architectures import Architecture, architecture_of
from circuitkd.models.config_rules import check_config
from circuitkd.models.modules import Modules, block_list, find_modules, out_projection_inputs
from circuitkd.models.projections import weight_of

PLAIN_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, eq=False, repr=False)
class CircuitModel:
    """One model. Build it with `circuitkd.load` or `circuitkd.wrap`.

    `max_positions` is the longest prompt in tokens. `vocab_size` counts the rows of the unembedding. With
    grouped-query attention `n_kv_heads` < `n_heads`, and query head h reads K/V group h // (n_heads /
    n_kv_heads).
    """

    hf: Any
    tokenizer: Any
    name: str
    architecture: Architecture
    modules: Modules
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_model: int
    vocab_size: int
    max_positions: int

    @classmethod
    def of(cls, hf: Any, tokenizer: Any, *, name: str = "model", has_weights: bool = True) -> CircuitModel:
        """Describe a model in memory; without `has_weights` one on the meta device, which cannot be run.

        ValueError if its class, config or weights are not understood.
        """
        architecture, config = architecture_of(hf), hf.config
        check_config(architecture, config)
        if has_weights:
            _check_weights_are_plain(architecture, hf)
        n_layers, n_heads = len(block_list(hf, architecture)), int(config.num_attention_heads)
        if n_layers != config.num_hidden_layers:
            raise ValueError(
                f"{architecture.hf_class}: the model has {n_layers} blocks but config.num_hidden_layers is "
                f"{config.num_hidden_layers}; set the config to the number of blocks"
            )
        d_head = out_projection_inputs(hf, architecture) // n_heads
        modules = find_modules(hf, architecture, d_head=d_head)
        return cls(
            hf,
            tokenizer,
            name,
            architecture,
            modules,
            n_heads=n_heads,
            n_kv_heads=int(getattr(config, "num_key_value_heads", None) or n_heads),
            d_head=d_head,
            d_model=int(config.hidden_size),
            vocab_size=weight_of(modules.decoder).shape[0],
            max_positions=int(config.max_position_embeddings) - architecture.position_offset(config),
        )

    @property
    def is_causal(self) -> bool:
        """True for next-token models, False for masked ones."""
        return self.architecture.is_causal

    @property
    def n_layers(self) -> int:
        """Number of transformer blocks."""
        return len(self.modules.blocks)

    @property
    def device(self) -> torch.device:
        """Where the tokens go in (a model spread over devices has its embedding here)."""
        return self.hf.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the embedding, and of every tensor computed from it."""
        return self.hf.get_input_embeddings().weight.dtype

    @cached_property
    def parameter_count(self) -> int:
        """Number of parameters, tied ones counted once."""
        return sum(parameter.numel() for parameter in self.hf.parameters())

    @cached_property
    def components(self) -> tuple[Component, ...]:
        """Every head layer by layer, then every MLP."""
        return model_components(self.n_layers, self.n_heads)

    @cached_property
    def kv_components(self) -> tuple[Component, ...]:
        """Every K/V group, layer by layer."""
        return tuple(
            Component("kv", layer, group) for layer in range(self.n_layers) for group in range(self.n_kv_heads)
        )

    def __repr__(self) -> str:
        return (
            f"CircuitModel({self.name!r}, {self.architecture.hf_class}, {self.n_layers} layers x "
            f"{self.n_heads} heads, d_model {self.d_model}, {self.dtype}, {self.device})"
        )


def _check_weights_are_plain(architecture: Architecture, hf: nn.Module) -> None:
    quantised = getattr(hf.config, "quantization_config", None) is not None
    for name, parameter in hf.named_parameters():
        if parameter.is_meta:
            raise ValueError(
                f"{architecture.hf_class}: the weights of {name} are not in memory (offloaded or never "
                "loaded); use a device_map without 'disk' or 'cpu' offloading, or a smaller dtype"
            )
        if quantised or parameter.dtype not in PLAIN_DTYPES:
            raise ValueError(
                f"{architecture.hf_class}: the weights are quantised (found at {name}: {parameter.dtype}); "
                "load the checkpoint in float32, bfloat16 or float16, without a quantization_config"
            )
