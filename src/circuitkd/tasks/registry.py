"""The built-in tasks by name, and `load_task`, which also reads task files."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from circuitkd.artifacts import require_storable
from circuitkd.tasks import (
    belief_tracking,
    entity_tracking,
    greater_than,
    ioi,
    question_answering,
    sequences,
)
from circuitkd.tasks.base import Example, Task
from circuitkd.tasks.jsonl import read_task

Generator = Callable[[int, int], list[Example]]

TASKS: dict[str, Generator] = {
    "numeral-sequence": sequences.numerals,
    "word-sequence": sequences.number_words,
    "months-sequence": sequences.months,
    "ioi": ioi.ioi,
    "entity-tracking": entity_tracking.entity_tracking,
    "entity-tracking-object-first": entity_tracking.object_first,
    "entity-tracking-box-first": entity_tracking.box_first,
    "belief-tracking": belief_tracking.belief_tracking,
    "question-answering": question_answering.question_answering,
    "greater-than": greater_than.greater_than,
}
DEMO_TASKS = tuple(name for name in TASKS if not name.startswith("entity-tracking-"))
ABLATIONS = {"question-answering": "mean"}


def load_task(name: str | Path, n: int | None = None, *, seed: int = 0) -> Task:
    """A built-in task by name, with `n` examples (100 unless told) drawn from `seed`, or a task file (`n`:
    its first lines only).

    Raises ValueError for an unknown name (with the nearest known one), a bad file, or n < 1.
    """
    if n is not None and n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    text = str(name)
    if text in TASKS:
        examples = tuple(TASKS[text](100 if n is None else n, seed))
        return Task(text, examples, origin="generated", ablation=ABLATIONS.get(text, "mean-positional"))
    require_storable(text)
    if text.endswith(".jsonl") or Path(text).exists():
        return read_task(Path(text), n=n)
    near = difflib.get_close_matches(text, TASKS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"unknown task {text!r}: {hint}built in are {', '.join(TASKS)}; or give a .jsonl file")
