"""What `circuitkd plan` predicts beside what runs take: forward-equivalents, CPU seconds, peak memory.

    python benchmarks/planning.py                        # compare, circuits, roles, distill: seven pairs and tasks
    python benchmarks/planning.py --pair gpt2 --task ioi # one of them; any task can be named
    python benchmarks/planning.py --small                # the sweep of a GPT-2-small shape with random weights

Every line is a process of its own, on one thread. It makes the analysis three times (GPT-2 small: once), each time measuring
the machine just before and after, and counts its operations once more (with torch's counter, which needs the plain
attention kernel). Seconds are CPU time of the process, so that other users of the machine disturb less; the run with the
median ratio is shown. A ratio is what was expected / measured; where the plan gives a range, so are its ends, in brackets.

The constants in circuitkd.studies (seconds of host work) were fitted to FITTED; SEEN were looked at while that was done (the
pace of the host was set after it, and others were measured anew); HELD_OUT was looked at when all was done.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence

import torch
from sweep import gpt2_small, random_task
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2LMHeadModel

import circuitkd as ck
from circuitkd.circuits.discovery import DiscoveryOptions, NoCircuit, find_circuit
from circuitkd.circuits.kept import KeptScorer
from circuitkd.distill.conditions import PAPER, ExperimentOptions, Training
from circuitkd.distill.experiment import run_experiment
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.execution import Execution
from circuitkd.interventions.sweep import sweep
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.models.loading import load_shape
from circuitkd.roles.describe import describe_roles
from circuitkd.studies.circuit_cost import circuit_cost
from circuitkd.studies.compare_cost import compare_cost, sweep_cost
from circuitkd.studies.distill_cost import distill_cost
from circuitkd.studies.hardware import this_machine
from circuitkd.studies.role_cost import roles_cost
from circuitkd.studies.workload import Part, Place, Side, bound
from circuitkd.tasks.base import Task

EXPERIMENT = ExperimentOptions(training=Training(steps=20), seeds=(0,), conditions=PAPER, random_circuits=5)
KINDS = ("compare", "circuits", "roles", "distill")
FITTED = [("gpt2", "ioi"), ("llama", "numeral-sequence"), ("bert", "question-answering")]
SEEN = [("gpt2", "greater-than"), ("llama", "question-answering"), ("bert", "word-sequence")]
HELD_OUT = [("llama", "greater-than")]
Numbers = tuple[float, float, float, float]  # least, expected, most, measured
RUNS = 3
PROGRAM = 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # with all libraries, before any model
Work = Callable[[], object]


def measured(kind: str, pair: str, task: str, *, n: int) -> dict[str, object]:
    """One case in this process: predicted and measured."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if kind == "small":
        return _small(n)
    chosen = ck.load_task(task, n)
    how = Ablation(chosen.ablation)
    names = [f"zoo:{pair}-{side}" for side in ("teacher", "student")]
    shapes = [load_shape(name) for name in names]
    sides = [Side(m, bound(chosen, m, aligned=how.needs_alignment), how, Place(on_cpu=True)) for m in shapes]
    parts = {
        "compare": lambda: list(compare_cost(*sides, options=ck.CompareOptions())),
        "circuits": lambda: [p for side in sides for p in circuit_cost(side, DiscoveryOptions())],
        "roles": lambda: list(roles_cost(*sides)),
        "distill": lambda: list(distill_cost(*sides, options=EXPERIMENT)),
    }[kind]()
    models = (ck.load(names[0]), ck.load(names[1]))
    return _compared(f"{kind}, {pair}, {task}", parts, sides, work=_work(kind, models, chosen))


def _small(n: int) -> dict[str, object]:
    """The sweep of a GPT-2-small shape."""
    model = gpt2_small()
    task = random_task(model, n)
    with torch.device("meta"):
        shape = CircuitModel.of(GPT2LMHeadModel(model.hf.config), None, name="GPT-2 small", has_weights=False)
    side = Side(shape, task, Ablation(), Place(on_cpu=True))
    parts = [Part("sweep", side, sweep_cost(side))]
    return _compared(f"sweep, GPT-2 small, {n} prompts", parts, [side], work=lambda: sweep(model, task), runs=1)


def _work(kind: str, models: tuple[CircuitModel, CircuitModel], task: Task) -> Work:
    def circuits() -> None:
        for model in models:
            try:
                find_circuit(KeptScorer(model, task), DiscoveryOptions())
            except NoCircuit as error:
                print(error, file=sys.stderr)

    def distill() -> None:
        with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
            sys.stdout, kept = nowhere, sys.stdout
            try:
                run_experiment(*models, task, options=EXPERIMENT, execution=Execution(folder=folder))
            finally:
                sys.stdout = kept

    if kind == "roles":
        comparison = ck.compare(*models, task, options=ck.CompareOptions(random_null=False))
        return lambda: describe_roles(*models, task, comparison=comparison)
    return {"compare": lambda: ck.compare(*models, task), "circuits": circuits, "distill": distill}[kind]


def _compared(
    label: str, parts: Sequence[Part], sides: Sequence[Side], *, work: Work, runs: int = RUNS
) -> dict[str, object]:
    shapes = [side.model for side in sides]
    with open("/proc/self/clear_refs", "w") as peak_memory:  # Linux: forget the peak of making the models
        peak_memory.write("5")
    work()
    peak = _peak()
    timed = [_timed(parts, shapes, work) for _ in range(runs)]
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    unit = sides[0].sizes.full_forward
    works = ([p.cost.works[i] for p in parts] for i in range(3))
    low, expected, high = (sum(work.flops + work.exact_flops for work in ends) / unit for ends in works)
    memory = PROGRAM + sum(s.weights for s in sides) + max(p.cost.device + p.cost.host for p in parts)
    return {
        "label": label,
        "forwards": (low, expected, high, counter.get_total_flops() / unit),
        "seconds": sorted(timed, key=lambda r: r[1] / r[3])[runs // 2],
        "memory": (memory / 1e9, memory / 1e9, memory / 1e9, peak / 1e9),
    }


def _peak() -> float:
    """Most bytes of this process at a time since its peak was forgotten."""
    with open("/proc/self/status") as status:
        return next(1024.0 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def _timed(parts: Sequence[Part], shapes: Sequence[CircuitModel], work: Work) -> Numbers:
    """Seconds by the machine as it is now, and what a run then takes."""
    before = this_machine(list(shapes), clock=time.process_time)
    start = time.process_time()
    work()
    taken = time.process_time() - start
    after = this_machine(list(shapes), clock=time.process_time)
    low, expected, high = (
        sum((here.seconds(p.cost.works[i], p.side.model)) / 2 for p in parts for here in (before, after))
        for i in range(3)
    )
    return low, expected, high, taken


def line(found: dict[str, Numbers]) -> str:
    """Predicted, measured, ratio of forwards, seconds and memory."""
    cells = [f"{found['label']:34}"]
    for name, digits in (("forwards", 1), ("seconds", 2), ("memory", 2)):
        low, expected, high, real = found[name]
        ends = f" ({low / real:.2f}-{high / real:.2f})" if high - low > 0.01 * high else ""
        cells.append(
            f"{expected:8.{digits}f} {real:8.{digits}f} {expected / real:5.2f}{ends if name != 'memory' else '':12}"
        )
    return "  ".join(cells).rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", choices=[pair for pair, _ in FITTED])
    parser.add_argument("--task")
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--n", type=int, default=20)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--here", action="store_true", help="measure in this process and print JSON")
    given = parser.parse_args()
    if given.here:
        print(json.dumps(measured(given.kind or "small", given.pair or "", given.task or "", n=given.n)))
        return
    cases = FITTED + SEEN + HELD_OUT if given.task is None else [(pair, given.task) for pair, _ in FITTED]
    cases = [(pair, task) for pair, task in cases if given.pair in (None, pair)]
    asked = (
        [("small", "", "")] if given.small else [(k, p, t) for p, t in cases for k in KINDS if given.kind in (None, k)]
    )
    head = "  ".join(f"{name[:8]:>8} {'run':>8} {'ratio':17}" for name in ("forwards", "seconds", "GB")).rstrip()
    print(f"{'':34}  {head}")
    for kind, pair, task in asked:
        told = [] if kind == "small" else ["--kind", kind, "--pair", pair, "--task", task]
        command = [sys.executable, __file__, "--here", "--n", str(4 if kind == "small" else given.n), *told]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        print(line(json.loads(done.stdout.splitlines()[-1])), flush=True)


if __name__ == "__main__":
    main()
