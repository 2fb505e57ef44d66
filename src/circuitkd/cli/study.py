"""`circuitkd study`: run a study file, and write its tables and its page."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

import typer

from circuitkd.cli import options as o

if TYPE_CHECKING:
    from rich.table import Table

    from circuitkd.studies.running import StudyRun
    from circuitkd.studies.tables import Cell
    from circuitkd.studies.tables import Table as StudyTable

FAILED = 1
File = Annotated[Path, typer.Argument(metavar="FILE", help="A study file (YAML).", show_default=False)]
Device = Annotated[
    str | None, o.option("--device", "NAME", "For all pairs, whatever the file says: cpu, cuda, auto.", panel=o.MACHINE)
]
Dtype = Annotated[
    str | None,
    o.option("--dtype", "NAME", "For all pairs, whatever the file says: float32, bfloat16.", panel=o.MACHINE),
]
Output = Annotated[Path | None, o.output_dir("circuitkd-runs/studies/FILE")]
Overwrite = Annotated[bool, o.option("--overwrite", "", "Replace results that an earlier form of the study left.")]


def study(
    file: File,
    device: Device = None,
    dtype: Dtype = None,
    batch_size: o.BatchSize = None,
    output_dir: Output = None,
    overwrite: Overwrite = False,
    json: o.Json = False,
) -> None:
    """Run pairs x tasks x analyses from a YAML file; studies/zoo.yaml is one to start from.

    Interrupted at any moment, it resumes when it is run again. The output folder gets a folder for each job, the tables
    (tables/, as Markdown, CSV and LaTeX), study.json, and report.html. Jobs that fail are named at the end, the others
    are done; the exit code is then 1.
    """
    from circuitkd.cli import compare, runs
    from circuitkd.cli.progress import Bars
    from circuitkd.reports.study_page import write_study
    from circuitkd.studies.running import Machine, run_study
    from circuitkd.studies.study_file import read_study

    asked = read_study(file)
    root = output_dir or runs.ROOT / "studies" / runs.safe_name(file.stem)
    with Bars() as bars:
        machine = Machine(device, dtype, batch_size)
        found = run_study(asked, root, machine=machine, overwrite=overwrite, watch=bars)
        bars.step("report")
        write_study(found, root)
    show(root, found, json=json)
    compare.where(root, json=json)
    if found.failures:
        raise typer.Exit(FAILED)


def show(root: Path, run: StudyRun, *, json: bool) -> None:
    """Print the tables that the terminal is wide enough for, and on stderr which jobs failed."""
    from rich.measure import Measurement

    from circuitkd.cli.terminal import note, print_json, results, warn
    from circuitkd.reports.study_page import TABLES
    from circuitkd.reports.study_view import grouped_failures
    from circuitkd.studies.tables import study_tables

    tables, failures = study_tables(run), grouped_failures(run)
    if json:
        print_json({"tables": tables, "failures": dict(failures)})
    console = results()
    for found in () if json else tables:
        made = terminal_table(found)
        least = Measurement.get(console, console.options.update(max_width=1000), made).minimum
        fits = least <= console.width
        text = f"{found.title}: {root / TABLES / found.name}.md (wider than this terminal)"
        console.print("", made if fits else text, sep="\n", soft_wrap=not fits)
    note(f"{len(run.results)} jobs finished ({run.taken} of them before), {len(run.failures)} failed")
    warn(f"{jobs}: {reason}" for jobs, reason in failures)


def terminal_table(found: StudyTable) -> Table:
    """A table without intervals, pair and task in one column, column heads in several lines."""
    from circuitkd.cli.terminal import table

    heads = ["\n".join(wrap(name, 10, break_long_words=False)) for name in found.columns[2:]]
    rows = [[f"{row[0]}, {row[1]}", *(bare(cell, found.digits) for cell in row[2:])] for row in found.rows]
    return table(found.title, ["pair, task", *heads], rows, caption=found.note, left=2)


def bare(cell: Cell, digits: int) -> str:
    """A cell without its interval (a range stays), a dash for a number that is missing."""
    from circuitkd.reports.study_tables import cell_text

    text = cell_text(cell, digits)
    return text.partition(" [")[0].replace("n/a", "–") if not isinstance(cell, str) else text
