"""Binding a task to a model: text to tokens, answers to single token ids, labels to token positions.

The rules are those of `tokenization.py`; padding is on the right and is added where batches are made. An
example that the model cannot take is dropped and counted when the task was generated, and an error when a
person wrote it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from circuitkd.tasks.base import Example, Task
from circuitkd.tasks.cautions import summarised, text_cautions, token_cautions
from circuitkd.tasks.label_positions import label_positions
from circuitkd.tasks.tokenization import Unbindable, answer_ids, answer_position, encode, placed

if TYPE_CHECKING:
    from circuitkd.models.circuit_model import CircuitModel

__all__ = ["BoundExample", "BoundTask", "Unbindable", "bind", "bind_both", "bind_example", "encode"]
SHOWN = 20


@dataclass(frozen=True)
class BoundExample:
    """One example as token ids of one model.

    `clean`, `corrupted`: token ids with the tokenizer's special tokens, no padding. `answers`, `distractors`:
    token ids. `answer_position`, `corrupted_answer_position`: where the answer is read. `positions`: label ->
    token positions in `clean`; "end" is always there. `text`: the clean prompt as tokenized. `moved_space`:
    the answer's space went to the end of the prompt.
    """

    id: str
    clean: tuple[int, ...]
    corrupted: tuple[int, ...]
    answers: tuple[int, ...]
    distractors: tuple[int, ...]
    answer_position: int
    corrupted_answer_position: int
    positions: Mapping[str, tuple[int, ...]]
    template: str
    text: str
    moved_space: bool = False


@dataclass(frozen=True)
class BoundTask:
    """A task in the tokens of one model.

    `dropped`: id -> why the example cannot be taken. `warnings`: what a reader should know. `bos`: the task's
    own policy on the beginning-of-sequence token, None where it is the tokenizer's.
    """

    name: str
    model: str
    examples: tuple[BoundExample, ...]
    dropped: Mapping[str, str]
    warnings: tuple[str, ...]
    ablation: str
    digest: str
    bos: bool | None = None

    def __len__(self) -> int:
        return len(self.examples)

    def select(self, ids: Sequence[str]) -> BoundTask:
        """The same task with only the examples of these ids, in this order."""
        by_id = {e.id: e for e in self.examples}
        return replace(self, examples=tuple(by_id[i] for i in ids))


def bind(task: Task, model: CircuitModel, *, aligned: bool = True) -> BoundTask:
    """Tokenize `task` for `model`.

    `aligned` asks that clean and corrupted prompts have equal token counts (mean-positional and resample
    ablation need it). Examples of a generated task that the model cannot take are dropped and counted; in a
    task from a file they are errors, all reported at once. Raises ValueError naming every bad example, or
    when nothing is left, or when two examples have the same id.
    """
    _check_ids(task)
    bound, dropped, cautions = [], {}, []
    for example in task.examples:
        try:
            found = bind_example(example, model, bos=task.bos, aligned=aligned, first_token=task.first_token)
        except Unbindable as error:
            dropped[example.id] = str(error)
            continue
        bound.append(found)
        sentences = text_cautions(example) + token_cautions(found, model)
        cautions += [(example.where(), sentence) for sentence in sentences]
    if dropped and (task.origin == "file" or not bound):
        raise ValueError(_refusal(task, model, dropped))
    return BoundTask(
        name=task.name,
        model=model.name,
        examples=tuple(bound),
        dropped=dropped,
        warnings=tuple(summarised(cautions, len(bound)) + _task_cautions(task, model, dropped)),
        ablation=task.ablation,
        digest=task.digest(),
        bos=task.bos,
    )


def bind_example(
    example: Example, model: CircuitModel, *, bos: bool | None, aligned: bool, first_token: bool = False
) -> BoundExample:
    """One example as tokens. Raises Unbindable (a ValueError) with the reason and the way out."""
    if not example.answers or not example.distractors:
        raise Unbindable("there is no answer or no distractor: give at least one of each")
    texts = [placed(t, example, model=model) for t in (example.clean, example.corrupted)]
    n_answers = len(example.answers)
    tokens, moved = answer_ids(
        (*example.answers, *example.distractors), texts[0], model=model, bos=bos, first_token=first_token
    )
    answers, distractors = tokens[:n_answers], tokens[n_answers:]
    if set(answers) & set(distractors):
        raise Unbindable(
            "answer and distractor are the same token: choose a distractor that differs in its first token"
        )
    if moved:
        texts = [t + " " for t in texts]
    ids = [encode(t, model, bos=bos) for t in texts]
    _check_lengths(ids, model, aligned)
    places = [answer_position(i, model) for i in ids]
    return BoundExample(
        id=example.id,
        clean=tuple(ids[0]),
        corrupted=tuple(ids[1]),
        answers=tuple(dict.fromkeys(answers)),
        distractors=tuple(dict.fromkeys(distractors)),
        answer_position=places[0],
        corrupted_answer_position=places[1],
        positions=label_positions(example, texts[0], ids=ids[0], model=model) | {"end": (places[0],)},
        template=example.template,
        text=texts[0],
        moved_space=moved,
    )


def _check_lengths(ids: Sequence[Sequence[int]], model: CircuitModel, aligned: bool) -> None:
    if aligned and len(ids[0]) != len(ids[1]):
        raise Unbindable(
            f"clean has {len(ids[0])} tokens and corrupted {len(ids[1])}: make them equal, or use the "
            "ablation 'mean' or 'zero'"
        )
    longest, largest = max(len(i) for i in ids), max(max(i) for i in ids)
    if longest > model.max_positions:
        raise Unbindable(f"the prompt has {longest} tokens, the model's context is {model.max_positions}: shorten it")
    if largest >= model.vocab_size:
        raise Unbindable(
            f"the prompt has token {largest}, the model's vocabulary has {model.vocab_size}: the tokenizer "
            "is another model's"
        )


def _check_ids(task: Task) -> None:
    twice = [i for i, count in Counter(e.id for e in task.examples).items() if count > 1]
    if twice:
        raise ValueError(
            f"task {task.name!r} uses {len(twice)} ids more than once (first: {twice[0]!r}): give every example its own"
        )


def _refusal(task: Task, model: CircuitModel, dropped: Mapping[str, str]) -> str:
    where = {e.id: e.where() for e in task.examples}
    lines = [f"  {where[i]}: {why}" for i, why in list(dropped.items())[:SHOWN]]
    if len(dropped) > SHOWN:
        lines.append(f"  ... and {len(dropped) - SHOWN} more")
    count = f"{len(dropped)} of {len(task)} examples are bad"
    return "\n".join([f"task {task.name!r} does not fit {model.name}: {count}:", *lines])


def _task_cautions(task: Task, model: CircuitModel, dropped: Mapping[str, str]) -> list[str]:
    found = []
    if task.bos is True and model.tokenizer.bos_token_id is None:
        found.append("the task asks for a BOS token, and this tokenizer has none: prompts begin as they are")
    if dropped:
        first = next(iter(dropped.values()))
        found.append(f"{len(dropped)} examples do not fit {model.name} and were dropped (first: {first})")
    return found


def bind_both(
    task: Task, teacher: CircuitModel, *, student: CircuitModel, aligned: bool
) -> tuple[BoundTask, BoundTask]:
    """The task in tokens of teacher and student, with the examples that both can take and what was dropped for either.

    Raises ValueError for a person's task that neither can take whole, and where fewer than two examples are left.
    """
    lenient = replace(task, origin="generated")
    bound = [lenient.bind(model, aligned=aligned) for model in (teacher, student)]
    if task.origin == "file" and set(bound[0].dropped) & set(bound[1].dropped):
        task.bind(teacher, aligned=aligned)
    ids = [e.id for e in bound[0].examples if e.id not in bound[1].dropped]
    dropped = {**bound[0].dropped, **bound[1].dropped}
    if len(ids) < 2:
        why = f"; {len(dropped)} were dropped (first: {next(iter(dropped.values()))})" if dropped else ""
        raise ValueError(
            f"a comparison needs at least two examples, and {teacher.name} and {student.name} can both take {len(ids)} "
            f"of {task.name!r}{why}: give more prompts"
        )
    teacher_task, student_task = (replace(b.select(ids), dropped=dropped) for b in bound)
    return teacher_task, student_task
