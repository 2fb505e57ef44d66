"""The prompts of a task that can be laid over each other position by position.

Maps of component x position need prompts of one length. These are the examples of the most frequent clean length (the
shorter one among equals); the others are left out and counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from circuitkd.models.circuit_model import CircuitModel
from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import BoundExample, BoundTask


@dataclass(frozen=True)
class EqualLength:
    """`task`: with these examples alone. `positions` [pos]: a name for each position. `left_out`: id -> why."""

    task: BoundTask
    positions: tuple[str, ...]
    left_out: dict[str, str]


def equal_length(model: CircuitModel, task: Task | BoundTask, *, paired: bool = False) -> EqualLength:
    """The examples of the most frequent length; with `paired`, among those whose corrupted prompt has that length too
    and is read at the same position. Raises ValueError when there are none."""
    bound = task.bind(model, aligned=False) if isinstance(task, Task) else task
    left_out = {e.id: why for e in bound.examples if paired and (why := _why_unpaired(e))}
    usable = [e for e in bound.examples if e.id not in left_out]
    if not usable:
        raise ValueError(
            f"task {bound.name!r}: no clean and corrupted prompt have equal token counts, so nothing of one can be put "
            "into the other: make them equal word by word"
        )
    counts = Counter(len(e.clean) for e in usable)
    length = max(sorted(counts), key=lambda n: counts[n])
    left_out |= {e.id: f"has {len(e.clean)} tokens, not {length}" for e in usable if len(e.clean) != length}
    kept = tuple(e for e in usable if len(e.clean) == length)
    return EqualLength(replace(bound, examples=kept), _names(model, kept), left_out)


def _why_unpaired(example: BoundExample) -> str:
    if len(example.clean) != len(example.corrupted):
        return f"clean has {len(example.clean)} tokens, corrupted {len(example.corrupted)}"
    if example.answer_position != example.corrupted_answer_position:
        return "clean and corrupted are read at different positions"
    return ""


def _names(model: CircuitModel, examples: tuple[BoundExample, ...]) -> tuple[str, ...]:
    """The label that all prompts have at a position, else the token that all have there, else its number."""
    names = []
    for place in range(len(examples[0].clean)):
        labels = set.intersection(*({n for n, at in e.positions.items() if place in at} for e in examples))
        tokens = {e.clean[place] for e in examples}
        if labels:
            names.append(sorted(labels)[0])
        elif len(tokens) == 1:
            names.append(str(model.tokenizer.convert_ids_to_tokens(sorted(tokens))[0]))
        else:
            names.append(str(place))
    return tuple(names)
