"""How fast devices are, and how large.

    seconds = FLOPs / (peak FLOP/s x utilisation) + block runs x seconds a start + work of the host

Peaks are the makers' figures for dense products: with tensor cores in bfloat16, without them in float32 (torch multiplies
float32 without TF32 unless told). UTILISATION is what of them is expected: products of a few thousand tokens with norms,
activations and softmax between them. It is an assumption: no accelerator was measured. `this_machine` measures instead:
transformer blocks of the planned models' own classes, as far as they are at most WIDEST wide (a GPT-2 block of that width
for wider ones), once with as many tokens as a sweep takes at a time and once with a few prompts.
"""

from __future__ import annotations

import copy
import difflib
import os
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from circuitkd.interventions.execution import SMALL_TOKENS
from circuitkd.models import blocks, flops
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.studies.workload import Work

THIS_MACHINE = "this-machine"
UTILISATION = MappingProxyType({"float32": 0.6, "bfloat16": 0.4, "float16": 0.4})
START = 3e-4  # seconds: some thirty kernels of a block, started from Python
HOST = 5e10  # float64 FLOP/s of the host's processor
WIDEST, POSITIONS, FEW, ENOUGH = 1024, 16, 8, 0.4
GB = 1e9


@dataclass(frozen=True)
class Hardware:
    """One device. `peak`: FLOP/s by dtype; `memory`: bytes; `start`: seconds that a block run takes however small;
    `host`: float64 FLOP/s of the processor beside it; `program`: bytes that the process has before any model.
    `measured`: FLOP/s by class and width, in place of peak and utilisation."""

    name: str
    peak: Mapping[str, float]
    memory: float
    source: str
    is_cpu: bool = False
    start: float = START
    host: float = HOST
    program: float = 0.0
    measured: Mapping[tuple[str, int], tuple[float, float]] = field(default_factory=dict)

    def seconds(self, work: Work, model: CircuitModel) -> float:
        """Time of some work of a model. Raises ValueError for a dtype without a peak."""
        rate, start = self.measured.get(_key(model), (None, self.start))
        if rate is None:
            rate = self.rate(str(model.hf.dtype).removeprefix("torch."))
        return work.flops / rate + work.blocks * start + work.host_flops / self.host + work.host_seconds

    def rate(self, dtype: str) -> float:
        """FLOP/s that are expected. Raises ValueError for a dtype without a peak."""
        if dtype not in self.peak:
            raise ValueError(
                f"{self.name}: no figure for {dtype}; plan with one of {', '.join(self.peak)}, or on --hardware this-machine"
            )
        return self.peak[dtype] * UTILISATION[dtype]


def _gpu(name: str, float32: float, half: float, *, memory: float, source: str) -> Hardware:
    """Peaks in TFLOP/s, memory in GB."""
    peak = {"float32": float32 * 1e12, "bfloat16": half * 1e12, "float16": half * 1e12}
    return Hardware(name, peak, memory * GB, source)


DEVICES = {
    device.name: device
    for device in (
        _gpu("h200", 67, 989, memory=141, source="NVIDIA's data sheet of the H200 SXM"),
        _gpu("h100", 67, 989, memory=80, source="NVIDIA's data sheet of the H100 SXM"),
        _gpu("a100-80gb", 19.5, 312, memory=80, source="NVIDIA's data sheet of the A100 80 GB SXM"),
        _gpu("l4", 30.3, 121, memory=24, source="NVIDIA's data sheet of the L4, without sparsity"),
        _gpu("rtx-4090", 82.6, 165, memory=24, source="NVIDIA's paper on the Ada architecture, float32 accumulation"),
    )
}
NAMES = (*DEVICES, THIS_MACHINE)


def known(name: str) -> str:
    """The name as it is in NAMES. Raises ValueError for an unknown one, with the nearest."""
    wanted = name.lower().replace("_", "-").replace(" ", "-")
    if wanted in NAMES:
        return wanted
    near = difflib.get_close_matches(wanted, NAMES, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"unknown hardware {name!r}: {hint}known are {', '.join(NAMES)}")


def this_machine(models: list[CircuitModel], *, clock: Callable[[], float] = time.perf_counter) -> Hardware:
    """This machine's CPU, measured for these models for a second or two each; `clock` tells seconds."""
    shapes = {_key(model): model for model in models}
    measured = {key: _measured(model, clock) for key, model in shapes.items()}
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Hardware(
        THIS_MACHINE,
        {},
        float(size),
        f"measured on {torch.get_num_threads()} threads",
        is_cpu=True,
        host=_host_rate(clock),
        program=1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        measured=MappingProxyType(measured),
    )


def _key(model: CircuitModel) -> tuple[str, int]:
    return f"{model.architecture.hf_class} {model.hf.dtype}", model.d_model


def _measured(model: CircuitModel, clock: Callable[[], float]) -> tuple[float, float]:
    """FLOP/s and seconds a start, such that both a large and a small run of a block take what they take."""
    block = _one_block(model)
    rows = SMALL_TOKENS // POSITIONS
    with torch.inference_mode():
        large, small = (_seconds(block, n, POSITIONS, clock) for n in (rows, FEW))
    work = [flops.block_flops(block, n, POSITIONS) for n in (rows, FEW)]
    rate = (work[0] - work[1]) / max(large - small, 0.1 * large)
    return rate, max(small - work[1] / rate, 0.0)


def _one_block(model: CircuitModel) -> CircuitModel:
    """One block of the model's class and width with random weights and a small vocabulary."""
    config: Any = GPT2Config(n_embd=WIDEST, n_layer=1, n_head=16, vocab_size=512, bos_token_id=None, eos_token_id=None)
    kind: Any = GPT2LMHeadModel
    if model.d_model <= WIDEST:
        config, kind = copy.deepcopy(model.hf.config), type(model.hf)
        config.num_hidden_layers, config.vocab_size, config.pad_token_id = 1, 512, 0
        config.bos_token_id = config.eos_token_id = None
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:1]
    with torch.random.fork_rng():
        hf = kind(config).to(model.hf.dtype).eval()
    return CircuitModel.of(hf, None, name="one block")


def _seconds(model: CircuitModel, rows: int, n_pos: int, clock: Callable[[], float]) -> float:
    """The median time of a block on so many tokens."""
    tokens = torch.arange(rows * n_pos).remainder(511).add(1).view(rows, n_pos)
    resid, context = blocks.embed(model, tokens, torch.full((rows,), n_pos))
    return _median(lambda: blocks.block(model, 0, resid, context), clock)


def _host_rate(clock: Callable[[], float]) -> float:
    """FLOP/s of numpy in float64."""
    matrix = np.random.default_rng(0).standard_normal((512, 512))
    return 2 * 512**3 / _median(lambda: matrix @ matrix, clock)


def _median(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Seconds of `work`, run for ENOUGH seconds."""
    work()
    found: list[float] = []
    begin = clock()
    while len(found) < 5 or clock() - begin < ENOUGH:
        start = clock()
        work()
        found.append(clock() - start)
    return float(np.median(found))
