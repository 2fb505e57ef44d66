"""`circuitkd plan`: what a study will take on some hardware, before any weights are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuitkd.cli import options as o

if TYPE_CHECKING:
    from rich.table import Table

    from circuitkd.studies.planning import Plan, Range, Step
    from circuitkd.studies.study_file import Study

HARDWARE = "h200, h100, a100-80gb, l4, rtx-4090, this-machine"
UNITS = (("days", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0))
NOTES = 4  # printed if there are no more; JSON has all of them
COLUMNS = ("forwards", "PFLOP", "time", "GB", "host GB")
CAPTION = "Forwards: in full forwards of the task by that model. GB: at the peak, both models' weights included."
What = Annotated[
    list[str],
    typer.Argument(
        metavar="TEACHER STUDENT | STUDY.yaml",
        help="Two models (hub ids, folders with a config.json, or zoo:NAME), or a study file.",
        show_default=False,
    ),
]
Task = Annotated[
    str | None, o.option("--task", "NAME", "For two models: a built-in task or a .jsonl file.", panel=o.TASK)
]
Device = Annotated[str, o.option("--hardware", "NAME", f"{HARDWARE}.", panel=o.MACHINE, default=True)]


def plan(
    what: What,
    task: Task = None,
    n: o.Count = None,
    seed: o.Seed = 0,
    hardware: Device = "this-machine",
    dtype: o.Dtype = None,
    batch_size: o.BatchSize = None,
    json: o.Json = False,
) -> None:
    """Print the work, time and memory of every analysis of a pair, or of all jobs of a study file, with what is assumed.

    Only configs are read, and tokenizers where there are some; no weights.
    """
    from circuitkd.cli.progress import Bars
    from circuitkd.cli.terminal import print_json
    from circuitkd.comparison.checks import at_least
    from circuitkd.studies.hardware import DEVICES, known, this_machine
    from circuitkd.studies.planning import Shapes, plan_study

    if batch_size is not None:
        at_least(batch_size, 1, name="--batch-size")
    name, study, shapes = known(hardware), study_of(what, task, n=n, seed=seed), Shapes(dtype)
    with Bars() as bars:
        bars.step("configs")
        models = [model for pair in study.pairs for model in shapes.of(pair)]
        if name not in DEVICES:
            bars.step("measuring this machine")
        device = DEVICES[name] if name in DEVICES else this_machine(models)
        bars.step("counting")
        found = plan_study(study, device, shapes=shapes, batch_size=batch_size)
    if json:
        print_json(found)
    else:
        show(found)


def study_of(what: Sequence[str], task: str | None, *, n: int | None, seed: int) -> Study:
    """The study in a file, or of two models. Raises ValueError for anything else, and as `read_study`."""
    from circuitkd.studies.planning import pair_study
    from circuitkd.studies.study_file import read_study

    if len(what) == 1 and Path(what[0]).suffix in (".yaml", ".yml"):
        if task is not None or n is not None:
            raise ValueError("a study file says its own tasks: leave out --task and --n")
        return read_study(what[0])
    if len(what) != 2:
        raise ValueError("plan takes two models, TEACHER STUDENT, or one study file that ends in .yaml")
    if task is None:
        raise ValueError("--task is missing: name a built-in task (see `circuitkd tasks`) or a .jsonl file")
    return pair_study(what[0], what[1], task=task, n=n, seed=seed)


def show(found: Plan) -> None:
    """Print a table for each analysis, the totals, and the assumptions."""
    from circuitkd.cli.terminal import note, results, warn

    results().print(f"{found.title}, on {found.hardware}", soft_wrap=True)
    for kind in dict.fromkeys(step.analysis for step in found.steps):
        results().print("", _table(kind, [s for s in found.steps if s.analysis == kind]), sep="\n")
    results().print(CAPTION)
    results().print("", _totals(found), "", "Assumptions", sep="\n")
    for sentence in found.assumptions:
        results().print(f"- {sentence}", soft_wrap=not results().is_terminal)
    if len(found.notes) <= NOTES:
        for sentence in found.notes:
            note(sentence)
    warn(found.warnings)


def _table(kind: str, steps: Sequence[Step]) -> Table:
    """The steps of an analysis: one by one where it has one job, else a line for each job."""
    from circuitkd.cli.terminal import table

    job_of = {(s.pair, s.task): None for s in steps}
    if len(job_of) == 1:
        rows = [(s.step, Path(s.model).name, _numbers(s.forward_equivalents), *_costs([s])) for s in steps]
        return table(kind, ("step", "model", *COLUMNS), rows, left=2)
    rows = []
    for pair, task in job_of:
        rows.append((pair, task, *_costs([s for s in steps if (s.pair, s.task) == (pair, task)])))
    return table(kind, ("pair", "task", *COLUMNS[1:]), rows, left=2)


def _totals(found: Plan) -> Table:
    from circuitkd.cli.terminal import table

    kinds = dict.fromkeys(step.analysis for step in found.steps)
    rows = []
    for kind in kinds:
        steps = [s for s in found.steps if s.analysis == kind]
        rows.append((kind, *_costs(steps), str(max(s.devices for s in steps))))
    rows.append(("all", *_costs(found.steps), str(max((s.devices for s in found.steps), default=0))))
    return table("Totals", ("analysis", *COLUMNS[1:], "devices"), rows)


def _costs(steps: Sequence[Step]) -> Iterator[str]:
    """PFLOP and time in all, memory and host memory at the peak."""
    from circuitkd.studies.planning import total

    yield _numbers(total([s.flops for s in steps]), 1e15)
    yield duration(total([s.seconds for s in steps]))
    yield _number(max((s.memory for s in steps), default=0.0) / 1e9)
    yield _number(max((s.host_memory for s in steps), default=0.0) / 1e9)


def duration(seconds: Range) -> str:
    """A range of seconds in the unit that suits what is expected: "0.4 s", "2.8 (2.1–3.5) h"."""
    name, size = next((u for u in UNITS if seconds[1] >= 1.5 * u[1]), UNITS[-1])
    return f"{_numbers(seconds, size)} {name}"


def _numbers(ends: Range, unit: float = 1.0) -> str:
    """What is expected and the range, or one number where its ends look alike."""
    low, expected, high = (_number(end / unit) for end in ends)
    return expected if low == high else f"{expected} ({low}–{high})"


def _number(value: float) -> str:
    """About two digits."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 0.1 or not value else f"{value:.1g}"
