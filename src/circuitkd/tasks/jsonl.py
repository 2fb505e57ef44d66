"""Our own task format: JSON lines, one example an object.

{"id": "a", "clean": "The cat sat on the", "corrupted": "The dog lay on the", "answer": " mat", "distractor":
" log", "labels": {"subject": 1, "verbs": [2]}, "template": "animals"}

`answer` and `distractor` are a string or a list of strings (a set); `labels` and `template` may be left out.
Labels are indexes of whitespace-separated words of `clean`. What is not part of the format is an error, so
that a misspelt key is not read as an absent one. The file holds examples only: a task's name is the file's,
its settings are the defaults.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from circuitkd.artifacts import write_atomically
from circuitkd.tasks.base import Example, Label, Task
from circuitkd.tasks.rows import BadLines, json_rows, parsed_row

Text = Annotated[str, StringConstraints(pattern=r"\S")]
Indexes = Annotated[list[int], Field(min_length=1)]


class Row(BaseModel):
    """One line of a task file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Annotated[Text, Field(description="a string that is not blank")]
    clean: Annotated[Text, Field(description="a string that is not blank")]
    corrupted: Annotated[Text, Field(description="a string that is not blank")]
    answer: Annotated[
        Text | Annotated[list[Text], Field(min_length=1)],
        Field(description="a string, or a list of strings, none of them blank"),
    ]
    distractor: Annotated[
        Text | Annotated[list[Text], Field(min_length=1)],
        Field(description="a string, or a list of strings, none of them blank"),
    ]
    labels: Annotated[
        dict[str, int | Indexes],
        Field(description="an object of word indexes: {name: index}, or {name: [index, ...]}"),
    ] = {}
    template: Annotated[str, Field(description="a string")] = ""

    def example(self, line: int) -> Example:
        """The example that stands on this line."""
        labels: dict[str, Label] = {
            name: label if isinstance(label, int) else tuple(label) for name, label in self.labels.items()
        }
        return Example(
            id=self.id,
            clean=self.clean,
            corrupted=self.corrupted,
            answer=self.answer if isinstance(self.answer, str) else tuple(self.answer),
            distractor=self.distractor if isinstance(self.distractor, str) else tuple(self.distractor),
            labels=labels,
            template=self.template,
            line=line,
        )


def read_task(path: str | Path, *, n: int | None = None, name: str | None = None) -> Task:
    """The task in a file, or its first `n` examples; named like the file unless `name` is given.

    Raises ValueError naming every bad line (at most 20 are shown), or when the file cannot be read or has no
    examples.
    """
    if n is not None and n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    bad = BadLines(path)
    rows = list(json_rows(path, Row, bad=bad, n=n))
    _check_unique([(line, row.id) for line, row in rows], bad)
    bad.check()
    if not rows:
        raise ValueError(f"{path} is empty: write one JSON object a line, with {', '.join(_required())}")
    return Task(name or Path(path).stem, tuple(row.example(line) for line, row in rows))


def write_task(task: Task, path: str | Path) -> Path:
    """Write the task's examples as `read_task` reads them; the file is replaced at once or not at all.

    Raises ValueError naming the examples that the format does not allow (blank texts, ids used twice).
    """
    path, bad = Path(path), BadLines(f"task {task.name!r} cannot be written", unit="example")
    rows = [_as_row(e) for e in task.examples]
    for number, row in enumerate(rows, start=1):
        parsed_row(json.dumps(row).encode(), Row, bad=bad, number=number)
    _check_unique([(number, e.id) for number, e in enumerate(task.examples, start=1)], bad)
    bad.check()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    return path


def _as_row(example: Example) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": example.id,
        "clean": example.clean,
        "corrupted": example.corrupted,
        "answer": _plain(example.answer),
        "distractor": _plain(example.distractor),
    }
    if example.labels:
        row["labels"] = _labels(example.labels)
    if example.template:
        row["template"] = example.template
    return row


def _plain(words: str | Sequence[str]) -> str | list[str]:
    return words if isinstance(words, str) else list(words)


def _labels(labels: Mapping[str, Label]) -> dict[str, int | list[int]]:
    return {name: label if isinstance(label, int) else list(label) for name, label in labels.items()}


def _check_unique(ids: Sequence[tuple[int, str]], bad: BadLines) -> None:
    first: dict[str, int] = {}
    for line, name in ids:
        if name in first:
            bad.add(line, f"id {name!r} is already that of {bad.unit} {first[name]}: give each its own")
        else:
            first[name] = line


def _required() -> list[str]:
    return [name for name, field in Row.model_fields.items() if field.is_required()]
