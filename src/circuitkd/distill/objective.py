"""What a student is trained on: a task loss, an alignment of head pairs with its teacher, and a robustness term.

Task losses, each a mean over rows at the answer position: "teacher-labels" (CE on the teacher's top token, as CD),
"ground-truth" (minus the log-probability of the right answers), "kl" (T^2 KL at temperature T), or none.

Alignments, each added with a weight: "cka" (CD: the sum over pairs of 1 - CKA), and "surrogate" **[ours]**: 1 - A, with
A the mean over pairs of S (1 - |I_T - I_S|) (DC Eq. 8), S being CKA and the student's influences estimated to first order
from the batch (one more backward pass; ablation by the batch's mean at each position). I_T is measured beforehand.

`head_ablation` **[ours]**: in every training forward each head is replaced, with this probability, by its mean over the
batch at each position (no gradient through it), so that the student does not hang on one head. Batches of one row are
then not disturbed at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from circuitkd.comparison.checks import one_of
from circuitkd.components import Component
from circuitkd.distill.losses import REDUCTIONS, answer_loss, label_loss, softened_loss
from circuitkd.distill.signals import POINTS, Needs, Points, Signals

Kind = Literal["cka", "surrogate"]
KINDS: tuple[Kind, ...] = ("cka", "surrogate")


@dataclass(frozen=True)
class Alignment:
    """Pairs (student head, teacher head) and how they are aligned.

    `points`: the rows of CKA, the answer position of each prompt or all its real tokens. `gather_rows`: CKA over the rows
    of all processes and accumulation steps instead of those of one micro-batch. `teacher_influence` [pair]: I_T in
    [0, 1], for the surrogate.
    """

    pairs: tuple[tuple[Component, Component], ...]
    weight: float = 1.0
    kind: Kind = "cka"
    debiased: bool = False
    reduction: str = "sum"
    points: Points = "answer"
    gather_rows: bool = False
    teacher_influence: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        one_of(self.kind, KINDS, name="kind of alignment")
        one_of(self.reduction, REDUCTIONS, name="reduction")
        one_of(self.points, POINTS, name="rows of CKA")
        if not self.pairs:
            raise ValueError("no heads are selected: an alignment needs at least one pair (student head, teacher head)")
        if not self.weight >= 0:
            raise ValueError(f"the weight of the alignment must be at least 0, not {self.weight}")
        if self.kind == "surrogate" and (self.gather_rows or len(self.teacher_influence) != len(self.pairs)):
            raise ValueError("the surrogate needs the teacher_influence of each pair, and works without gather_rows")

    @property
    def student_heads(self) -> tuple[Component, ...]:
        """The student head of each pair."""
        return tuple(student for student, _ in self.pairs)

    @property
    def teacher_heads(self) -> tuple[Component, ...]:
        """The teacher head of each pair."""
        return tuple(teacher for _, teacher in self.pairs)


@dataclass(frozen=True)
class Objective:
    """A training loss (module docstring). `temperature` is that of "kl"."""

    task_loss: str | None = "teacher-labels"
    temperature: float = 2.0
    alignment: Alignment | None = None
    head_ablation: float = 0.0

    def __post_init__(self) -> None:
        one_of(self.task_loss, (*TASK_LOSSES, None), name="task loss")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, not {self.temperature}")
        if not 0 <= self.head_ablation < 1:
            raise ValueError(f"head_ablation is a probability below 1, not {self.head_ablation}")
        if self.task_loss is None and self.active_alignment is None:
            raise ValueError("nothing to train on: give a task loss, or an alignment with a weight above 0")

    @property
    def active_alignment(self) -> Alignment | None:
        """The alignment where it has weight."""
        return self.alignment if self.alignment is not None and self.alignment.weight > 0 else None

    def needs(self, *, evaluation: bool = False) -> Needs:
        """What training on it asks of the teacher; evaluation always compares labels and aligned heads."""
        shown = self.alignment if evaluation else self.active_alignment
        return Needs(
            heads=shown.teacher_heads if shown else (),
            points=shown.points if shown and not evaluation else "answer",
            labels=evaluation or self.task_loss == "teacher-labels",
            logits=self.task_loss == "kl",
        )

    def task_losses(self, logits: Tensor, batch: Mapping[str, Any], *, signals: Signals) -> Tensor:
        """The task loss of each row [row] from the student's logits [row, vocab] at the answers."""
        assert self.task_loss is not None
        return TASK_LOSSES[self.task_loss](self, logits, batch, signals)


def _on_labels(objective: Objective, logits: Tensor, batch: Mapping[str, Any], signals: Signals) -> Tensor:
    assert signals.labels is not None
    return label_loss(logits, signals.labels.to(logits.device))


def _on_answers(objective: Objective, logits: Tensor, batch: Mapping[str, Any], signals: Signals) -> Tensor:
    return answer_loss(logits, batch["answers"].to(logits.device))


def _on_logits(objective: Objective, logits: Tensor, batch: Mapping[str, Any], signals: Signals) -> Tensor:
    assert signals.logits is not None
    return softened_loss(logits, signals.logits.to(logits.device), temperature=objective.temperature)


TASK_LOSSES: dict[str, Callable[[Objective, Tensor, Mapping[str, Any], Signals], Tensor]] = {
    "teacher-labels": _on_labels,
    "ground-truth": _on_answers,
    "kl": _on_logits,
}
