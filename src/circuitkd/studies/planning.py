"""What a study will take on some hardware, from the models' configs alone: work, time and memory, step by step.

The jobs of the study are counted one by one (`compare_cost`, `circuit_cost`, `role_cost`, `distill_cost`) on models
without weights (`models.loading.load_shape`), with the batches that the device's memory would allow, and timed by
`hardware`. Both models of a pair are in memory at once, as the commands load them. A range is what depends on the data.

Limits: several devices hold a model but work one after the other, as `device_map` does; time for loading, hashing and
checking weights, and for the report, is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from circuitkd.distill.data import check_tokenizers
from circuitkd.interventions.ablations import Ablation
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.models.loading import load_shape
from circuitkd.studies.assumptions import assumptions
from circuitkd.studies.circuit_cost import circuit_cost
from circuitkd.studies.compare_cost import compare_cost, noise_cost
from circuitkd.studies.distill_cost import distill_cost, own_circuit_cost, with_heads
from circuitkd.studies.edge_cost import attribution_cost
from circuitkd.studies.hardware import GB, Hardware
from circuitkd.studies.role_cost import roles_cost
from circuitkd.studies.study_file import (
    CircuitsSpec,
    CompareSpec,
    DistillSpec,
    Job,
    NoiseSpec,
    PairSpec,
    RolesSpec,
    Study,
    TaskSpec,
    jobs,
)
from circuitkd.studies.workload import Cost, Part, Place, Side, Work, bound
from circuitkd.tasks.registry import load_task

USABLE = 0.92  # share of a device's memory: the rest is the driver's, and lost between blocks
FULL = 0.85  # share of that which weights may take
Range = tuple[float, float, float]
Sides = tuple[Side, Side]


@dataclass(frozen=True)
class Step:
    """A step of one job. `forward_equivalents`: in FLOPs of one full forward of the task by `model`. `memory`: bytes on
    the device at the peak, the weights of both models among them; `host_memory`: bytes of arrays on the host (on a CPU
    both are in one memory). `devices`: how many of the hardware's devices hold that. Ranges are (least, expected, most)."""

    pair: str
    task: str
    analysis: str
    step: str
    model: str
    forward_equivalents: Range
    flops: Range
    seconds: Range
    memory: float
    host_memory: float
    devices: int


@dataclass(frozen=True)
class Plan:
    """Steps of a study on some hardware, what was assumed, what could be done instead (`notes`), and what will not work
    as asked for."""

    title: str
    hardware: str
    steps: tuple[Step, ...]
    assumptions: tuple[str, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def seconds(self) -> Range:
        """Time of all steps, one after the other."""
        return total([s.seconds for s in self.steps])

    @property
    def flops(self) -> Range:
        """Work of all steps."""
        return total([s.flops for s in self.steps])


def total(ranges: Sequence[Range]) -> Range:
    """Ranges added up, end by end."""
    low, expected, high = (sum(found[i] for found in ranges) for i in range(3))
    return low, expected, high


def pair_study(teacher: str, student: str, *, task: str, n: int | None = None, seed: int = 0) -> Study:
    """All analyses of one pair on one task."""
    return Study(
        title=f"{teacher} → {student}",
        pairs=(PairSpec(name="pair", teacher=teacher, student=student),),
        tasks=(TaskSpec(name=task, label="task", n=n, seed=seed),),
        analyses=(
            CompareSpec(kind="compare"),
            CircuitsSpec(kind="circuits"),
            RolesSpec(kind="roles"),
            NoiseSpec(kind="noise"),
            DistillSpec(kind="distill"),
        ),
    )


class Shapes:
    """The models of a study, each read once. `dtype`: of those whose pair does not say."""

    def __init__(self, dtype: str | None) -> None:
        self._dtype = dtype
        self._load = cache(lambda name, dtype, revision: load_shape(name, dtype=dtype, revision=revision))

    def of(self, pair: PairSpec) -> tuple[CircuitModel, CircuitModel]:
        """Teacher and student. Raises ValueError as `load_shape`."""
        dtype = pair.dtype or self._dtype
        return (
            self._load(pair.teacher, dtype, pair.teacher_revision),
            self._load(pair.student, dtype, pair.student_revision),
        )


def plan_study(study: Study, hardware: Hardware, *, shapes: Shapes, batch_size: int | None = None) -> Plan:
    """Count and time every job of a study.

    Raises ValueError for models that cannot be read, tasks that do not fit, and a dtype the hardware has no figure for.
    """
    steps: list[Step] = []
    warnings: dict[str, None] = {}
    notes: dict[str, None] = {}
    sides_of: dict[tuple[str, str, str], Sides] = {}
    for job in jobs(study):
        key = (job.pair.name, job.task.key, _ablation(job).kind)
        if key not in sides_of:
            sides_of[key] = _sides(job, shapes.of(job.pair), hardware, batch_size)
        sides = sides_of[key]
        try:
            parts = list(parts_of(job, sides))
        except ValueError as error:
            warnings[f"{job.pair.name}, {job.task.key}: {job.analysis.kind} is left out: {error}"] = None
            continue
        found = [_step(job, part, sides, hardware) for part in parts]
        steps += found
        notes |= dict.fromkeys(_alternatives(job, sides, hardware))
        warnings |= dict.fromkeys(_size_warnings(job, found, hardware))
    kinds = {job.analysis.kind for job in jobs(study)}
    said = assumptions(kinds, [side for sides in sides_of.values() for side in sides], hardware=hardware)
    return Plan(study.title, hardware.name, tuple(steps), tuple(said), tuple(notes), tuple(warnings))


def parts_of(job: Job, sides: Sides) -> Iterator[Part]:
    """The steps of a job. Raises ValueError for models that its analysis refuses."""
    spec = job.analysis
    if isinstance(spec, CompareSpec):
        yield from compare_cost(*sides, options=spec.options.options())
    elif isinstance(spec, CircuitsSpec):
        for side in sides:
            yield from circuit_cost(side, spec.options.options(), times=1 + len(spec.options.thresholds))
    elif isinstance(spec, RolesSpec):
        yield from roles_cost(*sides)
    elif isinstance(spec, NoiseSpec):
        yield from noise_cost(*sides, draws=spec.options.steps * spec.options.seeds)
    else:
        check_tokenizers(sides[0].model, sides[1].model)
        yield from own_circuit_cost(*sides, settings=spec.options)
        yield from distill_cost(*sides, options=with_heads(spec.options, sides[1]))


def _sides(job: Job, models: tuple[CircuitModel, CircuitModel], hardware: Hardware, batch_size: int | None) -> Sides:
    """Teacher and student with the examples that both can take, where they will run."""
    task = load_task(job.task.name, job.task.n, seed=job.task.seed)
    ablation = _ablation(job)
    tasks = [bound(task, model, aligned=ablation.needs_alignment) for model in models]
    ids = [e.id for e in tasks[0].examples if e.id in {other.id for other in tasks[1].examples}]
    weights = float(sum(m.parameter_count * m.hf.dtype.itemsize for m in models))
    place = _place(weights, hardware)
    teacher, student = (
        Side(model, t.select(ids), ablation, place, batch_size) for model, t in zip(models, tasks, strict=True)
    )
    return teacher, student


def _ablation(job: Job) -> Ablation:
    """What the job asks for, else what suits its task."""
    kind = job.analysis.options.ablation if isinstance(job.analysis, CompareSpec) else None
    return Ablation(kind or load_task(job.task.name, 1).ablation)


def _place(weights: float, hardware: Hardware) -> Place:
    """What is free beside both models' weights, spread over as many devices as they need."""
    if hardware.is_cpu:
        return Place(on_cpu=True)
    return Place(on_cpu=False, free=USABLE * hardware.memory - weights / _devices(weights, hardware))


def _devices(weights: float, hardware: Hardware) -> int:
    """How many devices hold the weights and leave some room beside them."""
    room = USABLE * hardware.memory
    return 1 if weights <= FULL * room else math.ceil(weights / (FULL * room))


def _step(job: Job, part: Part, sides: Sides, hardware: Hardware) -> Step:
    cost, model, unit = part.cost, part.side.model, part.side.sizes.full_forward
    weights = sides[0].weights + sides[1].weights
    memory = weights + cost.device + hardware.program
    needed = memory + cost.host if hardware.is_cpu else memory
    return Step(
        pair=job.pair.name,
        task=job.task.key,
        analysis=job.analysis.kind,
        step=part.name,
        model=model.name,
        forward_equivalents=_each(cost, lambda work: work.flops / unit),
        flops=_each(cost, lambda work: work.flops),
        seconds=_each(cost, lambda work: hardware.seconds(work, model)),
        memory=memory,
        host_memory=cost.host,
        devices=max(_devices(weights, hardware), math.ceil(needed / (USABLE * hardware.memory))),
    )


def _each(cost: Cost, measure: Callable[[Work], float]) -> Range:
    low, expected, high = (float(measure(work)) for work in cost.works)
    return low, expected, high


def _alternatives(job: Job, sides: Sides, hardware: Hardware) -> Iterator[str]:
    """What estimates of all edges would take instead of exact path patching."""
    if not isinstance(job.analysis, CircuitsSpec) or job.analysis.options.edge_share is None:
        return
    for side in sides:
        work = attribution_cost(side).expected
        yield (
            f"{job.task.key}: EAP-IG estimates all edges of {side.model.name} in {work.flops / side.sizes.full_forward:.0f} "
            f"forward-equivalents, {hardware.seconds(work, side.model):,.0f} s (circuitkd.circuits.attribution)"
        )


def _size_warnings(job: Job, steps: list[Step], hardware: Hardware) -> Iterator[str]:
    """What does not fit on one device."""
    largest = max(steps, key=lambda s: (s.devices, s.memory + s.host_memory))
    if largest.devices < 2:
        return
    where, need = f"{job.pair.name}, {job.task.key}, {job.analysis.kind}", (largest.memory + largest.host_memory) / GB
    if hardware.is_cpu:
        yield (
            f"{where}: {largest.step} needs {need:,.0f} GB and this machine has {hardware.memory / GB:,.0f} GB: use a "
            "smaller dtype, fewer prompts, or a larger machine"
        )
    else:
        yield (
            f"{where}: {largest.step} needs {largest.memory / GB:,.0f} GB, so {largest.devices} x {hardware.name} with "
            "--device auto (device_map), or a smaller dtype; offloading to CPU or disk is refused at load"
        )
