"""What a computation asks of a machine, counted from shapes: floating point operations, block runs, host work, memory.

    flops         products with weight matrices and of activations, as `models.flops` counts them
    blocks        how often a transformer block is run: each start costs time, however little there is to multiply
    host_flops    products in float64 that numpy does (covariances, eigenvectors)
    exact_flops   products in float64 where the model is (CKA, products of rows)
    host_seconds  what else runs on the host's processor and is known in seconds: draws of noise, bootstraps, tokenizing
    starts        what takes as long as starting a block and multiplies little: reading off the metric, cutting the last
                  block to the answer position

A `Side` is a model on the meta device with a task in its tokens, and the sizes that `interventions.execution` would choose
on the machine: the same function chooses them, so batches are those of a real run. Without a tokenizer a word or a
punctuation mark counts as one token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from typing import NamedTuple

from circuitkd.circuits import base_run
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.capture import batches
from circuitkd.interventions.execution import CPU_BUDGET, GPU_SHARE, Plan, sizes
from circuitkd.models import flops
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import BoundExample, BoundTask

LAST, READ = 1.0, 1.0  # starts: of cutting the last block to the answer position, and of a readout
_TOKEN = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Work:
    """Work of one step (module docstring)."""

    flops: float = 0.0
    blocks: float = 0.0
    host_flops: float = 0.0
    host_seconds: float = 0.0
    starts: float = 0.0
    exact_flops: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(*(ours + theirs for ours, theirs in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: float) -> Work:
        return Work(*(count * times for count in astuple(self)))


@dataclass(frozen=True)
class Cost:
    """What a step takes: the least, the expected and the most work (equal where it does not depend on the data), and the
    peak of what it keeps beyond the weights, in bytes: `device` beside the model, `host` in arrays of numpy."""

    low: Work = Work()
    expected: Work = Work()
    high: Work = Work()
    device: float = 0.0
    host: float = 0.0

    @classmethod
    def of(cls, work: Work, *, device: float = 0.0, host: float = 0.0) -> Cost:
        """A step whose work is known."""
        return cls(work, work, work, device, host)

    @classmethod
    def among(cls, works: Iterable[Work], *, device: float = 0.0) -> Cost:
        """A step with the least, the expected and the most work."""
        low, expected, high = works
        return cls(low, expected, high, device)

    @property
    def works(self) -> tuple[Work, Work, Work]:
        """Least, expected and most work."""
        return self.low, self.expected, self.high

    def __add__(self, other: Cost) -> Cost:
        """One step after the other: work adds up, memory is free again."""
        low, expected, high = (ours + theirs for ours, theirs in zip(self.works, other.works, strict=True))
        return Cost(low, expected, high, max(self.device, other.device), max(self.host, other.host))

    def __mul__(self, times: float) -> Cost:
        low, expected, high = (work * times for work in self.works)
        return Cost(low, expected, high, self.device, self.host)


@dataclass(frozen=True)
class Place:
    """Where a model runs: on a CPU, or on an accelerator with `free` bytes beside the weights."""

    on_cpu: bool
    free: float = 0.0

    @property
    def batch_budget(self) -> float:
        """Bytes that a batch may take."""
        return CPU_BUDGET if self.on_cpu else GPU_SHARE * self.free

    @property
    def states_budget(self) -> float:
        """Bytes that the states of a base run may take."""
        return base_run.CPU_BYTES if self.on_cpu else GPU_SHARE * self.free


@dataclass(frozen=True)
class Batch:
    """Shape of a batch: examples, positions, and different answer tokens."""

    rows: int
    n_pos: int
    answers: int


@dataclass(frozen=True, eq=False)
class Side:
    """A model on the meta device, its task, and where it will run. `batch_size`: prompts at a time (None: chosen)."""

    model: CircuitModel
    task: BoundTask
    ablation: Ablation
    place: Place
    batch_size: int | None = None

    def on(self, task: BoundTask) -> Side:
        """The same model with another task."""
        return replace(self, task=task)

    @cached_property
    def sizes(self) -> Plan:
        """What a sweep would choose."""
        budget, on_cpu = self.place.batch_budget, self.place.on_cpu
        return sizes(self.model, self.task, batch_size=self.batch_size, budget=budget, on_cpu=on_cpu)

    @cached_property
    def batches(self) -> tuple[Batch, ...]:
        """The batches of a sweep."""
        return self.in_batches(self.sizes.batch_size)

    @cached_property
    def base_runs(self) -> tuple[Batch, ...]:
        """The batches of path patching and attribution, which keep the states of all layers."""
        most = base_run.most_rows(self.model, self.task, budget=self.place.states_budget)
        return self.in_batches(min(self.sizes.batch_size, most))

    def in_batches(self, size: int) -> tuple[Batch, ...]:
        """The clean prompts, `size` at a time, as `capture.batches` sorts them."""
        return tuple(self._batch(rows) for rows in batches(self.task, size))

    def _batch(self, rows: tuple[int, ...]) -> Batch:
        examples = [self.task.examples[i] for i in rows]
        ids = {t for e in examples for t in (*e.answers, *e.distractors)}
        return Batch(len(rows), max(len(e.clean) for e in examples), len(ids))

    @property
    def bytes_each(self) -> int:
        """Bytes of a number."""
        return int(self.model.hf.dtype.itemsize)

    @property
    def z_width(self) -> int:
        """Numbers of all heads of a layer at one position."""
        return self.model.n_heads * self.model.d_head

    @property
    def weights(self) -> float:
        """Bytes of the weights."""
        return float(self.model.parameter_count * self.bytes_each)

    def readout(self, batch: Batch, *, copies: float = 1) -> float:
        """FLOPs of reading the metric off `copies` copies of a batch."""
        return copies * flops.unembed_flops(self.model, batch.rows, tokens=batch.answers)

    def walk(self, found: tuple[Batch, ...] | None = None) -> Work:
        """One run of all blocks at all positions, without logits."""
        model, runs = self.model, self.batches if found is None else found
        work = sum(model.n_layers * flops.block_flops(model, b.rows, b.n_pos) for b in runs)
        return Work(work, model.n_layers * len(runs))


class Part(NamedTuple):
    """A named step, and the model whose forward is its unit and whose speed decides its time."""

    name: str
    side: Side
    cost: Cost


def bound(task: Task, model: CircuitModel, *, aligned: bool) -> BoundTask:
    """The task in the model's tokens, or in words where the model has no tokenizer."""
    if model.tokenizer is not None:
        return replace(task, origin="generated").bind(model, aligned=aligned)
    numbers: dict[str, int] = {}

    def ids(text: str) -> tuple[int, ...]:
        found = _TOKEN.findall(text) or [text]
        return tuple(numbers.setdefault(word, len(numbers)) for word in found)

    examples = []
    for e in task.examples:
        clean, corrupted = ids(e.clean), ids(e.corrupted)
        answers, others = (tuple(dict.fromkeys(ids(a)[0] for a in side)) for side in (e.answers, e.distractors))
        places = len(clean) - 1, len(corrupted) - 1
        if aligned:
            corrupted, places = (corrupted + clean)[: len(clean)], (places[0], places[0])
        examples.append(
            BoundExample(e.id, clean, corrupted, answers, others, *places, {"end": places[:1]}, e.template, e.clean)
        )
    return BoundTask(task.name, model.name, tuple(examples), {}, (), task.ablation, "", task.bos)
