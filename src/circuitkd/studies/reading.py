"""A study's folder read back as it lies there: no models, no task files, nothing is computed.

Results are read from the jobs' folders. `study.json` has the study itself and why jobs failed; jobs that its last run did
not come to have the result of an earlier run, if there is one and it was asked for in the same way.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from circuitkd.artifacts import MISREAD, load_run, read_json
from circuitkd.studies.job_kinds import RUNNERS, Result
from circuitkd.studies.run_folders import differences
from circuitkd.studies.running import FORMAT, INDEX, Failure, StudyRun
from circuitkd.studies.study_file import Job, Study, jobs

WAITING = "not finished yet: run the study again, it goes on"
EDITED = "its folder holds what an earlier form of the study asked for: run the study again with --overwrite"


def is_study(folder: Path) -> bool:
    """Whether a study was run in this folder."""
    return (folder / INDEX).exists()


def read_run(folder: str | Path) -> StudyRun:
    """What there is of the study in `folder`; jobs without a result are among the failures, with the reason.

    Raises ValueError where `study.json` or the result of a finished job is damaged.
    """
    root, results, failures = Path(folder), dict[str, Result](), list[Failure]()
    study, work, told = _read_index(root / INDEX)
    for job in work:
        reason = told.get(job.folder) or _missing(root / job.folder, job, is_known=job.folder in told)
        if reason:
            failures.append(Failure(job, reason))
        else:
            results[job.folder] = load_run(root / job.folder, RUNNERS[job.analysis.kind][0])
    return StudyRun(study, results, tuple(failures), len(results))


def _read_index(path: Path) -> tuple[Study, tuple[Job, ...], dict[str, str]]:
    """The study, its jobs, and by folder the reasons of failed jobs, empty for finished ones."""
    try:
        record = read_json(path)
        if record["format"] != FORMAT:
            raise ValueError(f"it is of format {record['format']}, not {FORMAT}")
        study = Study.model_validate(record["study"])
        rows = [row for row in record["jobs"] if row["state"] != "waiting"]
        told = {row["folder"]: str(row["reason"]) if row["state"] == "failed" else "" for row in rows}
        return study, jobs(study), told
    except (*MISREAD, OSError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ValueError(
            f"{path} is damaged or not of this version: {reason:.300}; run the study again, it takes what is finished"
        ) from error


def _missing(place: Path, job: Job, *, is_known: bool) -> str:
    """Why the folder has no result of this job, empty where it has one. `is_known`: the study's last run came to it."""
    if not (place / "result.json").exists():
        return WAITING
    asked = {"comparison": repr(job.comparison), "options": repr(job.analysis.options)}
    return EDITED if not is_known and differences(place, asked) else ""
