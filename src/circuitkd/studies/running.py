"""Running a study: every job in a folder of its own, models loaded once a pair, failures kept apart.

A job's folder holds its finished result, or the pieces that it goes on from. A finished result is taken when it is of
this request (models' weights, data, options, version); so a study that was interrupted at any moment, run again, gives
what it would have given. A job that fails is recorded with its reason, the others go on. Which jobs are done is read
from their folders alone; `study.json`, written after each job, tells it to people and to `reading`.

Limits: models are loaded to see whether results are theirs, also where all jobs are finished; results stay in memory
until the study is done.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from circuitkd.artifacts import cannot_write, load_if_whole, to_json, write_atomically
from circuitkd.comparison.result import Comparison
from circuitkd.interventions.execution import Execution, Progress, fingerprint
from circuitkd.models.files import locate
from circuitkd.models.loading import load
from circuitkd.provenance import software
from circuitkd.studies.job_kinds import RUNNERS, Pair, ReadyJob, Result
from circuitkd.studies.run_folders import (
    Fingerprints,
    claimed,
    clear,
    differences,
    identity_of,
    require_own,
    save_finished,
)
from circuitkd.studies.study_file import BUILT_ON_COMPARE, Job, PairSpec, Study, jobs
from circuitkd.tasks.registry import load_task

INDEX, FORMAT = "study.json", 1
MEMORY = "out of memory: give this pair a dtype of bfloat16 in the study, or run it with a smaller --batch-size"


@dataclass(frozen=True)
class Failure:
    """A job that has no result. `details`: where it was raised, for what is not the user's to mend."""

    job: Job
    reason: str
    details: str = ""


@dataclass(frozen=True, eq=False)
class StudyRun:
    """What there is of a study: results by the folders of their jobs, what failed, and how many results were there
    already."""

    study: Study
    results: dict[str, Result]
    failures: tuple[Failure, ...]
    taken: int

    def of_kind(self, kind: str) -> list[tuple[Job, Any]]:
        """The finished jobs of one kind with their results, in the study's order."""
        done = [job for job in jobs(self.study) if job.analysis.kind == kind and job.folder in self.results]
        return [(job, self.results[job.folder]) for job in done]


@dataclass(frozen=True)
class Machine:
    """Where models are loaded; None for what the study file says, or else the usual. `batch_size`: prompts at a time."""

    device: str | None = None
    dtype: str | None = None
    batch_size: int | None = None


class Watch(Protocol):
    """Who is told how far the study is."""

    def step(self, text: str, *, number: int = 0, total: int | None = None) -> None:
        """What is done now; `number` of `total` jobs are finished."""

    @property
    def report(self) -> Progress:
        """Called after each piece of work."""


@dataclass(frozen=True, eq=False)
class _State:
    """How jobs are run, and what there is so far: `results`, `failures` and `taken` grow."""

    study: Study
    root: Path
    machine: Machine
    overwrite: bool
    watch: Watch | None
    total: int
    results: dict[str, Result] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)

    def step(self, text: str) -> None:
        if self.watch is not None:
            self.watch.step(text, number=len(self.results) + len(self.failures), total=self.total)

    def execution(self, folder: Path) -> Execution:
        report = None if self.watch is None else self.watch.report
        return Execution(self.machine.batch_size, report, folder)


def run_study(
    study: Study,
    folder: str | Path,
    *,
    machine: Machine | None = None,
    overwrite: bool = False,
    watch: Watch | None = None,
) -> StudyRun:
    """Run every job of the study that has no finished result in `folder` yet.

    `overwrite`: replace results of other requests, which are refused otherwise. Raises ValueError, before any run, for
    names that can be no model and a folder that cannot be written or is in use; what goes wrong later is in `failures`.
    """
    work = jobs(study)
    for name in [name for pair in study.pairs for name in (pair.teacher, pair.student)]:
        locate(name)
    with claimed(Path(folder)) as root:
        state = _State(study, root, machine or Machine(), overwrite, watch, len(work))
        _write_index(state)
        for pair in study.pairs:
            _run_pair(state, pair, [job for job in work if job.pair == pair])
            gc.collect()  # the models of a pair are gone before the next are loaded
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    return StudyRun(study, state.results, tuple(state.failures), len(state.taken))


def _run_pair(state: _State, pair: PairSpec, work: Sequence[Job]) -> None:
    if not work:
        return
    state.step(f"loading {pair.name}")
    try:
        models = _load(pair, state.machine)
        prints = fingerprint(models[0]), fingerprint(models[1])
    except Exception as error:
        state.failures.extend(_failure(job, error) for job in work)
        _write_index(state)
        return
    for job in work:
        state.step(f"{pair.name}, {job.task.key}: {job.analysis.kind}")
        try:
            state.results[job.folder] = _finished(state, job, models, prints=prints)
        except Exception as error:
            state.failures.append(_failure(job, error))
        _write_index(state)


def _load(pair: PairSpec, machine: Machine) -> Pair:
    device, dtype = machine.device or pair.device, machine.dtype or pair.dtype
    sides = (pair.teacher, pair.teacher_revision), (pair.student, pair.student_revision)
    teacher, student = (load(name, device=device, dtype=dtype, revision=revision) for name, revision in sides)
    return teacher, student


def _finished(state: _State, job: Job, models: Pair, *, prints: Fingerprints) -> Result:
    """The job's result: from its folder if it is of this request, else made and kept there."""
    task, place = load_task(job.task.name, job.task.n, seed=job.task.seed), state.root / job.folder
    identity = identity_of(prints, task, comparison=repr(job.comparison), options=repr(job.analysis.options))
    kind, compute = RUNNERS[job.analysis.kind]
    if not state.overwrite:
        require_own(place, identity)
    found = _taken(place, kind, identity)
    if found is None:
        ready = ReadyJob(job, models, task, state.execution(place / "partial"), _basis(state, job))
        found = compute(ready)
        save_finished(place, found, identity=identity)
    else:
        state.taken.append(job.folder)
    clear(place / "partial")
    return found


def _taken(place: Path, kind: type[Any], identity: dict[str, str]) -> Result | None:
    """The whole result of this request in a folder; None for a damaged one, which is computed again."""
    found: Result | None = None if differences(place, identity) else load_if_whole(place, kind)
    return found


def _basis(state: _State, job: Job) -> Comparison | None:
    """The comparison that the job builds on. Raises ValueError where it failed."""
    if job.analysis.kind not in BUILT_ON_COMPARE:
        return None
    found = state.results.get(job.comparison_folder)
    if not isinstance(found, Comparison):
        raise ValueError("the comparison that it builds on failed")
    return found


def _failure(job: Job, error: Exception) -> Failure:
    if isinstance(error, ValueError):
        return Failure(job, str(error))
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return Failure(job, MEMORY)
    return Failure(job, f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))


def _write_index(state: _State) -> None:
    """Write `study.json`: the study, and what became of each job so far. Raises ValueError when it cannot be written."""
    failed = {failure.job.folder: failure for failure in state.failures}
    rows = [
        {"folder": f.job.folder, "state": "failed", "reason": f.reason, "details": f.details}
        if (f := failed.get(job.folder))
        else {"folder": job.folder, "state": "finished" if job.folder in state.results else "waiting"}
        for job in jobs(state.study)
    ]
    record = {"format": FORMAT, "study": state.study.model_dump(mode="json"), "jobs": rows, "software": software()}
    with cannot_write(str(state.root / INDEX), way_out="free some space"):
        write_atomically(state.root / INDEX, to_json(record).encode())
