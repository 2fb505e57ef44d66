"""What each kind of analysis in a study computes: one function a kind, with the type of its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from circuitkd.analysis import compare, noise_curve, prepare
from circuitkd.circuit_analysis import CircuitComparison, compare_circuits
from circuitkd.circuits.connected import NoCircuit
from circuitkd.circuits.discovery import DiscoveryOptions, ThresholdSweep, threshold_sweep
from circuitkd.comparison.noise import NoiseCurve
from circuitkd.comparison.result import Comparison
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.execution import Execution
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.roles.describe import describe_roles
from circuitkd.roles.result import RolesResult
from circuitkd.studies.distillation import Distillation, distillation
from circuitkd.studies.settings import CompareSettings
from circuitkd.studies.study_file import CircuitsSpec, DistillSpec, Job, NoiseSpec
from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import BoundTask

Pair = tuple[CircuitModel, CircuitModel]


@dataclass(frozen=True)
class StudyCircuits:
    """Both models' circuits, and at several thresholds where those were asked for (None: not, or no circuit)."""

    found: CircuitComparison
    teacher_thresholds: ThresholdSweep | None
    student_thresholds: ThresholdSweep | None


Result = Comparison | StudyCircuits | RolesResult | NoiseCurve | Distillation


@dataclass(frozen=True, eq=False)
class ReadyJob:
    """A job with its models, its task, and the comparison that it builds on (None where it builds on none)."""

    job: Job
    models: Pair
    task: Task
    execution: Execution
    comparison: Comparison | None = None

    @property
    def basis(self) -> tuple[Comparison, Ablation]:
        """The comparison and its ablation."""
        assert self.comparison is not None and self.job.comparison is not None, "jobs() puts comparisons first"
        return self.comparison, self.job.comparison.ablation_of(self.task)


def run_compare(ready: ReadyJob) -> Comparison:
    """Alignment, performance, robustness."""
    settings = ready.job.comparison or CompareSettings()
    ablation, options = settings.ablation_of(ready.task), settings.options()
    return compare(*ready.models, ready.task, ablation=ablation, options=options, execution=ready.execution)


def run_circuits(ready: ReadyJob) -> StudyCircuits:
    """Both circuits, what they share, and both at other thresholds."""
    assert isinstance(ready.job.analysis, CircuitsSpec)
    settings, (comparison, ablation) = ready.job.analysis.options, ready.basis
    options = settings.options()
    found = compare_circuits(
        comparison, ready.models, task=ready.task, ablation=ablation, options=options, execution=ready.execution
    )
    bound = prepare(*ready.models, ready.task, ablation=ablation).tasks
    bare = replace(options, subsets=0, random_circuits=0)
    teacher, student = (
        _thresholds(model, task, thresholds=settings.thresholds, options=bare, ready=ready)
        for model, task in zip(ready.models, bound, strict=True)
    )
    return StudyCircuits(found, teacher, student)


def run_roles(ready: ReadyJob) -> RolesResult:
    """Roles of heads, their validation, fates."""
    comparison, ablation = ready.basis
    return describe_roles(
        *ready.models, ready.task, comparison=comparison, ablation=ablation, execution=ready.execution
    )


def run_noise(ready: ReadyJob) -> NoiseCurve:
    """Alignment of a disturbed student."""
    assert isinstance(ready.job.analysis, NoiseSpec)
    settings = ready.job.analysis.options
    return noise_curve(
        *ready.models, ready.task, stds=settings.stds(), seeds=range(settings.seeds), execution=ready.execution
    )


def run_distill(ready: ReadyJob) -> Distillation:
    """Circuit distillation."""
    assert isinstance(ready.job.analysis, DistillSpec)
    return distillation(ready.models, ready.task, settings=ready.job.analysis.options, execution=ready.execution)


RUNNERS: Mapping[str, tuple[type, Callable[[ReadyJob], Result]]] = {
    "compare": (Comparison, run_compare),
    "circuits": (StudyCircuits, run_circuits),
    "roles": (RolesResult, run_roles),
    "noise": (NoiseCurve, run_noise),
    "distill": (Distillation, run_distill),
}


def _thresholds(
    model: CircuitModel,
    task: BoundTask,
    *,
    thresholds: tuple[float, ...],
    options: DiscoveryOptions,
    ready: ReadyJob,
) -> ThresholdSweep | None:
    if not thresholds:
        return None
    try:
        return threshold_sweep(
            model,
            task,
            thresholds=thresholds,
            ablation=ready.basis[1],
            options=options,
            execution=ready.execution,
        )
    except NoCircuit:  # `found.missing` says why
        return None
