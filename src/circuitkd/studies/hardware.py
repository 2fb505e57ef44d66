"""How fast devices are, and how large.

    seconds = FLOPs / (peak FLOP/s x utilisation) + (block runs + starts) x seconds a start + work of the host
    seconds = block runs x seconds of a block of so many FLOPs + starts x those of a token + ...   (this machine)

Peaks are the makers' figures for dense products: with tensor cores in bfloat16 and float64, without them in float32 (torch
multiplies float32 without TF32 unless told). UTILISATION is what of them is expected: products of a few thousand tokens with norms,
activations and softmax between them. It is an assumption: no accelerator was measured. `this_machine` measures instead:
transformer blocks of the planned models' own classes, as far as they are at most WIDEST wide (a GPT-2 block of that width
for wider ones), from a single token to as many as a sweep takes at a time: a block that leaves the cache is slower for
each token, one of few tokens too. Between two sizes seconds are on a straight line. Other work of the host was timed once;
here it is scaled by how fast this machine's interpreter is beside that one (`pace`).
"""

from __future__ import annotations

import copy
import difflib
import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from circuitkd.interventions.execution import SMALL_TOKENS, SMALL_WIDTH
from circuitkd.models import blocks, flops
from circuitkd.models.blocks import Context
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.studies.workload import Work

THIS_MACHINE = "this-machine"
UTILISATION = MappingProxyType({"float64": 0.6, "float32": 0.6, "bfloat16": 0.4, "float16": 0.4})
START = 3e-4  # seconds: some thirty kernels of a block, started from Python
HOST = 5e10  # float64 FLOP/s of the host's processor
TILED = 2.0  # how much longer products in tiles take, with copying, than one large product
WIDEST, LAYERS, POSITIONS, ENOUGH, TURN = 1024, 4, 16, 0.2, 3
SHAPES = ((1, 1), (1, POSITIONS), (8, POSITIONS), (32, POSITIONS), (SMALL_TOKENS // POSITIONS, POSITIONS))  # rows, pos
LOOP, REFERENCE = 2000, 2.5e-4  # steps of a plain loop, and the seconds it took where host seconds were timed
GB = 1e9


@dataclass(frozen=True)
class MeasuredBlock:
    """What runs of one block took: `seconds` by `flops`, both growing."""

    flops: tuple[float, ...]
    seconds: tuple[float, ...]

    @property
    def rate(self) -> float:
        """FLOP/s of the largest run."""
        return self.flops[-1] / self.seconds[-1]

    def of(self, flops: float, *, runs: float) -> float:
        """Seconds of so many FLOPs in so many runs, all of one size."""
        each = flops / runs if runs else np.inf
        if each > self.flops[-1]:
            return flops / self.rate
        return runs * float(np.interp(each, self.flops, self.seconds))


@dataclass(frozen=True)
class Hardware:
    """One device. `peak`: FLOP/s by dtype; `memory`: bytes; `start`: seconds that a block run takes however small;
    `host`, `exact`: float64 FLOP/s of the processor beside it, and of the device; `program`: bytes that the process has
    before any model. `pace`: how long the processor takes for what took a second where host seconds were timed. `measured`:
    blocks by class and width, in place of peak and utilisation."""

    name: str
    peak: Mapping[str, float]
    memory: float
    source: str
    is_cpu: bool = False
    start: float = START
    host: float = HOST
    exact: float = HOST / TILED
    program: float = 0.0
    pace: float = 1.0
    measured: Mapping[tuple[str, int], MeasuredBlock] = field(default_factory=dict)

    def seconds(self, work: Work, model: CircuitModel) -> float:
        """Time of some work of a model. Raises ValueError for a dtype without a peak."""
        block = self.measured.get(_key(model))
        if block is None:
            rate = self.rate(str(model.hf.dtype).removeprefix("torch."))
            device = work.flops / rate + (work.blocks + work.starts) * self.start
        else:
            device = block.of(work.flops, runs=work.blocks) + work.starts * block.seconds[0]
        device += work.exact_flops / self.exact
        return device + work.host_flops / self.host + work.host_seconds * self.pace

    def rate(self, dtype: str) -> float:
        """FLOP/s that are expected. Raises ValueError for a dtype without a peak."""
        if dtype not in self.peak:
            raise ValueError(
                f"{self.name}: no figure for {dtype}; plan with one of {', '.join(self.peak)}, or on --hardware this-machine"
            )
        return self.peak[dtype] * UTILISATION[dtype]


def _gpu(name: str, float32: float, half: float, *, float64: float, memory: float, source: str) -> Hardware:
    """Peaks in TFLOP/s, memory in GB."""
    peak = {"float32": float32 * 1e12, "bfloat16": half * 1e12, "float16": half * 1e12}
    return Hardware(name, peak, memory * GB, source, exact=float64 * 1e12 * UTILISATION["float64"])


DEVICES = {
    device.name: device
    for device in (
        _gpu("h200", 67, 989, float64=67, memory=141, source="NVIDIA's data sheet of the H200 SXM"),
        _gpu("h100", 67, 989, float64=67, memory=80, source="NVIDIA's data sheet of the H100 SXM"),
        _gpu("a100-80gb", 19.5, 312, float64=19.5, memory=80, source="NVIDIA's data sheet of the A100 80 GB SXM"),
        _gpu("l4", 30.3, 121, float64=0.47, memory=24, source="NVIDIA's data sheet of the L4, without sparsity"),
        _gpu(
            "rtx-4090",
            82.6,
            165,
            float64=1.3,
            memory=24,
            source="NVIDIA's paper on the Ada architecture, float32 accumulation",
        ),
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
    host = _host_rate(clock)
    return Hardware(
        THIS_MACHINE,
        {},
        float(size),
        f"measured on {torch.get_num_threads()} threads",
        is_cpu=True,
        host=host,
        exact=host / TILED,
        program=1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        pace=_pace(clock),
        measured=MappingProxyType(measured),
    )


def _key(model: CircuitModel) -> tuple[str, int]:
    return f"{model.architecture.hf_class} {model.hf.dtype}", model.d_model


def _measured(model: CircuitModel, clock: Callable[[], float]) -> MeasuredBlock:
    """Runs of a block from a single token to as many as a sweep takes at a time."""
    few = _few_blocks(model)
    with torch.inference_mode():
        seconds = _seconds(few, clock)
    work = [float(flops.block_flops(few, *shape)) for shape in SHAPES]
    return MeasuredBlock(tuple(work), tuple(np.maximum.accumulate(seconds).tolist()))


def _few_blocks(model: CircuitModel) -> CircuitModel:
    """Blocks of the model's class and width with random weights and a small vocabulary: some of a narrow model, whose
    weights share the cache, one of a wide one."""
    config: Any = GPT2Config(n_embd=WIDEST, n_layer=1, n_head=16, vocab_size=512, bos_token_id=None, eos_token_id=None)
    kind: Any = GPT2LMHeadModel
    if model.d_model <= WIDEST:
        config, kind = copy.deepcopy(model.hf.config), type(model.hf)
        layers = min(LAYERS, model.n_layers) if model.d_model < SMALL_WIDTH else 1
        config.num_hidden_layers, config.vocab_size, config.pad_token_id = layers, 512, 0
        config.bos_token_id = config.eos_token_id = None
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
    with torch.random.fork_rng():
        hf = kind(config).to(model.hf.dtype).eval()
    return CircuitModel.of(hf, None, name="some blocks")


def _seconds(model: CircuitModel, clock: Callable[[], float]) -> list[float]:
    """The median time of a block for each of SHAPES."""
    inputs = []
    for rows, n_pos in SHAPES:
        tokens = torch.arange(rows * n_pos).remainder(511).add(1).view(rows, n_pos)
        inputs.append(blocks.embed(model, tokens, torch.full((rows,), n_pos)))

    def walk(resid: Tensor, context: Context) -> None:
        for layer in range(model.n_layers):
            resid = blocks.block(model, layer, resid, context)

    taken = _medians([partial(walk, *both) for both in inputs], clock)
    return [seconds / model.n_layers for seconds in taken]


def _host_rate(clock: Callable[[], float]) -> float:
    """FLOP/s of numpy in float64."""
    matrix = np.random.default_rng(0).standard_normal((512, 512))
    return 2 * 512**3 / _medians([lambda: matrix @ matrix], clock)[0]


def _pace(clock: Callable[[], float]) -> float:
    """Seconds of a plain loop beside those of the machine where host seconds were timed."""
    return _medians([lambda: sum(len(str(i)) for i in range(LOOP))], clock)[0] / REFERENCE


def _medians(works: Sequence[Callable[[], object]], clock: Callable[[], float]) -> list[float]:
    """Median seconds of each of `works`: some runs of each in turn, ENOUGH seconds for each on average."""
    found: list[list[float]] = [[] for _ in works]
    begin = clock()
    while len(found[0]) < 2 * TURN or clock() - begin < ENOUGH * len(works):
        for work, seconds in zip(works, found, strict=True):
            for _ in range(TURN):
                start = clock()
                work()
                seconds.append(clock() - start)
    return [float(np.median(seconds)) for seconds in found]
