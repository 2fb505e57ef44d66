"""Cost of exact path patching and of its estimates.

    python benchmarks/edges.py                  # a GPT-2-small-shaped random model: all edges into some receivers, projected to all
    python benchmarks/edges.py --zoo            # the bundled GPT-2 teacher: all edges on a task, and EAP, EAP-IG against them
    python benchmarks/edges.py --zoo --random   # the same shape with random weights
    python benchmarks/edges.py --screen         # recall and cost of a screened sweep against a full one, on the same model as --zoo

Wall time and CPU time of the process are printed: on a busy machine the second is the one to compare. The projection
takes the clean run and the reference prompts, which happen once, from the edges into the logits (they need nothing
else), and is an upper bound: in one run the inputs of all receivers of a block are made once for each sender.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from sweep import gpt2_small, random_task

import circuitkd as ck
from circuitkd.circuits.attribution import METHODS, edge_attribution
from circuitkd.circuits.edge_effects import EdgeEffects
from circuitkd.circuits.edges import edge_effects
from circuitkd.circuits.graph import all_edges, edges_into, receivers
from circuitkd.circuits.screening import screened_sweep
from circuitkd.circuits.validity import validity
from circuitkd.interventions.sweep import sweep
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.tasks.binding import BoundTask
from circuitkd.zoo.catalog import build, recipe
from circuitkd.zoo.vocabulary import tokenizer

T = TypeVar("T")
LAYERS = (1, 10)
KINDS = ("L{}H0<q>", "L{}H0<k>", "L{}H0<v>", "MLP{}")
MEASURED = ("logits", *(kind.format(layer) for kind in KINDS for layer in LAYERS))


def timed(work: Callable[[], T]) -> tuple[T, float, float]:
    """What `work` returns, wall seconds and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - wall, time.process_time() - cpu


def small(n: int) -> None:
    """All edges into a few receivers of a GPT-2-small shape, and what all edges would cost."""
    model = gpt2_small()
    task = random_task(model, n)
    print(f"{model.name}: {len(all_edges(model))} edges, {n} prompts, {torch.get_num_threads()} threads")
    by_name, costs = {str(receiver): receiver for receiver in receivers(model)}, {}
    edge_effects(model, task, edges=edges_into(model, [by_name["logits"]]))  # the first run pays for loading
    for name in MEASURED:
        edges = edges_into(model, [by_name[name]])
        found, wall, cpu = timed(lambda edges=edges: edge_effects(model, task, edges=edges))
        costs[name] = np.array([cpu, found.forward_equivalents])
        print(
            f"  into {name:9} {len(edges):4} edges: {wall:7.2f} s wall, {cpu:7.2f} s CPU, "
            f"{found.forward_equivalents:7.2f} forward-equivalents"
        )
    seconds, forwards = projected(model, costs)
    print(
        f"  all edges, projected: {seconds:,.0f} s CPU ({seconds / n:,.0f} s for each prompt), {forwards:,.0f} "
        f"forward-equivalents ({forwards / len(all_edges(model)):.2f} for each edge)"
    )
    found, wall, cpu = timed(lambda: edge_attribution(model, task, method="eap-ig"))
    print(
        f"  EAP-IG, 5 steps, all edges: {wall:.2f} s wall, {cpu:.2f} s CPU, {found.forward_equivalents:.1f} forward-equivalents"
    )


def projected(model: CircuitModel, costs: dict[str, np.ndarray]) -> np.ndarray:
    """Cost of all edges: beyond what happens once, that of an edge is linear in the layer of its receiver."""
    by_name = {str(receiver): receiver for receiver in receivers(model)}
    total = costs["logits"].copy()
    for kind in KINDS:
        first, last = (
            (costs[name] - costs["logits"]) / len(edges_into(model, [by_name[name]]))
            for name in (kind.format(layer) for layer in LAYERS)
        )
        for layer in range(model.n_layers):
            alike = 1 if kind.startswith("MLP") else model.n_heads
            edges = alike * len(edges_into(model, [by_name[kind.format(layer)]]))
            share = (layer - LAYERS[0]) / (LAYERS[1] - LAYERS[0])
            total += edges * np.maximum(0.0, first + share * (last - first))
    return total


def teacher(random: bool) -> CircuitModel:
    """The bundled GPT-2 teacher, or its shape with random weights."""
    if not random:
        return ck.load("zoo:gpt2-teacher")
    return CircuitModel.of(build(recipe("gpt2-teacher")).eval(), tokenizer(), name="zoo GPT-2 teacher's shape, random")


def zoo(model: CircuitModel, task: BoundTask) -> None:
    """All edges of a 4-layer model, and how well attribution finds them."""
    exact, wall, cpu = timed(lambda: edge_effects(model, task))
    threads = torch.get_num_threads()
    print(f"{model.name}, {task.name}: {len(exact.edges)} edges, {len(task)} prompts, {threads} threads")
    print(
        f"  exact            {wall:7.2f} s wall {cpu:7.2f} s CPU {exact.forward_equivalents:8.1f} forward-equivalents"
    )
    for method in METHODS:
        found, wall, cpu = timed(lambda method=method: edge_attribution(model, task, method=method))
        print(
            f"  {method:16} {wall:7.2f} s wall {cpu:7.2f} s CPU {found.forward_equivalents:8.1f} forward-equivalents"
            f"\n{'':19}{summary(found, exact)}"
        )


def summary(found: EdgeEffects, exact: EdgeEffects) -> str:
    """One line of agreement."""
    v = validity(found, exact)
    return f"Spearman {v.spearman:.3f}, recall of the top {v.top} {v.recall:.2f}, worst error {v.worst_relative:.2f} of the largest"


def screen(model: CircuitModel, task: BoundTask) -> None:
    """Recall and cost of a screened sweep for several K."""
    full, wall, cpu = timed(lambda: sweep(model, task))
    print(f"{model.name}, {task.name}: {len(model.components)} components, {len(task)} prompts")
    print(f"  full sweep       {wall:7.2f} s wall {cpu:7.2f} s CPU {full.forward_equivalents:8.1f} forward-equivalents")
    for method in METHODS[:2]:
        for share in (0.1, 0.25, 0.5):
            top = max(1, round(share * len(model.components)))
            found, wall, cpu = timed(lambda top=top, method=method: screened_sweep(model, task, top=top, method=method))
            error = np.abs(found.sweep.influence() - full.influence()).max()
            print(
                f"  {method:6} exact on {top:3} {wall:5.2f} s wall {cpu:7.2f} s CPU {found.sweep.forward_equivalents:8.1f} "
                f"forward-equivalents; recall {found.recall(full):.2f}, largest error of an influence {error:.2f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", action="store_true")
    parser.add_argument("--screen", action="store_true")
    parser.add_argument("--random", action="store_true", help="random weights in the shape of the bundled teacher")
    parser.add_argument("--task", default="entity-tracking")
    parser.add_argument("--prompts", type=int, default=None)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.zoo or arguments.screen:
        model = teacher(arguments.random)
        task = ck.load_task(arguments.task, arguments.prompts or 100).bind(model)
        (screen if arguments.screen else zoo)(model, task)
    else:
        small(arguments.prompts or 8)


if __name__ == "__main__":
    main()
