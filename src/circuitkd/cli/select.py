"""`circuitkd select`: which of several students to take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuitkd.cli import options as o

if TYPE_CHECKING:
    from circuitkd.cli.pair_runs import Run
    from circuitkd.cli.runs import Request
    from circuitkd.comparison.result import Comparison
    from circuitkd.models.circuit_model import CircuitModel
    from circuitkd.selection import Selection

OWN_FOLDERS = ("partial", "selection")
Students = Annotated[
    list[str], typer.Argument(metavar="STUDENT...", help=f"The candidates: each {o.MODEL}.", show_default=False)
]
By = Annotated[
    str,
    o.option("--by", "WHICH", "Counts first: performance, alignment, robustness.", panel=o.DEFINITIONS, default=True),
]
Output = Annotated[Path | None, o.output_dir("circuitkd-runs/TEACHER--select/TASK")]


def select(
    teacher: o.Teacher,
    students: Students,
    task: o.Task,
    n: o.Count = None,
    seed: o.Seed = 0,
    by: By = "performance",
    ablation: o.AblationKind = None,
    ablation_source: o.AblationSource = "corrupted",
    group_by: o.GroupBy = "length",
    device: o.Device = None,
    dtype: o.Dtype = None,
    batch_size: o.BatchSize = None,
    output_dir: Output = None,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
) -> None:
    """Rank students of one teacher by task performance, alignment and robustness.

    The order: the best performance (mean logit difference) leads; students within the leader's 95 % interval are tied
    with it and ordered by alignment; those within that leader's interval by robustness (mean drop under ablation). The
    rank by each criterion alone is shown too. All models are held in memory at once, and all are measured on the
    examples that all of them can take.
    """
    from circuitkd.cli import compare, runs, tables
    from circuitkd.cli.pair_runs import Run
    from circuitkd.cli.progress import Bars
    from circuitkd.cli.terminal import print_json, results, warn
    from circuitkd.comparison.checks import one_of
    from circuitkd.interventions.execution import Execution
    from circuitkd.selection import CRITERIA, rank_students
    from circuitkd.tasks.registry import load_task

    one_of(by, CRITERIA, name="criterion")
    whole = load_task(task, n, seed=seed)
    ablated = o.ablation_of(ablation, ablation_source, group_by, default=whole.ablation)
    folders = student_folders(students)
    root = output_dir or runs.ROOT / f"{runs.model_folder(teacher)}--select" / runs.safe_name(whole.name)
    with runs.claimed(root), Bars() as bars:
        run = Run(Execution(batch_size, bars.report), bars, overwrite)
        models = compare.load_all([teacher, *dict.fromkeys(students)], device=device, dtype=dtype, bars=bars)
        request = runs.Request(whole, ablated, o.plain_options(random_null=True), seed)
        found = compare_each(models, [root / name for name in folders], request, run=run)
        bars.step("report")
        selection = rank_students(found, by=by)
        save(root, selection, [(root / name, c) for name, c in zip(folders, found, strict=True)])
    if json:
        print_json(selection)
    else:
        results().print("", tables.selection_table(selection), sep="\n")
        warn(selection.warnings + left_out(len(whole), selection.examples))
    compare.where(root, json=json)


def compare_each(models: list[CircuitModel], folders: list[Path], request: Request, *, run: Run) -> list[Comparison]:
    """The first model against each of the others, on the examples that all can take; the teacher is swept once."""
    from circuitkd.cli import runs
    from circuitkd.selection import shared_examples

    shared = shared_examples(request.task, models, aligned=request.ablation.needs_alignment)
    partial = folders[0].parent / "partial"
    found = []
    for i, (folder, student) in enumerate(zip(folders, models[1:], strict=True)):
        run.bars.step(student.name, number=i, total=len(folders))
        found.append(
            runs.compare_into(
                folder,
                (models[0], student),
                replace(request, task=shared),
                execution=run.execution,
                overwrite=run.overwrite,
                partial=partial,
            )
        )
    runs.clear(partial)
    return found


def save(root: Path, selection: Selection, found: list[tuple[Path, Comparison]]) -> None:
    """Keep the ranking in `selection/`, and write report and index."""
    from circuitkd.artifacts import save_run
    from circuitkd.cli import compare
    from circuitkd.provenance import software

    compare.finish(root, found)
    save_run(root / "selection", selection, manifest=software())


def student_folders(students: list[str]) -> list[str]:
    """A folder name for each different student. Raises ValueError where two would share one, also where capitals do not
    count, and for the names of other folders in a run."""
    from circuitkd.cli.runs import model_folder

    names, owners = [], dict.fromkeys(OWN_FOLDERS, "the run itself")
    for student in dict.fromkeys(students):
        name = model_folder(student)
        owner = owners.setdefault(name.casefold(), student)
        if owner != student:
            raise ValueError(f"{owner} and {student} would share the folder name {name!r}: rename one of them")
        names.append(name)
    return names


def left_out(whole: int, shared: int) -> tuple[str, ...]:
    """A remark where some examples do not fit all models."""
    return (f"{whole - shared} of {whole} examples do not fit all models and were left out",) if shared < whole else ()
