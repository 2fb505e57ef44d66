"""Run folders of the commands: named after the models, resumed from `partial/`, reused only for the same request.

A request is what decides the numbers: weights of both models, data, ablation, options, version; the manifest keeps it.
A folder that holds the finished result of another request is refused, so nobody's result is overwritten by accident.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from circuitkd.artifacts import cannot_write, load_run, read_json, to_json, write_atomically
from circuitkd.cli.terminal import note
from circuitkd.provenance import software
from circuitkd.studies.run_folders import (
    REQUEST,
    claimed,
    clear,
    differences,
    identity_of,
    require_own,
    safe_name,
    save_finished,
)

if TYPE_CHECKING:
    from circuitkd.analysis import CompareOptions
    from circuitkd.comparison.result import Comparison
    from circuitkd.interventions.ablations import Ablation
    from circuitkd.interventions.execution import Execution
    from circuitkd.models.circuit_model import CircuitModel
    from circuitkd.tasks.base import Task

__all__ = ["REQUEST", "claimed", "clear", "differences", "safe_name"]  # what commands use of run_folders

ROOT = Path("circuitkd-runs")
INDEX = "index.json"
T = TypeVar("T")
Pair = tuple["CircuitModel", "CircuitModel"]


@dataclass(frozen=True)
class Request:
    """One comparison that a command wants. `seed` is recorded; it has decided the task's examples already."""

    task: Task
    ablation: Ablation
    options: CompareOptions
    seed: int

    def identity(self, pair: Pair) -> dict[str, str]:
        """What a finished result must have been made from to be reused, by names for people."""
        from circuitkd.interventions.execution import fingerprint

        reference = self.ablation.reference
        return identity_of(
            (fingerprint(pair[0]), fingerprint(pair[1])),
            self.task,
            ablation=self.ablation.describe() + (f" {reference.digest()}" if reference else ""),
            options=repr(self.options),
        )


def model_folder(name: str) -> str:
    """A folder name for a model: the last part of a local path, a hub id or zoo name as it is."""
    path = Path(name).expanduser()
    return safe_name(path.resolve().name if path.is_dir() else name.removeprefix("zoo:").replace("/", "--"))


def task_folders(tasks: Sequence[Task]) -> list[str]:
    """A folder name for each task, all different, also where capitals do not count."""
    names: list[str] = []
    for task in tasks:
        name, number = safe_name(task.name), 2
        while name.casefold() in map(str.casefold, names):
            name, number = f"{safe_name(task.name)}-{number}", number + 1
        names.append(name)
    return names


def finished(folder: Path, kind: type[T], identity: Mapping[str, str], *, overwrite: bool = False) -> T | None:
    """The finished result in `folder` if it is of this request, None if there is none (or it is to be replaced).

    Raises ValueError, naming what differs, where the result of another request is there.
    """
    if overwrite or not (folder / "result.json").exists():
        return None
    require_own(folder, identity)
    try:
        result = load_run(folder, kind)
    except ValueError:
        note(f"the result in {folder} is damaged; computing it again")
        return None
    note(f"taken from {folder}: it holds this result already")
    return result


def compare_into(
    folder: Path,
    pair: Pair,
    request: Request,
    *,
    execution: Execution,
    overwrite: bool = False,
    partial: Path | None = None,
) -> Comparison:
    """The comparison of a pair: from `folder` if it is there, else computed (resuming from `partial`) and saved."""
    from circuitkd.analysis import compare
    from circuitkd.comparison.result import Comparison

    identity = request.identity(pair)
    found = finished(folder, Comparison, identity, overwrite=overwrite)
    pieces = partial or folder / "partial"
    if found is None:
        found = compare(
            *pair,
            request.task,
            ablation=request.ablation,
            options=request.options,
            execution=replace(execution, folder=pieces),
        )
        facts = {REQUEST: json.dumps(identity, ensure_ascii=False), "task_seed": str(request.seed)}
        found = replace(found, manifest=found.manifest | facts)
        found.save(folder)
    if partial is None:
        clear(pieces)  # also those of a run that was killed between its result and here
    return found


def keep(
    folder: Path, kind: type[T], identity: Mapping[str, str], *, compute: Callable[[], T], overwrite: bool = False
) -> T:
    """Any other result: from `folder` if it is of this request, else computed and saved there."""
    found = finished(folder, kind, identity, overwrite=overwrite)
    if found is None:
        found = compute()
        save_finished(folder, found, identity=identity)
    return found


def save_index(root: Path, runs: Sequence[tuple[Path, Comparison]]) -> Path:
    """Write `index.json`: where each run is and its main numbers. Raises ValueError when it cannot be written."""
    rows = [
        {
            "folder": folder.relative_to(root).as_posix(),
            "teacher": c.teacher.name,
            "student": c.student.name,
            "task": c.task,
            "alignment": c.alignment.score,
            "interval": list(c.alignment.interval),
        }
        for folder, c in runs
    ]
    return write_index(root, rows)


def write_index(root: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """Write `index.json` with these rows, each with its `folder` below `root`. Raises ValueError when it cannot be
    written."""
    path = root / INDEX
    with cannot_write(str(path), way_out="free some space"):
        write_atomically(path, to_json({"format": 1, "runs": rows, "software": software()}).encode())
    return path


def kind_of(folder: Path) -> str:
    """The kind of result in a run folder, empty where it cannot be read (loading it names the fault)."""
    try:
        return str(read_json(folder / "result.json")["kind"])
    except (ValueError, KeyError, TypeError):
        return ""


def write_page(found: Sequence[tuple[Path, Comparison]], path: Path, *, title: str | None = None) -> Path:
    """Write the page of comparisons with the circuits and roles that lie beside them, or around them in a folder of
    roles. Raises ValueError where it cannot be written."""
    from circuitkd.circuit_analysis import CircuitComparison
    from circuitkd.reports import page
    from circuitkd.roles.result import RolesResult

    circuits, roles = list[CircuitComparison](), list[RolesResult]()
    for folder, _ in found:
        circuits += _beside(folder / "circuits", CircuitComparison)
        around = kind_of(folder.parent) == "RolesResult"
        roles += _beside(folder.parent if around else folder / "roles", RolesResult)
    return page.write([c for _, c in found], path, title=title, circuits=circuits, roles=roles)


def _beside(folder: Path, kind: type[T]) -> list[T]:
    """The result kept beside a comparison: one or none. A damaged one counts as none."""
    if not (folder / "result.json").exists():
        return []
    try:
        return [load_run(folder, kind)]
    except ValueError as error:
        note(f"{folder.name} left out of the report: {error}")
        return []


def run_folders(folder: Path) -> list[Path]:
    """The run folders that `folder` stands for: itself, or those of its index. Raises ValueError for neither."""
    if (folder / "result.json").exists():
        return [folder]
    if not (folder / INDEX).exists():
        raise ValueError(f"{folder} is not a run folder: it holds neither result.json nor {INDEX}")
    try:
        names = [Path(row["folder"]) for row in read_json(folder / INDEX)["runs"]]
        if any(name.is_absolute() or ".." in name.parts for name in names):
            raise ValueError("it names folders elsewhere")
        return [folder / name for name in names]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / INDEX} is damaged: name the run folders below {folder} one by one") from error
