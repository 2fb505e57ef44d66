"""Compare the circuits of a teacher and its distilled student, and train them back in.

The public names are imported when they are first used, so that `import circuitkd` (and `circuitkd --help`) needs no
torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from circuitkd.analysis import CompareOptions, compare, noise_curve
    from circuitkd.circuit_analysis import CircuitComparison, compare_circuits
    from circuitkd.circuits.circuit import Circuit
    from circuitkd.circuits.discovery import discover
    from circuitkd.comparison.alignment import InfluenceOptions
    from circuitkd.comparison.noise import NoiseCurve
    from circuitkd.comparison.pair_similarity import Measures
    from circuitkd.comparison.pairs import MatchOptions
    from circuitkd.comparison.result import Comparison
    from circuitkd.comparison.scoring import ScoreOptions
    from circuitkd.components import Component, Edge
    from circuitkd.distill.conditions import ExperimentOptions
    from circuitkd.distill.experiment import run_experiment
    from circuitkd.distill.experiment_result import ExperimentResult
    from circuitkd.distill.head_map import HeadMap, map_pairs
    from circuitkd.distill.objective import Objective
    from circuitkd.distill.trainer import CircuitDistillationTrainer
    from circuitkd.interventions.ablations import Ablation
    from circuitkd.interventions.execution import Execution
    from circuitkd.interventions.sweep import sweep
    from circuitkd.interventions.sweep_result import SweepResult
    from circuitkd.models.circuit_model import CircuitModel
    from circuitkd.models.loading import load, wrap
    from circuitkd.models.self_check import SelfCheck, self_check
    from circuitkd.roles.describe import describe_roles
    from circuitkd.roles.result import RolesResult
    from circuitkd.selection import Selection, rank_students, shared_examples
    from circuitkd.tasks.base import Example, Task
    from circuitkd.tasks.importers import import_task
    from circuitkd.tasks.jsonl import read_task, write_task
    from circuitkd.tasks.registry import load_task
    from circuitkd.tasks.validation import validate

__all__ = [
    "Ablation",
    "Circuit",
    "CircuitComparison",
    "CircuitDistillationTrainer",
    "CircuitModel",
    "CompareOptions",
    "Comparison",
    "Component",
    "Edge",
    "Example",
    "Execution",
    "ExperimentOptions",
    "ExperimentResult",
    "HeadMap",
    "InfluenceOptions",
    "MatchOptions",
    "Measures",
    "NoiseCurve",
    "Objective",
    "RolesResult",
    "ScoreOptions",
    "Selection",
    "SelfCheck",
    "SweepResult",
    "Task",
    "__version__",
    "compare",
    "compare_circuits",
    "describe_roles",
    "discover",
    "import_task",
    "load",
    "load_task",
    "map_pairs",
    "noise_curve",
    "rank_students",
    "read_task",
    "run_experiment",
    "self_check",
    "shared_examples",
    "sweep",
    "validate",
    "wrap",
    "write_task",
]

_HOMES = {
    "analysis": "CompareOptions compare noise_curve",
    "circuit_analysis": "CircuitComparison compare_circuits",
    "circuits.circuit": "Circuit",
    "circuits.discovery": "discover",
    "comparison.alignment": "InfluenceOptions",
    "comparison.noise": "NoiseCurve",
    "comparison.pair_similarity": "Measures",
    "comparison.pairs": "MatchOptions",
    "comparison.result": "Comparison",
    "comparison.scoring": "ScoreOptions",
    "components": "Component Edge",
    "distill.conditions": "ExperimentOptions",
    "distill.experiment": "run_experiment",
    "distill.experiment_result": "ExperimentResult",
    "distill.head_map": "HeadMap map_pairs",
    "distill.objective": "Objective",
    "distill.trainer": "CircuitDistillationTrainer",
    "interventions.ablations": "Ablation",
    "interventions.execution": "Execution",
    "interventions.sweep": "sweep",
    "interventions.sweep_result": "SweepResult",
    "models": "CircuitModel SelfCheck load self_check wrap",
    "roles.describe": "describe_roles",
    "roles.result": "RolesResult",
    "selection": "Selection rank_students shared_examples",
    "tasks.base": "Example Task",
    "tasks.importers": "import_task",
    "tasks.jsonl": "read_task write_task",
    "tasks.registry": "load_task",
    "tasks.validation": "validate",
}

# Hidden from type checkers: a module with __getattr__ would have every attribute for them.
if not TYPE_CHECKING:

    def __getattr__(name):
        for module, names in _HOMES.items():
            if name in names.split():
                value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted(set(globals()) | set(__all__))
