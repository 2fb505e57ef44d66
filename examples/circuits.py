"""The circuits of the bundled models on all bundled tasks, as a Markdown table.

    python examples/circuits.py [gpt2] [bert] [llama]

One row for each teacher and student and each task, printed as it is found: nodes and edges of how many, faithfulness with
the mean of ten random circuits of the same size, completeness, and the share of the summed marginal losses that sits in
the top component. A model that is not shown to do a task has no circuit.
"""

from __future__ import annotations

import sys

import circuitkd as ck
from circuitkd.circuits.connected import NoCircuit
from circuitkd.circuits.discovery import DiscoveryOptions, find_circuit
from circuitkd.circuits.kept import KeptScorer
from circuitkd.reports.circuit_tables import circuit_rows
from circuitkd.reports.tables import Row, markdown
from circuitkd.tasks.registry import DEMO_TASKS

FAMILIES = ("gpt2", "bert", "llama")
COLUMNS = ("model", "task", "nodes", "edges", "faithfulness", "random", "completeness", "top component")
EXAMPLES = 100
OPTIONS = DiscoveryOptions(subsets=0, random_circuits=10)


def main(*families: str) -> None:
    rows = 0
    for name in (f"zoo:{family}-{role}" for family in families or FAMILIES for role in ("teacher", "student")):
        model = ck.load(name)
        for task in DEMO_TASKS:
            lines = markdown([row_of(model, ck.load_task(task, n=EXAMPLES, seed=0))]).splitlines()
            print("\n".join(lines[-1:] if rows else lines), flush=True)
            rows += 1


def row_of(model: ck.CircuitModel, task: ck.Task) -> Row:
    """The circuit's row, or one that says that there is none."""
    try:
        (row,) = circuit_rows([find_circuit(KeptScorer(model, task), OPTIONS)])
    except NoCircuit:
        return dict.fromkeys(COLUMNS, "–") | {"model": model.name, "task": task.name, "nodes": "not shown to do it"}
    return row


if __name__ == "__main__":
    main(*sys.argv[1:])
