"""Run folders: taken again only for the same request, written by one process at a time.

A request is what decides the numbers: weights of both models, data, ablation, options, version; the manifest keeps it
under `REQUEST`. What a folder holds of another request is never mistaken for this one's.

A lock is the operating system's, so it goes with its process, however that ends. Limits: it is of one folder, not of
those below it; where a network file system has no locks, filelock makes do with the file's existence.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from circuitkd.artifacts import MISREAD, cannot_write, read_json, read_manifest, save_run, to_json, write_atomically
from circuitkd.provenance import software
from circuitkd.tasks.base import Task

REQUEST = "request"
LOCK, HOLDER = ".lock", ".lock.json"
WAY_OUT = "free some space or choose another --output-dir"
Fingerprints = tuple[str, str]
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # by Windows


def safe_name(text: str) -> str:
    """A folder name from the name of a model or task: no separators, no dots in front, at most 80 bytes, a name that
    every system allows, never empty."""
    plain = re.sub(r"[^\w.-]+", "-", unicodedata.normalize("NFC", text)).strip("-.")
    name = plain.encode()[:80].decode(errors="ignore").strip("-.")
    return f"_{name}" if _RESERVED.fullmatch(name) else name or "unnamed"


def identity_of(fingerprints: Fingerprints, task: Task, **more: str) -> dict[str, str]:
    """What a result of a pair on a task must have been made from to be taken again, by names for people; `more`: what
    decides its numbers besides models, data and version."""
    return {
        "teacher": fingerprints[0],
        "student": fingerprints[1],
        "task": task.name,
        "examples": task.digest(),
        **more,
        "circuitkd version": software()["circuitkd"],
    }


@contextmanager
def claimed(folder: Path) -> Iterator[Path]:
    """The folder, made if missing, for this process alone until the end of the block.

    Raises ValueError, before a long run, for a folder that cannot be written or that another process works in.
    """
    with cannot_write(f"to {folder}", way_out=WAY_OUT):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / LOCK, is_singleton=False)
            lock.acquire(blocking=False)
        except Timeout:
            raise ValueError(
                f"{folder} is in use by {_holder(folder)}: wait for it to end, or choose another --output-dir"
            ) from None
    try:
        _sign(folder)
        yield folder
    finally:
        for name in (HOLDER, LOCK):
            (folder / name).unlink(missing_ok=True)
        lock.release()


def _sign(folder: Path) -> None:
    """Say who works in the folder, and remove what a process that was killed was about to write."""
    with cannot_write(f"to {folder}", way_out=WAY_OUT):
        _remove_drafts(folder)
        record = {"process": os.getpid(), "host": platform.node()}
        write_atomically(folder / HOLDER, to_json(record).encode())


def _holder(folder: Path) -> str:
    try:
        record = read_json(folder / HOLDER)
        return f"process {record['process']} on {record['host']}"
    except MISREAD:
        return "another process"


def _remove_drafts(folder: Path) -> None:
    for draft in folder.glob(".*.tmp"):
        draft.unlink(missing_ok=True)


def differences(folder: Path, identity: Mapping[str, str]) -> list[str]:
    """In what the finished result in `folder` is not of this request; empty where there is none."""
    if not (folder / "result.json").exists():
        return []
    try:
        found = dict(json.loads(read_manifest(folder).get(REQUEST, "{}")))
    except (ValueError, TypeError, RecursionError):
        found = {}
    return [name for name, value in identity.items() if found.get(name) != value]


def require_own(folder: Path, identity: Mapping[str, str]) -> None:
    """Raise ValueError, naming what differs, where the finished result of another request is in `folder`."""
    different = differences(folder, identity)
    if different:
        raise ValueError(
            f"{folder} holds the finished result of another run (it differs in {', '.join(different)}): choose another "
            "--output-dir, or replace it with --overwrite"
        )


def save_finished(folder: Path, result: Any, *, identity: Mapping[str, str]) -> None:
    """Save a result with the request that it is of. Raises ValueError when it cannot be written."""
    request = {REQUEST: json.dumps(dict(identity), ensure_ascii=False)}
    save_run(folder, result, manifest=getattr(result, "manifest", {}) | request | software())


def clear(partial: Path) -> None:
    """Remove the finished pieces of a whole result, and nothing else that may be there."""
    _remove_drafts(partial)
    for piece in partial.glob("*.safetensors"):
        piece.unlink(missing_ok=True)
    for run in partial.glob("run-*"):
        shutil.rmtree(run)
    if partial.is_dir() and not any(partial.iterdir()):
        partial.rmdir()
