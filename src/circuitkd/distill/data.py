"""A task as training data: splits by example, rows of tokens for the Trainer, and how rows become a batch.

A row has `input_ids` (the clean prompt, no padding), `labels` (-100 everywhere but at the position where the answer is
read, which holds the first right answer), `answers` and `distractors` (all of them). So `labels` marks the position
whose logits answer; unlike in causal language modelling nothing is shifted. A batch adds `lengths` [row]; padding is
on the right.

Examples with the same clean prompt always share a split. Teacher and student read the same tokens: models with
different tokenizers are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from circuitkd.models.circuit_model import CircuitModel
from circuitkd.tasks.base import Example, Task
from circuitkd.tasks.binding import BoundTask

IGNORED = -100
COLUMNS = ("input_ids", "labels", "answers", "distractors")
SHARES = (0.6, 0.2, 0.2)


@dataclass(frozen=True)
class Splits:
    """Three tasks without a prompt in common."""

    train: Task
    validation: Task
    test: Task


def split(task: Task, *, shares: Sequence[float] = SHARES, seed: int = 0) -> Splits:
    """Divide the examples at random into training, validation and test; `shares` add up to 1.

    Raises ValueError for other shares, and where a part would have fewer than two examples.
    """
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"shares must be three positive numbers that add up to 1, not {tuple(shares)}")
    groups: dict[str, list[Example]] = {}
    for example in task.examples:
        groups.setdefault(example.clean, []).append(example)
    prompts = list(groups)
    parts: list[list[Example]] = [[], [], []]
    limits = [shares[0] * len(task), (shares[0] + shares[1]) * len(task)]
    done = 0
    for index in np.random.default_rng(seed).permutation(len(prompts)):
        members = groups[prompts[index]]
        parts[sum(done + len(members) / 2 > limit for limit in limits)] += members
        done += len(members)
    if min(map(len, parts)) < 2:
        raise ValueError(
            f"{len(task)} examples with {len(prompts)} different prompts leave {', '.join(str(len(p)) for p in parts)} "
            "for training, validation and test: give more (two of each are needed)"
        )
    return Splits(*(replace(task, examples=tuple(part)) for part in parts))


def bind_pair(
    task: Task, teacher: CircuitModel, *, student: CircuitModel, aligned: bool = True
) -> tuple[BoundTask, BoundTask]:
    """The task in tokens of teacher and student, with the examples that both can take.

    Raises ValueError for models that read different tokens, and as `Task.bind`.
    """
    check_tokenizers(teacher, student)
    lenient = replace(task, origin="generated")
    bound = [(task if model is student else lenient).bind(model, aligned=aligned) for model in (teacher, student)]
    ids = [e.id for e in bound[0].examples if e.id not in bound[1].dropped]
    found = bound[0].select(ids), bound[1].select(ids)
    for ours, theirs in zip(*(b.examples for b in found), strict=True):
        if ours.clean != theirs.clean or ours.answer_position != theirs.answer_position:
            raise ValueError(
                f"{teacher.name} and {student.name} read different tokens in example {ours.id}: circuit distillation "
                "needs two causal or two masked models with one tokenizer"
            )
    return found


def check_tokenizers(teacher: CircuitModel, student: CircuitModel) -> None:
    """Raise ValueError, with both sizes, for models whose tokenizers differ."""
    sizes, same = (teacher.vocab_size, student.vocab_size), teacher.vocab_size == student.vocab_size
    if teacher.tokenizer is not None and student.tokenizer is not None:
        words = teacher.tokenizer.get_vocab(), student.tokenizer.get_vocab()
        sizes, same = (len(words[0]), len(words[1])), words[0] == words[1]
    if not same:
        raise ValueError(
            f"the tokenizers of {teacher.name} and {student.name} differ ({sizes[0]} and {sizes[1]} tokens): circuit "
            "distillation compares activations token by token, choose a teacher with the student's tokenizer"
        )


def rows_of(task: BoundTask) -> Dataset:
    """One row for each example. Raises ValueError for prompts of a single token, which the Trainer cannot count."""
    short = [e.id for e in task.examples if len(e.clean) < 2]
    if short:
        raise ValueError(f"the prompt of example {short[0]} is a single token: give prompts of two tokens or more")
    rows = []
    for e in task.examples:
        labels = [IGNORED] * len(e.clean)
        labels[e.answer_position] = e.answers[0]
        row = {"input_ids": e.clean, "labels": labels, "answers": e.answers, "distractors": e.distractors}
        rows.append({name: list(values) for name, values in row.items()})
    return Dataset.from_list(rows)


def collate(rows: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, Tensor]:
    """Rows as a batch: `input_ids`, `labels` [row, pos], `answers`, `distractors` [row, k] (gaps: -100), `lengths`
    [row]."""
    batch = {
        name: _padded([row[name] for row in rows], 0 if name == "input_ids" else IGNORED)
        for name in COLUMNS
        if name in rows[0]
    }
    return batch | {"lengths": torch.tensor([len(row["input_ids"]) for row in rows])}


def answer_positions(batch: Mapping[str, Any]) -> Tensor:
    """Where the answer of each row is read [row]."""
    return batch["labels"].ne(IGNORED).int().argmax(1)


def real_tokens(batch: Mapping[str, Any]) -> Tensor:
    """True where a position is no padding [row, pos]."""
    columns = torch.arange(batch["input_ids"].shape[1], device=batch["lengths"].device)
    return columns < batch["lengths"][:, None]


def _padded(sequences: Sequence[Sequence[int]], value: int) -> Tensor:
    width = max(len(s) for s in sequences)
    return torch.tensor([[*s, *[value] * (width - len(s))] for s in sequences])
