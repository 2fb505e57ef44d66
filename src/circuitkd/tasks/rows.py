"""Rows of files that people write or download: every bad line is found and named, in one error.

JSON lines are checked against a pydantic model, whose field descriptions say in words what a field must hold.
Text is UTF-8 (a byte-order mark is skipped); lines end in a line feed, alone or after a carriage return.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from circuitkd.artifacts import unique_keys

RowT = TypeVar("RowT", bound=BaseModel)
SHOWN = 20


class BadLines:
    """What is wrong with the lines (or rows, says `unit`) of one file."""

    def __init__(self, path: str | Path, *, unit: str = "line") -> None:
        self.path = path
        self.unit = unit
        self.found: list[tuple[int, str]] = []

    def add(self, line: int, why: str) -> None:
        """Remember that `line` is bad, and why."""
        self.found.append((line, why))

    def check(self) -> None:
        """Raise ValueError naming the first bad lines and how many there are, if there are any."""
        if not self.found:
            return
        lines = [f"  {self.unit} {line}: {why}" for line, why in sorted(self.found)]
        more = [f"  ... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        count = len({line for line, _ in self.found})
        head = f"{self.path}: {count} bad {self.unit}{'s' if count > 1 else ''}:"
        raise ValueError("\n".join([head, *lines[:SHOWN], *more]))


def read_bytes(path: str | Path) -> bytes:
    """The file's content without a byte-order mark. Raises ValueError when it cannot be read."""
    try:
        return Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error


def json_rows(
    path: str | Path, model: type[RowT], *, bad: BadLines, n: int | None = None
) -> Iterator[tuple[int, RowT]]:
    """(line number, row) of each good line of a JSONL file, bad lines going to `bad`; at most `n` lines.

    Blank lines are skipped. Raises ValueError when the file cannot be read.
    """
    lines = [(i, raw) for i, raw in enumerate(read_bytes(path).split(b"\n"), start=1) if raw.strip()]
    for number, raw in lines[:n]:
        row = parsed_row(raw, model, bad=bad, number=number)
        if row is not None:
            yield number, row


def parsed_row(raw: bytes, model: type[RowT], *, bad: BadLines, number: int) -> RowT | None:
    """One line as a row, or None when it is bad: then `bad` has it."""
    try:
        return model.model_validate(_json_object(raw))
    except ValidationError as error:
        bad.add(number, "; ".join(_described(error, model)))
    except (ValueError, RecursionError) as error:
        bad.add(number, _json_problem(error))
    return None


def csv_rows(path: str | Path, required: Collection[str], *, bad: BadLines) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of each good row of a CSV file with a header; bad rows go to `bad`.

    The number is that of the row's last line. Raises ValueError when the file cannot be read, is not UTF-8,
    or lacks a required column.
    """
    try:
        text = read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        header = list(reader.fieldnames or [])
        check_columns(header, required, source=path)
        if len(set(header)) < len(header):
            raise ValueError(f"{path} has two columns of one name: rename one of {', '.join(header)}")
        for row in reader:
            # DictReader files surplus values under None, and fills missing ones with None.
            if None in row or None in row.values():
                bad.add(reader.line_num, f"the row does not have the header's {len(header)} columns")
            else:
                yield reader.line_num, row
    except csv.Error as error:
        bad.add(reader.line_num, f"is not valid CSV ({error})")


def check_columns(existing: Collection[str], required: Collection[str], *, source: str | Path) -> None:
    """Raise ValueError naming the missing columns and those that there are."""
    missing = [name for name in required if name not in existing]
    if missing:
        names = ", ".join(f"{name!r:.60}" for name in existing) or "none"
        raise ValueError(f"{source} has no column {', '.join(map(repr, missing))}: its columns are {names}")


def nearest(name: str, known: Collection[str]) -> str:
    """What to say about an unknown name: the nearest known one, or all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"


def _json_object(raw: bytes) -> dict[str, Any]:
    found = json.loads(raw.decode("utf-8"), object_pairs_hook=unique_keys)
    if not isinstance(found, dict):
        raise ValueError(f"is a JSON {type(found).__name__}, not an object")
    # A lone surrogate ("\ud800") is valid JSON but no text.
    json.dumps(found, ensure_ascii=False).encode("utf-8")
    return found


def _json_problem(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"is not valid JSON ({error.msg} at column {error.colno})"
    if isinstance(error, UnicodeDecodeError):
        return f"is not UTF-8 (byte {error.start + 1} of the line): save the file as UTF-8"
    if isinstance(error, UnicodeEncodeError):
        return "holds half a surrogate pair, which is no character"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    return str(error)


def _described(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One sentence for each top-level field that is wrong."""
    sentences: dict[str, str] = {}
    for item in error.errors(include_url=False)[:SHOWN]:
        key = str(item["loc"][0])
        if item["type"] == "extra_forbidden" and len(item["loc"]) == 1:
            sentences[key] = f"unknown key {key!r:.60}: {nearest(key, model.model_fields)}"
        elif item["type"] == "missing" and len(item["loc"]) == 1:
            sentences[key] = f"key {key!r} is missing"
        else:
            sentences[key] = f"{key!r} must be {model.model_fields[key].description}"
    return list(sentences.values())
