"""Runs of a pair of models on tasks, each result kept in its folder: comparisons, circuits, roles, noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from circuitkd.circuit_analysis import CircuitComparison
    from circuitkd.cli.progress import Bars
    from circuitkd.cli.runs import Pair, Request
    from circuitkd.comparison.noise import NoiseCurve
    from circuitkd.comparison.result import Comparison
    from circuitkd.interventions.execution import Execution
    from circuitkd.roles.result import RolesResult
    from circuitkd.tasks.base import Task

    Work = Sequence[tuple[Path, Request]]
    Done = Sequence[tuple[tuple[Path, Request], Comparison]]
    Grid = tuple[tuple[float, ...], tuple[int, ...]]

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Run:
    """How comparisons, and what is kept with them, are run."""

    execution: Execution
    bars: Bars
    overwrite: bool

    def compare(self, pair: Pair, work: Work) -> list[Comparison]:
        """One comparison for each (folder, request), kept in the folder."""
        from circuitkd.cli.runs import compare_into

        found = []
        for i, (folder, request) in enumerate(work):
            self.bars.step(request.task.name, number=i, total=len(work))
            found.append(compare_into(folder, pair, request, execution=self.execution, overwrite=self.overwrite))
        return found

    def circuits(self, pair: Pair, done: Done) -> list[CircuitComparison]:
        """Both models' circuits for each finished comparison, kept in `circuits/` of its folder."""
        return [self._circuits_into(f / "circuits", pair, request, comparison=c) for (f, request), c in done]

    def _circuits_into(self, place: Path, pair: Pair, request: Request, *, comparison: Comparison) -> CircuitComparison:
        from circuitkd.circuit_analysis import CircuitComparison, compare_circuits

        self.bars.step(f"{request.task.name}: circuits")

        def compute(execution: Execution) -> CircuitComparison:
            task, ablation = request.task, request.ablation
            return compare_circuits(comparison, pair, task=task, ablation=ablation, execution=execution)

        identity = request.identity(pair) | {"circuits": "default"}
        return self._resumed(place, CircuitComparison, identity, compute=compute)

    def roles(self, pair: Pair, done: Done) -> list[RolesResult]:
        """The roles and fates of each finished comparison, kept in `roles/` of its folder."""
        return [self.roles_into(f / "roles", pair, request, comparison=c) for (f, request), c in done]

    def roles_into(self, place: Path, pair: Pair, request: Request, *, comparison: Comparison) -> RolesResult:
        """The roles and fates of one comparison, kept in `place` and resumed from its `partial/`."""
        from circuitkd.roles.describe import describe_roles
        from circuitkd.roles.result import RolesResult

        self.bars.step(f"{request.task.name}: roles")

        def compute(execution: Execution) -> RolesResult:
            return describe_roles(
                *pair, request.task, comparison=comparison, ablation=request.ablation, execution=execution
            )

        return self._resumed(place, RolesResult, request.identity(pair) | {"roles": "default"}, compute=compute)

    def _resumed(
        self, place: Path, kind: type[T], identity: Mapping[str, str], *, compute: Callable[[Execution], T]
    ) -> T:
        """The result kept in `place`, else computed, resuming from its `partial/`."""
        from circuitkd.cli.runs import clear, keep

        execution = replace(self.execution, folder=place / "partial")
        found = keep(place, kind, identity, compute=lambda: compute(execution), overwrite=self.overwrite)
        clear(place / "partial")
        return found

    def disturb(self, pair: Pair, work: Work, *, grid: Grid) -> list[NoiseCurve]:
        """The noise experiment of each request, kept in `noise/` of its folder."""
        from circuitkd.analysis import noise_curve
        from circuitkd.cli.runs import keep
        from circuitkd.comparison.noise import NoiseCurve

        found = []
        for folder, request in work:
            self.bars.step(f"{request.task.name}: noise")
            told = f"std {list(grid[0])}, seeds {list(grid[1])}"
            identity = request.identity(pair) | {"options": "default", "noise": told}

            def compute(task: Task = request.task) -> NoiseCurve:
                return noise_curve(*pair, task, stds=grid[0], seeds=grid[1], execution=self.execution)

            found.append(keep(folder / "noise", NoiseCurve, identity, compute=compute, overwrite=self.overwrite))
        return found
