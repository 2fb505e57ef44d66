"""Circuits as results: one model's circuit with what was asked for beside it, and those of a teacher and its student.

`compare_circuits` looks for both circuits on the examples and with the ablation of a comparison, and puts the teacher's
beside the student's under the comparison's matching (`circuits.overlap`). A model that is not shown to do the task has
no circuit: the reason is kept, the other circuit is shown alone.

`faithfulness_curves` gives MIB's CPR and CMD: nodes ranked by their exact mean effects (the ablation sweep), edges by
EAP-IG, which costs about twenty forwards where exact path patching costs one run of what follows for each edge.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from circuitkd.analysis import prepare
from circuitkd.artifacts import load_run, save_run
from circuitkd.circuits.attribution import edge_attribution
from circuitkd.circuits.circuit import Circuit, ModelShape
from circuitkd.circuits.connected import NoCircuit
from circuitkd.circuits.curves import FaithfulnessCurve, edge_curve, node_curve
from circuitkd.circuits.discovery import DiscoveryOptions, ThresholdSweep, find_circuit
from circuitkd.circuits.edge_circuit import EdgeScorer
from circuitkd.circuits.entity_groups import EntityGroups
from circuitkd.circuits.kept import KeptScorer
from circuitkd.circuits.overlap import CircuitOverlap, overlap, require_models
from circuitkd.comparison.result import SAME, Comparison
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.execution import Execution
from circuitkd.interventions.sweep import sweep
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import BoundTask

Pair = tuple[CircuitModel, CircuitModel]


@dataclass(frozen=True)
class Curves:
    """MIB's curves over nodes and over edges."""

    nodes: FaithfulnessCurve
    edges: FaithfulnessCurve


@dataclass(frozen=True)
class CircuitFindings:
    """A circuit and what was asked for beside it: the sweep of thresholds, the curves, the entity-tracking groups."""

    circuit: Circuit
    thresholds: ThresholdSweep | None = None
    curves: Curves | None = None
    groups: EntityGroups | None = None


@dataclass(frozen=True)
class CircuitComparison:
    """The circuits of the two models of a comparison. A circuit is None where `missing` says why the model has none;
    `overlap` then is None too."""

    task: str
    teacher: Circuit | None
    student: Circuit | None
    overlap: CircuitOverlap | None
    missing: tuple[str, ...]
    manifest: dict[str, str]

    def belongs_to(self, comparison: Comparison) -> bool:
        """Whether models, examples and ablation are those of `comparison`."""
        return comparison.is_basis_of(self.manifest)

    def save(self, folder: str | Path) -> Path:
        """Write a run folder. Raises ValueError when it cannot be written."""
        return save_run(folder, self, manifest=self.manifest)

    @classmethod
    def load(cls, folder: str | Path) -> CircuitComparison:
        """Read a run folder. Raises ValueError for one that is unfinished, damaged or of another kind."""
        return load_run(folder, cls)


def compare_circuits(
    comparison: Comparison,
    models: Pair,
    *,
    task: Task,
    ablation: Ablation | None = None,
    options: DiscoveryOptions | None = None,
    execution: Execution | None = None,
) -> CircuitComparison:
    """The circuits of teacher and student on the task of their comparison, and what they share under its matching.

    Raises ValueError, before any long run, for other models, examples or another ablation than the comparison's.
    """
    teacher, student = models
    require_models(comparison, teacher=ModelShape.of(teacher), student=ModelShape.of(student))
    pair = prepare(teacher, student, task, ablation=ablation, execution=execution)
    facts = {"data_sha256": task.digest(), "ablation": pair.ablation.describe()}
    different = [key for key, value in facts.items() if comparison.manifest.get(key) != value]
    if different:
        raise ValueError(
            f"the comparison was made with another {' and '.join(different)}: give the task and ablation it was made with"
        )
    sides = [
        _circuit(KeptScorer(model, bound, ablation=pair.ablation, execution=pair.execution), options)
        for model, bound in zip(models, pair.tasks, strict=True)
    ]
    (first, _), (second, _) = sides
    return CircuitComparison(
        task=task.name,
        teacher=first,
        student=second,
        overlap=overlap(first, second, comparison=comparison) if first and second else None,
        missing=tuple(reason for _, reason in sides if reason),
        manifest={key: comparison.manifest[key] for key in SAME} | {"options": repr(options or DiscoveryOptions())},
    )


def faithfulness_curves(
    model: CircuitModel,
    task: Task | BoundTask,
    *,
    ablation: Ablation | None = None,
    execution: Execution | None = None,
) -> Curves:
    """CPR and CMD of the model's best nodes and best edges, all candidates ranked once (see the module).

    Raises ValueError for prompts the ablation cannot use.
    """
    scorer = KeptScorer(model, task, ablation=ablation, execution=execution)
    bound, how = scorer.task, scorer.ablation
    effects = sweep(model, bound, ablation=how, execution=execution)
    nodes = node_curve(scorer, effects.components, scores=effects.drops)
    estimates = edge_attribution(model, bound, method="eap-ig", ablation=how, execution=execution)
    runs = EdgeScorer(model, bound, ablation=how, execution=execution)
    edges = edge_curve(runs, estimates.edges, scores=estimates.drops)
    return Curves(
        nodes=replace(nodes, ranking="mean effect under ablation, exact, the largest first"),
        edges=replace(edges, ranking=f"mean effect by {estimates.method}, the largest first"),
    )


def _circuit(scorer: KeptScorer, options: DiscoveryOptions | None) -> tuple[Circuit | None, str]:
    """A model's circuit, or why it has none."""
    try:
        return find_circuit(scorer, options), ""
    except NoCircuit as error:
        return None, str(error)
