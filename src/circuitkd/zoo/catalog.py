"""The nine bundled models: three architectures, each with a teacher, a student distilled from it and an independent control.

The student keeps every second layer of its teacher as initialisation and is trained on the teacher's softened outputs, as
DistilGPT2 was. The independent model has the student's shape and never sees the teacher. Weights lie in `weights/NAME`, in half
precision, with the accuracies measured on these rounded weights in `card.json`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    set_seed,
)

from circuitkd.zoo.vocabulary import vocabulary

Role = Literal["teacher", "student", "independent"]
WEIGHTS = Path(__file__).parent / "weights"
POSITIONS, WIDTH = 128, 128
PERIODS, POSITION_STD, INITIAL_STD = 40.0, 0.1, 0.05


@dataclass(frozen=True)
class Recipe:
    """How one bundled model is made. `steps`: optimizer steps; `seed` decides initialisation and data."""

    architecture: Literal["gpt2", "bert", "llama"]
    role: Role
    layers: int
    steps: int
    seed: int

    @property
    def name(self) -> str:
        """As in `zoo:NAME`."""
        return f"{self.architecture}-{self.role}"

    @property
    def teacher(self) -> str | None:
        """The model a student is distilled from."""
        return f"{self.architecture}-teacher" if self.role == "student" else None


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("gpt2", "teacher", layers=4, steps=4200, seed=1),
        Recipe("gpt2", "student", layers=2, steps=3200, seed=2),
        Recipe("gpt2", "independent", layers=2, steps=2400, seed=3),
        Recipe("bert", "teacher", layers=4, steps=1500, seed=4),
        Recipe("bert", "student", layers=2, steps=2400, seed=5),
        Recipe("bert", "independent", layers=2, steps=1200, seed=6),
        Recipe("llama", "teacher", layers=4, steps=4600, seed=7),
        Recipe("llama", "student", layers=2, steps=3000, seed=8),
        Recipe("llama", "independent", layers=2, steps=3000, seed=9),
    )
}


def recipe(name: str) -> Recipe:
    """The recipe of a bundled model. Raises ValueError for an unknown name."""
    if name not in RECIPES:
        raise ValueError(f"unknown zoo model {name!r}: there are {', '.join(RECIPES)}")
    return RECIPES[name]


def build(made: Recipe) -> PreTrainedModel:
    """A freshly initialised model of the recipe's shape, from its seed.

    Learned positions start as sinusoids of short periods: attention to "the token before" is then one linear map, and induction
    forms in hundreds of steps instead of thousands.
    """
    set_seed(made.seed)
    model = _random(made)
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.num_embeddings == POSITIONS:
            with torch.no_grad():
                module.weight.copy_(sinusoids(POSITIONS, WIDTH))
    return model


def sinusoids(positions: int, width: int) -> Tensor:
    """Sines and cosines of geometrically spaced periods [positions, width], standard deviation POSITION_STD."""
    angles = torch.arange(positions)[:, None] / PERIODS ** (torch.arange(0, width, 2) / width)
    return POSITION_STD * math.sqrt(2) * torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def _random(made: Recipe) -> PreTrainedModel:
    size = len(vocabulary())
    shared: dict[str, Any] = {"vocab_size": size, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
    shared["initializer_range"] = INITIAL_STD
    if made.architecture == "gpt2":
        dropout: dict[str, Any] = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        return GPT2LMHeadModel(
            GPT2Config(n_positions=POSITIONS, n_embd=WIDTH, n_layer=made.layers, n_head=4, **dropout, **shared)
        )
    common: dict[str, Any] = {"hidden_size": WIDTH, "num_hidden_layers": made.layers, "num_attention_heads": 4}
    if made.architecture == "bert":
        off: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        return BertForMaskedLM(
            BertConfig(intermediate_size=512, max_position_embeddings=POSITIONS, **off, **common, **shared)
        )
    return LlamaForCausalLM(
        LlamaConfig(
            intermediate_size=352,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=POSITIONS,
            tie_word_embeddings=True,
            **common,
            **shared,
        )
    )


def folder(name: str) -> Path:
    """Where a bundled model's files are."""
    return WEIGHTS / recipe(name).name


def card(name: str) -> dict[str, Any]:
    """What was measured on a bundled model when it was made. Raises ValueError when it is not there."""
    path = folder(name) / "card.json"
    if not path.exists():
        raise ValueError(f"zoo:{name} has not been trained yet: run `circuitkd zoo train {name}`")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def available() -> list[str]:
    """Names of the bundled models whose weights are there."""
    return [name for name in RECIPES if (folder(name) / "card.json").exists()]
