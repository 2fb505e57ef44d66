"""What a head would write for what it looks at: successor and copy tests of its OV circuit (DC J.3.1, Lan et al. 2024,
Gould et al. 2024).

Through weights (`ov_test`): the members of strings "i i+1 i+2 i+3" run through block 0; for every head

    top 5 of unembed(ln_f(OV_h(ln_1(residual stream after block 0))))       with the head's own ln_1

at every member's token. Successor score: share of tokens whose next member is there; copy score: share for which the
member itself is. A member counts in either spelling, with and without a space before it. The OV map has the value bias
and not the bias of the output projection, which no head owns.

On prompts (`ov_test_on_prompts`, as DC J.3.1 says): the top 5 of unembed(ln_f(z_h W_O,h)) at the answer position;
successor: an answer is there, copy: a distractor (in sequences the last given member) is there.

Limits: the first test asks every head for the same input, also heads that never look at numbers; in encoders without
pre-norm the stream is read as it is, and ln_f is the head of the language model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from circuitkd.components import Component
from circuitkd.interventions.capture import batches, make_batch, walk_batch
from circuitkd.interventions.execution import Execution, plan
from circuitkd.models import blocks
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.tasks.base import Example, Task
from circuitkd.tasks.binding import BoundTask, encode
from circuitkd.tasks.label_positions import label_positions
from circuitkd.tasks.sequences import LENGTH, NUMERALS

Floats = NDArray[np.float64]
TOP = 5


@dataclass(frozen=True, eq=False)
class OvTest:
    """`successor`, `copy` [head]: shares in [0, 1] of `tested` tokens. `chance`: what one random top 5 would reach for
    one spelling. `definition`: what was put in and asked for."""

    model: str
    heads: tuple[Component, ...]
    successor: Floats
    copy: Floats
    tested: int
    chance: float
    definition: str

    def to_pandas(self) -> pd.DataFrame:
        """One row a head."""
        names = [str(h) for h in self.heads]
        return pd.DataFrame({"head": names, "successor": self.successor, "copy": self.copy})


@dataclass(frozen=True)
class _String:
    """Tokens of a string, its members, and where they are."""

    ids: tuple[int, ...]
    members: tuple[str, ...]
    places: tuple[int, ...]


def ov_test(model: CircuitModel, alphabet: Sequence[str] = NUMERALS) -> OvTest:
    """Successor and copy scores through the weights, over the members of `alphabet` in order.

    Raises ValueError when no string of four neighbours is made of single tokens.
    """
    spelled = {member: _spellings(member, model) for member in alphabet}
    windows = [tuple(alphabet[i : i + LENGTH]) for i in range(len(alphabet) - LENGTH + 1)]
    strings = [found for members in windows if (found := _string(model, members, spelled))]
    if not strings:
        raise ValueError(
            f"{model.name}: no {LENGTH} neighbours of {', '.join(alphabet[:LENGTH])}, ... are single tokens, so OV tests "
            "have nothing to read: give another alphabet"
        )
    following = dict(pairwise(alphabet))
    asked = [member for string in strings for member in string.members]
    has_next = np.array([bool(spelled.get(following.get(member, ""))) for member in asked])
    copy, successor = [], []
    with torch.inference_mode():
        for output in _outputs_after_block_0(model, strings):
            top = _top_tokens(model, output)
            copy.append(np.mean([bool(spelled[m] & t) for m, t in zip(asked, top, strict=True)]))
            follows = [bool(spelled[following.get(m, m)] & t) for m, t in zip(asked, top, strict=True)]
            successor.append(np.mean(np.array(follows)[has_next]))
    what = f"members of strings of {LENGTH} neighbours of {alphabet[0]} ... {alphabet[-1]}, after block 0"
    return _result(model, (successor, copy), tested=int(has_next.sum()), what=what)


def ov_test_on_prompts(model: CircuitModel, task: Task | BoundTask, *, execution: Execution | None = None) -> OvTest:
    """Shares of prompts whose answer (`successor`) or distractor (`copy`) each head's output at the answer position
    has in its top 5."""
    bound = task.bind(model, aligned=False) if isinstance(task, Task) else task
    size = plan(model, bound, execution=execution or Execution()).batch_size
    hits = np.zeros((2, model.n_layers, model.n_heads))
    with torch.inference_mode():
        for rows in batches(bound, size):
            batch = make_batch(bound, rows)
            for state in walk_batch(model, batch):
                z = blocks.at_positions(state.z, batch.positions)[:, 0].unflatten(-1, (model.n_heads, model.d_head))
                for head, weights in enumerate(blocks.output_matrices(model, state.layer)):
                    pairs = list(zip(batch.examples, _top_tokens(model, z[:, head] @ weights), strict=True))
                    hits[0, state.layer, head] += sum(bool(t & set(e.answers)) for e, t in pairs)
                    hits[1, state.layer, head] += sum(bool(t & set(e.distractors)) for e, t in pairs)
    shares = hits.reshape(2, -1) / len(bound)
    return _result(model, shares, tested=len(bound), what=f"the answer position of the clean prompts of {bound.name}")


def _spellings(member: str, model: CircuitModel) -> frozenset[int]:
    """The single tokens that spell a member, with a space before it and without."""
    alone = [model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (member, f" {member}")]
    return frozenset(ids[0] for ids in alone if len(ids) == 1 and ids[0] != model.tokenizer.unk_token_id)


def _string(model: CircuitModel, members: tuple[str, ...], spelled: dict[str, frozenset[int]]) -> _String | None:
    """The string of these members, or None where one of them is not a single token of this model."""
    text = " ".join(members)
    ids = encode(text, model)
    example = Example("string", text, text, "", "", labels={str(i): i for i in range(len(members))})
    found = label_positions(example, text, ids=ids, model=model)
    places = tuple(found[str(i)][0] for i in range(len(members)))
    single = all(ids[place] in spelled[m] for m, place in zip(members, places, strict=True))
    return _String(tuple(ids), members, places) if single else None


def _outputs_after_block_0(model: CircuitModel, strings: Sequence[_String]) -> Iterator[Tensor]:
    """What every head writes for each member's token alone [string x member, d_model], head by head."""
    width = max(len(s.ids) for s in strings)
    tokens = torch.tensor([[*s.ids, *s.ids[:1] * (width - len(s.ids))] for s in strings])
    resid, context = blocks.embed(model, tokens, torch.tensor([len(s.ids) for s in strings]))
    resid = blocks.block(model, 0, resid, context)
    rows, places = torch.arange(len(strings))[:, None], torch.tensor([s.places for s in strings])
    for layer in range(model.n_layers):
        values = blocks.values(model, layer, blocks.attention_input(model, layer, resid))
        values = blocks.expand_groups(model, values)[rows, :, places]
        for head, weights in enumerate(blocks.output_matrices(model, layer)):
            yield values[:, :, head].flatten(0, 1) @ weights


def _top_tokens(model: CircuitModel, outputs: Tensor) -> list[set[int]]:
    """The TOP tokens of outputs [row, d_model] through the final norm and the unembedding."""
    return [set(row) for row in blocks.logits(model, outputs).topk(TOP, dim=-1).indices.tolist()]


def _result(model: CircuitModel, shares: ArrayLike, *, tested: int, what: str) -> OvTest:
    successor, copy = np.asarray(shares, dtype=np.float64)
    return OvTest(
        model=model.name,
        heads=tuple(c for c in model.components if c.kind == "head"),
        successor=successor,
        copy=copy,
        tested=tested,
        chance=TOP / model.vocab_size,
        definition=f"top {TOP} of the unembedding of each head's output for {what}",
    )
