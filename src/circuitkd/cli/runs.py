"""Run folders of the commands: named after the models, resumed from `partial/`, reused only for the same request.

A request is what decides the numbers: weights of both models, data, ablation, options, version; the manifest keeps it.
A folder that holds the finished result of another request is refused, so nobody's result is overwritten by accident.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from circuitkd.artifacts import load_run, read_manifest, save_run, to_json, write_atomically
from circuitkd.cli.terminal import note
from circuitkd.provenance import software

if TYPE_CHECKING:
    from circuitkd.analysis import CompareOptions
    from circuitkd.circuit_analysis import CircuitComparison
    from circuitkd.comparison.result import Comparison
    from circuitkd.interventions.ablations import Ablation
    from circuitkd.interventions.execution import Execution
    from circuitkd.models.circuit_model import CircuitModel
    from circuitkd.tasks.base import Task

ROOT = Path("circuitkd-runs")
INDEX = "index.json"
REQUEST = "request"
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
        return {
            "teacher": fingerprint(pair[0]),
            "student": fingerprint(pair[1]),
            "task": self.task.name,
            "examples": self.task.digest(),
            "ablation": self.ablation.describe() + (f" {reference.digest()}" if reference else ""),
            "options": repr(self.options),
            "circuitkd version": software()["circuitkd"],
        }


def safe_name(text: str) -> str:
    """A folder name from the name of a model or task: no separators, no dots in front, never empty."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")[:80] or "unnamed"


def model_folder(name: str) -> str:
    """A folder name for a model: the last part of a local path, a hub id or zoo name as it is."""
    path = Path(name).expanduser()
    return safe_name(path.resolve().name if path.is_dir() else name.removeprefix("zoo:").replace("/", "--"))


def task_folders(tasks: Sequence[Task]) -> list[str]:
    """A folder name for each task, all different."""
    names: list[str] = []
    for task in tasks:
        name, number = safe_name(task.name), 2
        while name in names:
            name, number = f"{safe_name(task.name)}-{number}", number + 1
        names.append(name)
    return names


def prepare_folder(folder: Path) -> Path:
    """Make the folder and see that it can be written, before a long run. Raises ValueError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / ".writable", b"")
        (folder / ".writable").unlink()
    except OSError as error:
        raise ValueError(
            f"cannot write to {folder}: {error.strerror or error}; free some space or choose another --output-dir"
        ) from error
    return folder


def differences(folder: Path, identity: Mapping[str, str]) -> list[str]:
    """In what the finished result in `folder` is not of this request; empty where there is none."""
    if not (folder / "result.json").exists():
        return []
    try:
        found = json.loads(read_manifest(folder).get(REQUEST, "{}"))
    except ValueError:
        found = {}
    return [name for name, value in identity.items() if found.get(name) != value]


def finished(folder: Path, kind: type[T], identity: Mapping[str, str], *, overwrite: bool = False) -> T | None:
    """The finished result in `folder` if it is of this request, None if there is none (or it is to be replaced).

    Raises ValueError, naming what differs, where the result of another request is there.
    """
    if overwrite or not (folder / "result.json").exists():
        return None
    different = differences(folder, identity)
    if different:
        raise ValueError(
            f"{folder} holds the finished result of another run (it differs in {', '.join(different)}): choose another "
            "--output-dir, or replace it with --overwrite"
        )
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
    if found is not None:
        return found
    pieces = partial or folder / "partial"
    result = compare(
        *pair,
        request.task,
        ablation=request.ablation,
        options=request.options,
        execution=replace(execution, folder=pieces),
    )
    facts = {REQUEST: json.dumps(identity, ensure_ascii=False), "task_seed": str(request.seed)}
    result = replace(result, manifest=result.manifest | facts)
    result.save(folder)
    if partial is None:
        clear(pieces)
    return result


def keep(
    folder: Path, kind: type[T], identity: Mapping[str, str], *, compute: Callable[[], T], overwrite: bool = False
) -> T:
    """Any other result: from `folder` if it is of this request, else computed and saved there."""
    found = finished(folder, kind, identity, overwrite=overwrite)
    if found is None:
        found = compute()
        own = getattr(found, "manifest", {})
        manifest = own | {REQUEST: json.dumps(dict(identity), ensure_ascii=False)} | software()
        save_run(folder, found, manifest=manifest)
    return found


def clear(partial: Path) -> None:
    """Remove the finished pieces of a whole result, and nothing else that may be there."""
    for piece in partial.glob("*.safetensors"):
        piece.unlink(missing_ok=True)
    if partial.is_dir() and not any(partial.iterdir()):
        partial.rmdir()


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
    try:
        write_atomically(path, to_json({"format": 1, "runs": rows, "software": software()}).encode())
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}; free some space") from error
    return path


def kind_of(folder: Path) -> str:
    """The kind of result in a run folder, empty where it cannot be read (loading it names the fault)."""
    try:
        return str(json.loads((folder / "result.json").read_text(encoding="utf-8"))["kind"])
    except (ValueError, KeyError, TypeError, OSError):
        return ""


def circuits_in(folder: Path) -> list[CircuitComparison]:
    """The circuits kept with the comparison in `folder`: one result or none. A damaged one counts as none."""
    from circuitkd.circuit_analysis import CircuitComparison

    if not (folder / "circuits" / "result.json").exists():
        return []
    try:
        return [CircuitComparison.load(folder / "circuits")]
    except ValueError as error:
        note(f"circuits left out of the report: {error}")
        return []


def run_folders(folder: Path) -> list[Path]:
    """The run folders that `folder` stands for: itself, or those of its index. Raises ValueError for neither."""
    if (folder / "result.json").exists():
        return [folder]
    if not (folder / INDEX).exists():
        raise ValueError(f"{folder} is not a run folder: it holds neither result.json nor {INDEX}")
    try:
        rows = json.loads((folder / INDEX).read_text(encoding="utf-8"))["runs"]
        return [folder / str(row["folder"]) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / INDEX} is damaged: name the run folders below {folder} one by one") from error
