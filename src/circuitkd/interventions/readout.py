"""From the last residual stream at the answer position to one number per example (semantics, section 1).

Logit difference: logit[correct] - logit[incorrect]; for sets of answers the logsumexp over each set (which is the
logit itself for a single answer). Only the rows of the unembedding that occur as answer or distractor are multiplied.
Accuracy (1 where the top token is an answer) and the answers' log-probability need the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from circuitkd.models import blocks, flops
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.tasks.binding import BoundExample
from circuitkd.tasks.metrics import accuracy, logit_difference, pack_ids


@dataclass(frozen=True, eq=False)
class Readout:
    """Which logits matter for each example of a batch.

    `token_ids` [k]: all answers and distractors of the batch, once each. `answers`, `distractors` [row, k]: 0 where
    the token belongs to the example's set and -inf elsewhere.
    """

    token_ids: Tensor
    answers: Tensor
    distractors: Tensor

    def values(self, model: CircuitModel, resid: Tensor) -> Tensor:
        """resid [component, row, d_model] at the answer position -> logit differences [component, row], float32 or
        wider."""
        found = blocks.logits(model, resid, self.token_ids)
        found = found.to(torch.promote_types(found.dtype, torch.float32))
        right = (found + self.answers.to(found)).logsumexp(-1)
        return right - (found + self.distractors.to(found)).logsumexp(-1)

    def flops(self, model: CircuitModel, rows: int) -> int:
        """Work of `values` for `rows` rows in all."""
        return flops.unembed_flops(model, rows, tokens=len(self.token_ids))


def readout(examples: Sequence[BoundExample]) -> Readout:
    """The readout of these examples."""
    ids = sorted({t for e in examples for t in (*e.answers, *e.distractors)})
    column = {t: i for i, t in enumerate(ids)}
    masks = torch.full((2, len(examples), len(ids)), float("-inf"))
    for row, example in enumerate(examples):
        masks[0, row, [column[t] for t in example.answers]] = 0.0
        masks[1, row, [column[t] for t in example.distractors]] = 0.0
    return Readout(torch.tensor(ids), masks[0], masks[1])


@dataclass(frozen=True, eq=False)
class VocabularyReadout:
    """A number for each example from all its logits: `function(logits [row, vocab], answers of each row)` -> [row]."""

    answers: tuple[tuple[int, ...], ...]
    function: Callable[[Tensor, Sequence[Sequence[int]]], Tensor]

    def values(self, model: CircuitModel, resid: Tensor) -> Tensor:
        """resid [component, row, d_model] at the answer position -> values [component, row], float32 or wider."""
        found = [self.function(blocks.logits(model, rows), self.answers) for rows in resid]
        return torch.stack(found).to(torch.promote_types(resid.dtype, torch.float32))

    def flops(self, model: CircuitModel, rows: int) -> int:
        """Work of `values` for `rows` rows in all."""
        return flops.unembed_flops(model, rows)


@dataclass(frozen=True)
class Performance:
    """A measure of how well a model does a task: what it is in words, and its readout for some examples."""

    definition: str
    readout: Callable[[Sequence[BoundExample]], Readout | VocabularyReadout]


def _log_probability(logits: Tensor, answers: Sequence[Sequence[int]]) -> Tensor:
    ids, mask = (x.to(logits.device) for x in pack_ids(answers))
    return logit_difference(logits.gather(-1, ids), logits, answer_mask=mask)


def _of_vocabulary(function: Callable[[Tensor, Sequence[Sequence[int]]], Tensor]) -> Callable[..., VocabularyReadout]:
    return lambda examples: VocabularyReadout(tuple(e.answers for e in examples), function)


PERFORMANCES: dict[str, Performance] = {
    "logit-difference": Performance("logit[answer] - logit[distractor] at the answer position", readout),
    "accuracy": Performance("share of examples whose top token is an answer", _of_vocabulary(accuracy)),
    "log-probability": Performance("log of the answers' probability", _of_vocabulary(_log_probability)),
}
