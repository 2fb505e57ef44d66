"""Configs of public models, as their repositories have them, and folders with nothing else in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_GPT2 = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 768, "n_head": 12, "n_positions": 1024}
_LLAMA31 = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 128256,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "tie_word_embeddings": False,
}


def _llama(width: int, inner: int, layers: int, heads: int) -> dict[str, Any]:
    return _LLAMA31 | {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }


PUBLIC: dict[str, dict[str, Any]] = {
    "gpt2": _GPT2 | {"n_layer": 12, "vocab_size": 50257},
    "distilgpt2": _GPT2 | {"n_layer": 6, "vocab_size": 50257},
    "llama-3.1-8b": _llama(4096, 14336, 32, 32),
    "minitron-4b-depth": _llama(4096, 14336, 16, 32),
    "llama-3.1-70b": _llama(8192, 28672, 80, 64),
    "llama-3.1-405b": _llama(16384, 53248, 126, 128),
}


def config_folder(folder: Path, name: str, **changes: Any) -> Path:
    """`folder`/`name` with the config of this public model, and no weights."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text(json.dumps(PUBLIC[name] | changes), encoding="utf-8")
    return place
