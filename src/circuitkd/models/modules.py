"""The parts of one model, looked up once by the paths of its architecture entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from circuitkd.models.architectures import Architecture
from circuitkd.models.projections import QkvReader, weight_of


@dataclass(frozen=True)
class BlockModules:
    """The parts of one block, looked up once."""

    attention_norm: nn.Module
    mlp_norm: nn.Module
    qkv: QkvReader
    out_projection: nn.Module
    mlp: tuple[nn.Module, ...]
    window: int | None

    @cached_property
    def mlp_entries(self) -> int:
        """Entries of the weight matrices of the MLP."""
        return sum(matrix_entries(module) for module in self.mlp)


@dataclass(frozen=True)
class Modules:
    """The parts of one model, looked up once. They are the Hugging Face model's own modules, never copies."""

    blocks: tuple[BlockModules, ...]
    rotary: nn.Module | None
    final_norm: nn.Module | None
    head: tuple[Callable[[Tensor], Tensor], ...]
    decoder: nn.Module

    @cached_property
    def head_entries(self) -> int:
        """Entries of the weight matrices between the last block and the unembedding."""
        return sum(matrix_entries(step) for step in self.head if isinstance(step, nn.Module))


def find_modules(hf: Any, architecture: Architecture, *, d_head: int) -> Modules:
    """Look up every part an entry names."""
    blocks = tuple(
        BlockModules(
            attention_norm=block.get_submodule(architecture.attention_norm),
            mlp_norm=block.get_submodule(architecture.mlp_norm),
            qkv=architecture.qkv(block, d_head),
            out_projection=block.get_submodule(architecture.out_projection),
            mlp=tuple(block.get_submodule(path) for path in architecture.mlp),
            window=architecture.window(hf.config, layer),
        )
        for layer, block in enumerate(block_list(hf, architecture))
    )
    optional = [hf.get_submodule(path) if path else None for path in (architecture.rotary, architecture.final_norm)]
    head = tuple(hf.get_submodule(step) if isinstance(step, str) else step for step in architecture.head)
    return Modules(blocks, optional[0], optional[1], head, hf.get_output_embeddings())


def block_list(hf: nn.Module, architecture: Architecture) -> list[nn.Module]:
    """The transformer blocks in order."""
    return list(hf.get_submodule(architecture.blocks).children())


def out_projection_inputs(hf: nn.Module, architecture: Architecture) -> int:
    """n_heads * d_head, read off the output projection (a Conv1D keeps its inputs first, a Linear last)."""
    module = block_list(hf, architecture)[0].get_submodule(architecture.out_projection)
    return weight_of(module).shape[1 if isinstance(module, nn.Linear) else 0]


def matrix_entries(module: nn.Module) -> int:
    """Entries of all weight matrices of a module."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.dim() == 2)
