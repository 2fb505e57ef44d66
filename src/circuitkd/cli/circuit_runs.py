"""Run folders of circuits: the circuit in the folder itself, what was asked for beside it in folders below."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from circuitkd.artifacts import load_run, read_manifest
from circuitkd.circuit_analysis import CircuitFindings, Curves, faithfulness_curves
from circuitkd.circuits.circuit import Circuit
from circuitkd.circuits.connected import NoCircuit
from circuitkd.circuits.discovery import DiscoveryOptions, ThresholdSweep, evaluated, find_circuit, threshold_sweep
from circuitkd.circuits.entity_groups import EntityGroups, entity_groups
from circuitkd.circuits.formats import read_circuit
from circuitkd.circuits.kept import KeptScorer
from circuitkd.cli import runs
from circuitkd.interventions.ablations import Ablation, find_reference
from circuitkd.interventions.execution import Execution, fingerprint
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.provenance import software
from circuitkd.reports import circuit_page
from circuitkd.tasks.base import Task

if TYPE_CHECKING:
    from circuitkd.cli.progress import Bars

T = TypeVar("T")


@dataclass(frozen=True)
class Extras:
    """What is wanted beside the circuit."""

    thresholds: bool = False
    curves: bool = False
    groups: bool = False


@dataclass(frozen=True)
class CircuitRequest:
    """One circuit that a command wants: to be found, or read from `source`. `seed` drew the task's examples."""

    task: Task
    ablation: Ablation
    options: DiscoveryOptions
    seed: int
    source: Path | None = None

    def identity(self, model: CircuitModel) -> dict[str, str]:
        """What a finished result must have been made from to be reused, by names for people."""
        reference = self.ablation.reference
        return {
            "model": fingerprint(model),
            "task": self.task.name,
            "examples": self.task.digest(),
            "ablation": self.ablation.describe() + (f" {reference.digest()}" if reference else ""),
            "options": repr(self.options),
            "circuit": _digest(self.source) if self.source else "to be found",
            "circuitkd version": software()["circuitkd"],
        }

    def check(self, model: CircuitModel) -> None:
        """See that task, ablation and circuit file fit the model, before the first long run. Raises ValueError."""
        bound = self.task.bind(model, aligned=self.ablation.needs_alignment)
        find_reference(model, bound, ablation=self.ablation)
        if self.source:
            read_circuit(self.source, model)


@dataclass(frozen=True, eq=False)
class CircuitRun:
    """One model, and how its circuits are run and shown."""

    model: CircuitModel
    execution: Execution
    bars: Bars
    overwrite: bool

    def find(
        self, work: Sequence[tuple[Path, CircuitRequest]], extras: Extras
    ) -> tuple[list[tuple[Path, CircuitFindings]], list[str]]:
        """The circuit of each (folder, request), and why some have none. Raises NoCircuit where no one has."""
        found, refused = [], []
        for i, (folder, request) in enumerate(work):
            self.bars.step(request.task.name, number=i, total=len(work))
            try:
                found.append((folder, self._findings(folder, request, extras)))
            except NoCircuit as error:
                if len(work) == 1:
                    raise
                refused.append(str(error))
        if not found:
            raise NoCircuit("; ".join(refused))
        return found, refused

    def _findings(self, folder: Path, request: CircuitRequest, extras: Extras) -> CircuitFindings:
        model, task, ablation, options = self.model, request.task, request.ablation, request.options
        execution = replace(self.execution, folder=folder / "partial")

        identity = request.identity(model)

        def kept(name: str, kind: type[T], compute: Callable[[], T]) -> T:
            return runs.keep(folder / name, kind, identity, compute=compute, overwrite=self.overwrite)

        # The groups come first: they refuse a task without their labels.
        groups = thresholds = curves = None
        if extras.groups:
            groups = kept("groups", EntityGroups, lambda: entity_groups(model, task, execution=execution))
        circuit = kept("", Circuit, lambda: _circuit(model, request, execution))
        if extras.thresholds:
            bare = replace(options, subsets=0, random_circuits=0)
            thresholds = kept(
                "thresholds",
                ThresholdSweep,
                lambda: threshold_sweep(model, task, ablation=ablation, options=bare, execution=execution),
            )
        if extras.curves:
            curves = kept(
                "curves", Curves, lambda: faithfulness_curves(model, task, ablation=ablation, execution=execution)
            )
        runs.clear(folder / "partial")
        return CircuitFindings(circuit, thresholds, curves, groups)


def finish(root: Path, found: Sequence[tuple[Path, CircuitFindings]]) -> None:
    """Write the diagrams and the report of all that the folders hold, and the index where there are several runs."""
    for folder, findings in found:
        circuit_page.write_svg(findings.circuit, folder / "circuit.svg")
    if [folder for folder, _ in found] != [root]:
        rows = [
            {
                "folder": folder.relative_to(root).as_posix(),
                "model": f.circuit.model.name,
                "task": f.circuit.task,
                "nodes": len(f.circuit.components),
                "edges": len(f.circuit.edges),
                "faithfulness": f.circuit.faithfulness,
            }
            for folder, f in found
        ]
        runs.write_index(root, rows)
    circuit_page.write([read_findings(folder) for folder, _ in found], root / "report.html")


def read_findings(folder: Path) -> CircuitFindings:
    """What a run folder holds: its circuit and what was computed for the same request. Raises ValueError for a damaged
    one."""
    request = read_manifest(folder).get(runs.REQUEST)

    def there(name: str, kind: type[T]) -> T | None:
        place = folder / name
        if not (place / "result.json").exists() or read_manifest(place).get(runs.REQUEST) != request:
            return None
        return load_run(place, kind)

    return CircuitFindings(
        Circuit.load(folder),
        there("thresholds", ThresholdSweep),
        there("curves", Curves),
        there("groups", EntityGroups),
    )


def _circuit(model: CircuitModel, request: CircuitRequest, execution: Execution) -> Circuit:
    """The circuit, found or read from the file, measured on the task."""
    scorer = KeptScorer(model, request.task, ablation=request.ablation, execution=execution)
    facts = {
        "task_seed": str(request.seed),
        "evaluation_seed": str(request.options.seed),
        "dtype": str(model.dtype).removeprefix("torch."),
        "tokenizer": f"{type(model.tokenizer).__name__}, {len(model.tokenizer)} tokens",
    }
    if request.source is None:
        found = find_circuit(scorer, request.options)
    else:
        found = evaluated(read_circuit(request.source, model), scorer, options=request.options)
        facts |= {
            "read_from": request.source.name,
            "task": scorer.task.name,
            "data_sha256": scorer.task.digest,
            "examples": str(len(scorer.task)),
            "metric_and_reference": scorer.describe(),
        }
    return replace(found, manifest=found.manifest | facts)


def _digest(path: Path) -> str:
    """A short digest of a circuit file, or of the result in a run folder."""
    file = path / "result.json" if path.is_dir() else path
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file.exists() else "missing"
