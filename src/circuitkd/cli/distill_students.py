"""The trained students of a distillation run, and the comparisons before and after training that its report shows.

`students/CONDITION` is a plain Hugging Face folder, written while the first seed is trained; a marker in it, written last,
names the request that it was trained for, so that a student of another run is never taken for this one's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from circuitkd.cli.runs import Pair, Request
    from circuitkd.comparison.result import Comparison
    from circuitkd.distill.conditions import ExperimentOptions
    from circuitkd.distill.experiment import Keep
    from circuitkd.distill.experiment_result import ExperimentResult
    from circuitkd.interventions.execution import Execution
    from circuitkd.models.circuit_model import CircuitModel
    from circuitkd.tasks.base import Task

    States = tuple[Comparison | None, Comparison | None]

MARKER = "trained.json"
BEFORE, AFTER = "before", "after"


def folder_of(root: Path, condition: str) -> Path:
    """Where the trained student of a condition is kept."""
    from circuitkd.cli.runs import safe_name

    return root / "students" / safe_name(condition)


def keeper(root: Path, identity: Mapping[str, str], *, seed: int) -> Keep:
    """A `keep` for `run_experiment` that saves the students of this seed."""
    from circuitkd.artifacts import to_json, write_atomically

    def keep(condition: str, trained_with: int, student: CircuitModel) -> None:
        if trained_with != seed:
            return
        place = folder_of(root, condition)
        (place / MARKER).unlink(missing_ok=True)
        student.hf.save_pretrained(place)
        student.tokenizer.save_pretrained(place)
        write_atomically(place / MARKER, to_json(_mark(identity, condition, seed)).encode())

    return keep


def compare_states(
    root: Path,
    pair: Pair,
    request: Request,
    *,
    result: ExperimentResult,
    execution: Execution,
    overwrite: bool,
) -> States:
    """The teacher against the untrained student, and against the trained one of the main condition's first seed: kept in
    `before/` and `after/`. What cannot be made is None, and a note says why."""
    from circuitkd.cli.runs import compare_into
    from circuitkd.cli.terminal import note

    try:
        before = compare_into(root / BEFORE, pair, request, execution=execution, overwrite=overwrite)
        trained = trained_student(root, pair[1], result=result)
        after = compare_into(root / AFTER, (pair[0], trained), request, execution=execution, overwrite=overwrite)
    except ValueError as error:
        saved = saved_states(root, result)
        if None in saved:
            note(f"the report does not show before and after: {error}")
        return saved
    return before, after


def forget_states(root: Path) -> None:
    """Before training: what was compared with earlier students is no longer of this run."""
    for name in (BEFORE, AFTER):
        (root / name / "result.json").unlink(missing_ok=True)


def trained_student(root: Path, student: CircuitModel, *, result: ExperimentResult) -> CircuitModel:
    """The student of the main condition's first seed. Raises ValueError where `students/` does not hold it."""
    from circuitkd.artifacts import read_json
    from circuitkd.cli.runs import REQUEST
    from circuitkd.distill.differences import main_condition
    from circuitkd.models.loading import load

    condition = main_condition(result)
    place, seed = folder_of(root, condition), result.of(condition)[0].seed
    try:
        found = read_json(place / MARKER)
    except ValueError:
        found = None
    if found != _mark(json.loads(result.manifest[REQUEST]), condition, seed):
        raise ValueError(
            f"{place} does not hold the student of this run that was trained under {condition!r} with seed {seed}; "
            "--overwrite trains it again"
        )
    loaded = load(str(place), device=student.device, dtype=student.dtype, check=False)
    return replace(loaded, name=f"{student.name} ({condition})")


def state_request(task: Task, options: ExperimentOptions, *, seed: int) -> Request:
    """What before and after are compared on: the test split, as `circuitkd compare` would."""
    from circuitkd.cli.options import plain_options
    from circuitkd.cli.runs import Request
    from circuitkd.distill.data import split
    from circuitkd.interventions.ablations import Ablation

    test = split(task, shares=options.shares).test
    return Request(test, Ablation(task.ablation), plain_options(random_null=True), seed)


def saved_states(root: Path, result: ExperimentResult) -> States:
    """What `before/` and `after/` hold of this run; None where that is nothing, damaged, or of other examples."""
    from circuitkd.cli.terminal import note
    from circuitkd.comparison.result import Comparison

    found: list[Comparison | None] = []
    for name in (BEFORE, AFTER):
        comparison = None
        if (root / name / "result.json").exists():
            try:
                comparison = Comparison.load(root / name)
            except ValueError as error:
                note(f"left out of the report: {error}")
        fits = comparison is not None and set(comparison.teacher_sweep.examples) <= set(result.examples)
        found.append(comparison if fits else None)
    return found[0], found[1]


def _mark(identity: Mapping[str, str], condition: str, seed: int) -> dict[str, object]:
    return {"condition": condition, "seed": seed, "request": dict(identity)}
