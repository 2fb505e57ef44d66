"""What a study leaves beside its results: every table in three formats, a page for each distillation, one page of all."""

from __future__ import annotations

from pathlib import Path

from circuitkd.artifacts import cannot_write, write_together
from circuitkd.reports import experiment_page, page
from circuitkd.reports.study_tables import to_csv, to_latex, to_markdown
from circuitkd.reports.study_view import study_view
from circuitkd.studies.running import StudyRun
from circuitkd.studies.tables import study_tables

TABLES = "tables"
FORMATS = {"md": to_markdown, "csv": to_csv, "tex": to_latex}


def write_study(run: StudyRun, folder: str | Path) -> Path:
    """Write tables/NAME.md, .csv and .tex, the pages of the distillations, and report.html; returns the last.

    Raises ValueError where they cannot be written.
    """
    root, tables = Path(folder), study_tables(run)
    files = {root / TABLES / f"{t.name}.{ending}": made(t).encode() for t in tables for ending, made in FORMATS.items()}
    with cannot_write(str(root / TABLES), way_out="free some space"):
        (root / TABLES).mkdir(parents=True, exist_ok=True)
        write_together(files)
    links = []
    for job, found in run.of_kind("distill"):
        experiment_page.write(found.experiment, root / job.folder / "report.html")
        links.append((f"{job.pair.name}, {job.task.key}", f"{job.folder}/report.html"))
    return page.write(
        [c for _, c in run.of_kind("compare")],
        root / "report.html",
        title=run.study.title,
        circuits=[c.found for _, c in run.of_kind("circuits")],
        roles=[r for _, r in run.of_kind("roles")],
        study=study_view(run, tables, links=links),
    )
