"""What is found on every bundled teacher and student and every task: the assumptions of `circuitkd plan`.

    python benchmarks/found.py          # 20 prompts of each task; some minutes on one core

For each of them: the share of components that pruning keeps and in how many passes (models that are shown to do the task),
how many heads are the best of a role, and the lowest layer of the heads that circuit distillation would train (students;
a share of the way up). Printed are the 10th percentile, the median and the 90th. Then, for each pair and task that both
models do, the work of finding both circuits: what the plan expects (and its ends) / what it counts for the circuits found.
"""

from __future__ import annotations

import argparse
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

import circuitkd as ck
from circuitkd.circuits.discovery import DiscoveryOptions, NoCircuit, find_circuit
from circuitkd.circuits.kept import KeptScorer
from circuitkd.circuits.pruning import Pruning
from circuitkd.distill.conditions import ExperimentOptions
from circuitkd.distill.data import split
from circuitkd.distill.experiment_setup import default_heads
from circuitkd.distill.head_map import choose_heads
from circuitkd.interventions.ablations import Ablation
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.roles.patterns import role_scores
from circuitkd.studies.circuit_cost import FoundCircuit, found_circuits, pruning_work
from circuitkd.studies.workload import Place, Side
from circuitkd.tasks.base import Task
from circuitkd.tasks.registry import TASKS

Floats = NDArray[np.float64]
NODES = DiscoveryOptions(edge_share=None, subsets=0, random_circuits=0)


def circuit_of(model: CircuitModel, task: Task) -> Pruning | None:
    """What pruning keeps; None for a model that is not shown to do the task."""
    try:
        return find_circuit(KeptScorer(model, task), NODES).pruning
    except NoCircuit:
        return None


def works(model: CircuitModel, task: Task, pruning: Pruning) -> Floats:
    """FLOPs [least, expected, most; counted for what was found] of finding one model's circuit with edges."""
    ablation = Ablation(task.ablation)
    side = Side(model, task.bind(model, aligned=ablation.needs_alignment), ablation, Place(on_cpu=True))
    heads, mlps = np.zeros(model.n_layers), np.zeros(model.n_layers)
    for component in pruning:
        (mlps if component.kind == "mlp" else heads)[component.layer or 0] += 1
    decisions = [(d.component, d.removed) for d in pruning.history]
    real = FoundCircuit(side, pruning_work(side, decisions), heads, mlps)
    cases = (*found_circuits(side), real)
    return np.array([(c.pruning + c.evaluation(DiscoveryOptions()) + c.edges()).flops for c in cases])


def best_heads(model: CircuitModel, task: Task) -> int:
    """How many heads are the best of a role."""
    scores = role_scores(model, task)
    return len({scores.best(role) for role in scores.roles} - {None})


def lowest_layer(model: CircuitModel, task: Task) -> float:
    """How far up the lowest head lies that distillation would train."""
    train = split(task, shares=ExperimentOptions().shares).train
    heads = choose_heads(model, default_heads(model), effects=ck.sweep(model, train))
    return min(head.layer or 0 for head in heads) / model.n_layers


def sides() -> Iterator[CircuitModel]:
    """The bundled teachers and students."""
    for pair in ("gpt2", "bert", "llama"):
        for side in ("teacher", "student"):
            yield ck.load(f"zoo:{pair}-{side}")


def line(name: str, values: Sequence[float]) -> str:
    """Percentiles of some values."""
    low, middle, high = np.percentile(values, [10, 50, 90])
    return f"{name:34} {len(values):5} {low:8.2f} {middle:8.2f} {high:8.2f} {max(values):8.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=20)
    n = parser.parse_args().n
    warnings.filterwarnings("ignore")
    kept, passes, best, lowest, work = [], [], [], [], defaultdict[str, list[Floats]](list)
    for model in sides():
        for name in TASKS:
            task = ck.load_task(name, n)
            best.append(best_heads(model, task))
            if model.name.endswith("student"):
                lowest.append(lowest_layer(model, task))
            pruning = circuit_of(model, task)
            if pruning is not None:
                kept.append(len(pruning) / len(model.components))
                passes.append(1 + pruning.history[-1].pass_number)
                work[f"{model.architecture.hf_class}, {name}"].append(works(model, task, pruning))
    print(f"{'':34} {'cases':>5} {'10 %':>8} {'median':>8} {'90 %':>8} {'most':>8}")
    print(line("share of components kept", kept))
    print(line("passes of pruning", passes))
    print(line("heads that are the best of a role", best))
    print(line("lowest trained layer, students", lowest))
    print_ratios({case: sum(both) for case, both in work.items() if len(both) == 2})


def print_ratios(work: Mapping[str, Floats]) -> None:
    """Expected / counted, smallest first."""
    ratios = {case: found[:3] / found[3] for case, found in work.items()}
    near = sum(0.7 <= ratio[1] <= 1.3 for ratio in ratios.values())
    print(f"\nexpected / counted work of both circuits: {near} of {len(ratios)} within 30 %")
    for case, (low, expected, high) in sorted(ratios.items(), key=lambda item: item[1][1]):
        print(f"{case:46} {expected:5.2f} ({low:.2f}-{high:.2f})")


if __name__ == "__main__":
    main()
