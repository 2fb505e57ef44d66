"""`circuitkd roles`: what each head of a pair does on a task, and what became of every teacher component."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from circuitkd.cli import options as o

if TYPE_CHECKING:
    from rich.table import Table

    from circuitkd.roles.result import RolesResult
    from circuitkd.roles.role_scoring import RoleScores

FATES = ("teacher", "fate", "student", "similarity", "influence", "drop %")
HEADS = 3
Output = Annotated[Path | None, o.output_dir("circuitkd-runs/TEACHER--STUDENT--roles/TASK")]


def roles(
    teacher: o.Teacher,
    student: o.Student,
    task: o.Task,
    n: o.Count = None,
    seed: o.Seed = 0,
    device: o.Device = None,
    dtype: o.Dtype = None,
    batch_size: o.BatchSize = None,
    output_dir: Output = None,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
) -> None:
    """Say which heads do what in teacher and student, what became of each teacher component, and how fragile each role is.

    The run folder holds the result, the comparison it rests on (comparison/), its tables (fates.csv, roles.csv,
    brittleness.csv, robustness.csv), and report.html with all of it. What the task or the models do not allow is left
    out and named.
    """
    from circuitkd.cli import compare, runs
    from circuitkd.cli.pair_runs import Run
    from circuitkd.cli.progress import Bars
    from circuitkd.interventions.execution import Execution

    plain = o.plain_options(random_null=False)
    (request,) = compare.requests_of([task], n, seed=seed, ablation=(None, "corrupted", "length"), options=plain)
    names = "--".join((*map(runs.model_folder, (teacher, student)), "roles"))
    root = output_dir or runs.ROOT / names / runs.safe_name(request.task.name)
    with runs.claimed(root), Bars() as bars:
        first, second = compare.load_all([teacher, student], device=device, dtype=dtype, bars=bars)
        run, pair = Run(Execution(batch_size, bars.report), bars, overwrite), (first, second)
        compare.check_all(pair, [request])
        (comparison,) = run.compare(pair, [(root / "comparison", request)])
        result = run.roles_into(root, pair, request, comparison=comparison)
        bars.step("report")
        write(root, result)
        runs.write_page([(root / "comparison", comparison)], root / "report.html")
    show(root, result, json=json)


def write(root: Path, result: RolesResult) -> None:
    """The result's tables as CSV files. Raises OSError when they cannot be written."""
    import pandas as pd

    from circuitkd.artifacts import write_atomically

    sides = {"teacher": result.teacher, "student": result.student}
    frames = {
        "fates.csv": result.fates.to_pandas(),
        "roles.csv": pd.concat([side.scores.to_pandas().assign(side=name) for name, side in sides.items()]),
        "brittleness.csv": result.brittleness.to_pandas(),
        "robustness.csv": result.brittleness.curve(),
    }
    for name, frame in frames.items():
        write_atomically(root / name, frame.to_csv(index=False).encode())


def show(root: Path, result: RolesResult, *, json: bool) -> None:
    """Print the result: as JSON, or the summary and its tables."""
    from circuitkd.cli.compare import where
    from circuitkd.cli.terminal import note, print_json, results, warn
    from circuitkd.reports.role_tables import left_out_rows

    if json:
        print_json(result)
        where(root, json=True)
        return
    results().print("", result.fates.summary, sep="\n")
    for made in tables(result):
        results().print("", made, sep="\n")
    where(root, json=False)
    warn(result.warnings)
    for what, why in left_out_rows(result):
        note(f"left out: {what}: {why}")


def tables(result: RolesResult) -> Iterator[Table]:
    """The heads of each role, the fate of each component, and how much hangs on the best head of each role."""
    from circuitkd.cli.terminal import table

    names = tuple(dict.fromkeys((*result.teacher.scores.roles, *result.student.scores.roles)))
    found = [(name, heads_of(result.teacher.scores, name), heads_of(result.student.scores, name)) for name in names]
    caption = (
        f"The {HEADS} with the highest scores, each with this role's share of what it does; roles.csv has them all."
    )
    yield table("Heads by role", ("role", "teacher", "student"), found, left=3, caption=caption)
    yield table(
        f"What became of {result.fates.teacher}'s components",
        FATES,
        [
            (
                str(f.teacher.component),
                f.fate,
                str(f.student.component),
                f"{f.similarity:.2f}",
                f"{f.teacher.influence:.2f} / {f.student.influence:.2f}",
                f"{f.teacher.drop_percent:.1f} / {f.student.drop_percent:.1f}",
            )
            for f in result.fates.fates
        ],
        left=3,
        caption="Two values: teacher / its most similar student component. fates.csv has roles and the rule that decided.",
    )
    sides = zip(result.brittleness.teacher.reliances, result.brittleness.student.reliances, strict=True)
    yield table(
        "What hangs on the best head of each role",
        ("role", "heads", "drop %", "circuit drop", "backups"),
        [
            (
                t.role,
                f"{t.head or '–'} / {s.head or '–'}",
                f"{_number(t.drop)} / {_number(s.drop)}",
                f"{_number(t.circuit_drop)} / {_number(s.circuit_drop)}",
                f"{len(t.backups)} / {len(s.backups)}",
            )
            for t, s in sides
        ],
        caption="Two values: teacher / student. Drop: of the logit difference when the head is ablated;\n"
        "circuit drop: in points, from the circuit alone.\n"
        "Backups: heads whose effect grows when the best one is gone (DC Table 1).",
    )


def heads_of(scores: RoleScores, role: str) -> str:
    """The heads found in a role, the best first, each with the role's share of what it does."""
    if role not in scores.roles:
        return "left out"
    column = scores.roles.index(role)
    rows = [i for i in range(len(scores.heads)) if scores.found[i, column]]
    rows.sort(key=lambda i: -scores.score[i, column])
    shown = ", ".join(f"{scores.heads[i]} {scores.share[i, column]:.0%}" for i in rows[:HEADS])
    return f"{shown} + {len(rows) - HEADS}" if len(rows) > HEADS else shown or "–"


def _number(value: float) -> str:
    return "–" if value != value else f"{value:.1f}"
