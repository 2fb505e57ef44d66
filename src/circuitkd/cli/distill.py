"""`circuitkd distill`: train the teacher's circuit into the student, beside the baselines of the paper."""

from __future__ import annotations

import json as json_module
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from circuitkd.cli import options as o

if TYPE_CHECKING:
    from circuitkd.cli.runs import Pair
    from circuitkd.distill.conditions import ExperimentOptions
    from circuitkd.distill.experiment_result import ExperimentResult
    from circuitkd.interventions.execution import Execution
    from circuitkd.models.circuit_model import CircuitModel
    from circuitkd.tasks.base import Task

EXAMPLES = 500
CIRCUIT, TRAINING = "Circuit", "Training"
MAPPINGS = "impact, one-to-one, similarity"
PERFORMANCES = "logit-difference, accuracy, log-probability"
TASK_LOSSES = "teacher-labels, ground-truth, kl"
ACCURACIES = ("condition", "full", "circuit", "random", "faithfulness")
CLOSENESS = ("condition", "CE", "CKA", "alignment", "mean drop", "heads", "parameters")

Count = Annotated[
    int | None, o.option("--n", "N", f"Examples: {EXAMPLES} of a built-in task, all of a file.", panel=o.TASK)
]
Heads = Annotated[
    str | None,
    o.option("--heads", "HEADS", "How many (15 % unless told), or which: L0H1,L1H3.", panel=CIRCUIT),
]
CircuitFile = Annotated[
    Path | None, o.option("--circuit", "PATH", "Take the heads of this circuit of the student.", panel=CIRCUIT)
]
Mapping = Annotated[str, o.option("--mapping", "METHOD", f"To teacher heads: {MAPPINGS}.", panel=CIRCUIT, default=True)]
Measure = Annotated[
    str, o.option("--performance", "MEASURE", f"For the mapping: {PERFORMANCES}.", panel=CIRCUIT, default=True)
]
Steps = Annotated[int, o.option("--steps", "N", "Optimiser steps.", panel=TRAINING, default=True)]
Seeds = Annotated[int, o.option("--seeds", "N", "Runs of each condition.", panel=TRAINING, default=True)]
Rate = Annotated[float, o.option("--learning-rate", "LR", "Of AdamW, falling to 0.", panel=TRAINING, default=True)]
Rows = Annotated[int, o.option("--batch-size", "N", "Rows of a training batch.", panel=TRAINING, default=True)]
Weight = Annotated[float, o.option("--weight", "LAMBDA", "Of the alignment term.", panel=TRAINING, default=True)]
TaskLoss = Annotated[str, o.option("--task-loss", "LOSS", f"{TASK_LOSSES}.", panel=TRAINING, default=True)]
Temperature = Annotated[float, o.option("--temperature", "T", "Of the task loss kl.", panel=TRAINING, default=True)]
Debiased = Annotated[bool, o.option("--debiased", "", "Train on debiased CKA.", panel=TRAINING)]
Points = Annotated[
    str, o.option("--points", "ROWS", "Of CKA: answer, tokens (all of a prompt).", panel=TRAINING, default=True)
]
Search = Annotated[
    bool, o.option("--search", "", "Choose weight and rows of CKA on the validation split.", panel=TRAINING)
]
PaperOnly = Annotated[bool, o.option("--paper-only", "", "Only the conditions of the paper.", panel=TRAINING)]
Output = Annotated[Path | None, o.output_dir("circuitkd-runs/TEACHER--STUDENT--distill/TASK")]


def distill(
    teacher: o.Teacher,
    student: o.Student,
    task: o.Task,
    n: Count = None,
    seed: o.Seed = 0,
    heads: Heads = None,
    circuit: CircuitFile = None,
    mapping: Mapping = "impact",
    performance: Measure = "accuracy",
    steps: Steps = 200,
    seeds: Seeds = 5,
    learning_rate: Rate = 2e-5,
    batch_size: Rows = 16,
    weight: Weight = 1.0,
    task_loss: TaskLoss = "teacher-labels",
    temperature: Temperature = 2.0,
    debiased: Debiased = False,
    points: Points = "answer",
    search: Search = False,
    paper_only: PaperOnly = False,
    device: o.Device = None,
    dtype: o.Dtype = None,
    output_dir: Output = None,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
) -> None:
    """Train the student's circuit towards the teacher's and compare with plain distillation.

    Every condition starts from the same student and sees the same rows; all numbers are of examples that nothing was
    trained or chosen on. The run folder gets the table (table.md, table.csv), the training losses (losses.csv), the
    trained students of the first seed (students/), the comparisons before and after training (before/, after/), and a
    page of it all (report.html). Interrupted, it resumes when it is run again.
    """
    from circuitkd.cli import compare, distill_students, runs
    from circuitkd.cli.progress import Bars
    from circuitkd.comparison.checks import at_least
    from circuitkd.distill.conditions import BEYOND, PAPER, ExperimentOptions, Grid, Losses, Training
    from circuitkd.interventions.execution import Execution
    from circuitkd.reports import experiment_page
    from circuitkd.tasks.registry import TASKS, load_task

    at_least(seeds, 1, name="--seeds")
    options = ExperimentOptions(
        mapping=mapping,  # type: ignore[arg-type]
        performance=performance,
        training=Training(steps, learning_rate, batch_size),
        losses=Losses(task_loss, temperature, weight=weight, debiased=debiased, points=points),  # type: ignore[arg-type]
        seeds=tuple(range(seeds)),
        conditions=PAPER if paper_only else PAPER + BEYOND,
        search=Grid() if search else None,
    )
    loaded = load_task(task, EXAMPLES if n is None and task in TASKS else n, seed=seed)
    names = "--".join((*map(runs.model_folder, (teacher, student)), "distill"))
    root = output_dir or runs.ROOT / names / runs.safe_name(loaded.name)
    with runs.claimed(root), Bars() as bars:
        first, second = compare.load_all([teacher, student], device=device, dtype=dtype, bars=bars)
        options = replace(options, heads=which_heads(heads, circuit, second))
        bars.step("distillation")
        execution = Execution(progress=bars.report, folder=root / "partial")
        pair = (first, second)
        result = distilled(root, pair, loaded, options=options, execution=execution, overwrite=overwrite)
        bars.step("before and after")
        request = distill_students.state_request(loaded, options, seed=seed)
        states = distill_students.compare_states(
            root, pair, request, result=result, execution=Execution(progress=bars.report), overwrite=overwrite
        )
        bars.step("report")
        experiment_page.write(result, root / "report.html", before=states[0], after=states[1])
    show(root, result, json=json)
    compare.where(root, json=json)


def which_heads(heads: str | None, circuit: Path | None, student: CircuitModel) -> int | tuple[str, ...] | None:
    """A number of heads, or their names. Raises ValueError where both flags are given, and for a foreign circuit."""
    from circuitkd.circuits.circuit import Circuit

    if heads is not None and circuit is not None:
        raise ValueError("--heads and --circuit both choose the heads: leave out one of them")
    if circuit is not None:
        return tuple(str(h) for h in Circuit.load(circuit, student).heads)
    if heads is None:
        return None
    return int(heads) if heads.strip().isdigit() else tuple(h for h in heads.split(",") if h.strip())


def distilled(
    root: Path, pair: Pair, task: Task, *, options: ExperimentOptions, execution: Execution, overwrite: bool
) -> ExperimentResult:
    """The experiment's result: from the folder if it is of this request, else made and kept there."""
    from transformers.utils import logging as hf_logging

    from circuitkd.cli import distill_students, runs
    from circuitkd.distill.experiment import run_experiment
    from circuitkd.distill.experiment_result import ExperimentResult
    from circuitkd.interventions.execution import fingerprint
    from circuitkd.studies.run_folders import identity_of

    identity = identity_of((fingerprint(pair[0]), fingerprint(pair[1])), task, options=repr(options))
    found = runs.finished(root, ExperimentResult, identity, overwrite=overwrite)
    if found is None:
        hf_logging.disable_progress_bar()
        distill_students.forget_states(root)
        keep = distill_students.keeper(root, identity, seed=options.seeds[0])
        found = run_experiment(*pair, task, options=options, execution=execution, keep=keep)
        request = {runs.REQUEST: json_module.dumps(identity, ensure_ascii=False)}
        found = replace(found, manifest=found.manifest | request)
        found.save(root)
    runs.clear(root / "partial")  # also what a run left that was killed between its result and here
    return found


def show(root: Path, result: ExperimentResult, *, json: bool) -> None:
    """Write the tables beside the result, and print it."""
    from circuitkd.artifacts import write_atomically
    from circuitkd.cli.terminal import print_json, results, table, warn
    from circuitkd.reports.tables import markdown

    rows = result.rows()
    texts = {
        "table.md": markdown(rows),
        "table.csv": result.to_pandas().to_csv(index=False),
        "losses.csv": result.curves().to_csv(index=False),
    }
    if result.search is not None:
        texts["search.md"] = markdown(result.search.rows())
    for name, text in texts.items():
        write_atomically(root / name, text.encode())
    if json:
        print_json(result)
        return
    p_values = [name for name in rows[0] if name.startswith("p, ")]
    mapped = ", ".join(f"{s} ← {t}" for s, t in result.head_map.pairs)
    teacher = 100 * float(result.teacher_accuracy.mean())
    accuracies = table(
        f"{result.task}: accuracy in % on {len(result.examples)} test examples, mean ± standard deviation over seeds",
        (*ACCURACIES, *(name.replace(", ", "\n") for name in p_values)),
        [tuple(row[name] for name in (*ACCURACIES, *p_values)) for row in rows],
        caption=f"Circuit: all other heads mean-ablated. p: McNemar, median over seeds. The teacher: {teacher:.1f}.",
    )
    closeness = table(
        "How close to the teacher, how fragile, and what was trained",
        CLOSENESS,
        [tuple(row[name] for name in CLOSENESS) for row in rows],
        caption=f"Circuit (student ← teacher, {result.head_map.distinct} different): {mapped}",
    )
    results().print("", accuracies, "", closeness, sep="\n")
    if result.search is not None:
        found = result.search.rows()
        chosen = table("Search on the validation split", tuple(found[0]), [tuple(row.values()) for row in found])
        results().print("", chosen, sep="\n")
    warn(result.warnings)
