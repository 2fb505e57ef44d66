"""Small tasks and models for the tests of circuits."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from circuitkd.models.circuit_model import CircuitModel
from circuitkd.tasks.base import Task
from circuitkd.tasks.registry import TASKS
from circuitkd.zoo.vocabulary import tokenizer
from tiny_models import tiny


def task_for(n: int = 2, names: tuple[str, ...] = ("months-sequence", "greater-than")) -> Task:
    """`n` prompts of each of these tasks: two lengths, so that batches are padded."""
    examples = [replace(e, id=f"{name} {e.id}") for name in names for e in TASKS[name](n, 7)]
    return Task("mixed", tuple(examples), origin="generated")


def model_for(name: str, dtype: torch.dtype = torch.float64) -> CircuitModel:
    """A tiny random model that can take every built-in task; in float64 its norms too, which HF would run in
    float32."""
    words = tokenizer()
    model = tiny(name, dtype=dtype, tokenizer=words, vocab_size=len(words))
    for module in model.hf.modules():
        if dtype == torch.float64 and type(module).__name__.endswith("RMSNorm"):
            module.forward = partial(rms_norm, module)
    return model


def linear_model(name: str) -> CircuitModel:
    """One without norms and activations: nothing is left that is not linear but attention weights."""
    model = model_for(name)
    for module in model.hf.modules():
        if "Norm" in type(module).__name__ or "Activation" in type(module).__name__:
            module.forward = lambda x: x
    return model


class FlopCount(TorchDispatchMode):
    """Work of the matrix products run inside, backward ones too; torch's own counter refuses `autograd.grad`."""

    total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run it and count it."""
        out = function(*args, **(kwargs or {}))
        count = flop_registry.get(function._overloadpacket)
        self.total += count(*args, **(kwargs or {}), out_val=out) if count else 0
        return out


def rms_norm(module: Any, x: torch.Tensor) -> torch.Tensor:
    """Root mean square norm in the dtype of x."""
    return module.weight * x * (x.pow(2).mean(-1, keepdim=True) + module.variance_epsilon).rsqrt()
