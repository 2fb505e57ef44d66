"""A model of the same class and config with freshly drawn weights: the null of "was anything learned?".

The weights are drawn on the host, in the model's dtype, then placed as the model is: on its device, or, where accelerate
spread it (`hf_device_map`), by the same map.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import dispatch_model

from circuitkd.models.circuit_model import CircuitModel


def randomly_initialised(model: CircuitModel, *, seed: int = 0) -> CircuitModel:
    """The same shape, dtype, devices and tokenizer; weights from the class's own initialisation under `seed`."""
    with torch.random.fork_rng(), _default_dtype(model.dtype):
        torch.manual_seed(seed)
        fresh = type(model.hf)(copy.deepcopy(model.hf.config)).eval()
    places = getattr(model.hf, "hf_device_map", None)
    fresh = fresh.to(model.device) if places is None else dispatch_model(fresh, device_map=places)
    return CircuitModel.of(fresh, model.tokenizer, name=f"{model.name} (random weights)")


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Weights are made in this dtype; what a class always keeps in float32 (rotary frequencies) stays so."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
