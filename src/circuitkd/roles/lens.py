"""Where the answer appears: logit lens per layer, and what attention and MLP of every layer add at every token (DC 3.2.2,
Appendix F, Figures 10, 11). Direct logit attribution per component is in `direct_attribution.py`.

Logit lens: the residual stream after a block, read as if it were the last (final norm, head, unembedding), at the answer
position. The last layer's is the model's own output.

Contributions: differences of adjacent residual streams (attention: resid_mid - resid_pre, MLP: resid_post - resid_mid),
at every position, as two numbers

    size     length of the difference / length of the stream before it
    logits   logit difference of answer and distractor read off by the lens, after minus before

At the answer position the logits of all parts, with those of the embedding (`start`), sum to the model's logit
difference. Mean over prompts of one length; prompts of other lengths are left out and named.

Limits: early layers need not write in the directions that the unembedding reads, so a lens may miss what is there (ask
`probes.py`); at other positions the lens shows what is written in the answer's direction, not what reaches the answer.
Post-norm blocks: streams are read after their norms, so a difference includes what the norm does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuitkd.interventions.capture import batches, make_batch, walk_batch
from circuitkd.interventions.execution import Execution, plan
from circuitkd.interventions.readout import Readout, readout
from circuitkd.models import blocks
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.roles.equal_length import equal_length
from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import BoundTask
from circuitkd.tasks.metrics import pack_ids

Floats = NDArray[np.float64]
PARTS = ("attention", "mlp")


@dataclass(frozen=True, eq=False)
class LogitLens:
    """The answer in the residual stream after every layer, at the answer position.

    `rank` [layer, example]: 1 + the number of tokens that are more likely than the (most likely) answer. `probability`
    [layer, example]: of the answers together.
    """

    model: str
    task: str
    layers: tuple[int, ...]
    rank: NDArray[np.int64]
    probability: Floats

    @property
    def top_share(self) -> Floats:
        """Share of the prompts whose answer is the most likely token [layer]."""
        return np.asarray((self.rank == 1).mean(axis=1))

    @property
    def appears(self) -> int | None:
        """The first layer from which on the answer is the most likely token for at least half of the prompts; None when
        it is not so at the end."""
        missing = np.flatnonzero(self.top_share < 0.5)
        first = int(missing[-1]) + 1 if len(missing) else 0
        return self.layers[first] if first < len(self.layers) else None

    def to_pandas(self) -> pd.DataFrame:
        """One row for each layer."""
        columns = {
            "layer": self.layers,
            "median_rank": np.median(self.rank, axis=1),
            "top_share": self.top_share,
            "mean_probability": self.probability.mean(axis=1),
        }
        return pd.DataFrame(columns)


@dataclass(frozen=True, eq=False)
class StreamContributions:
    """What attention and MLP of every layer add to the residual stream at every position, averaged over `prompts`
    prompts (definitions in the module docstring).

    `positions` [pos]: their names. `size`, `logits` [part, layer, pos], the parts being attention and MLP. `start`
    [pos]: logit difference of the embedding. `left_out`: id -> why an example was not used.
    """

    model: str
    task: str
    layers: tuple[int, ...]
    positions: tuple[str, ...]
    size: Floats
    logits: Floats
    start: Floats
    prompts: int
    left_out: dict[str, str]

    def to_pandas(self) -> pd.DataFrame:
        """One row for each part, layer and position."""
        rows = [
            (part, layer, place, name, self.size[i, j, place], self.logits[i, j, place])
            for i, part in enumerate(PARTS)
            for j, layer in enumerate(self.layers)
            for place, name in enumerate(self.positions)
        ]
        return pd.DataFrame(rows, columns=["part", "layer", "position", "token", "size", "logits"])


def logit_lens(model: CircuitModel, task: Task | BoundTask, *, execution: Execution | None = None) -> LogitLens:
    """Rank and probability of the answer after every layer of the clean prompts."""
    bound = task.bind(model, aligned=False) if isinstance(task, Task) else task
    execution = execution or Execution()
    size, done = plan(model, bound, execution=execution).batch_size, 0
    rank = np.zeros((model.n_layers, len(bound)), dtype=np.int64)
    probability = np.zeros((model.n_layers, len(bound)))
    with torch.inference_mode():
        for rows in batches(bound, size):
            batch = make_batch(bound, rows)
            answers = [e.answers for e in batch.examples]
            for state in walk_batch(model, batch):
                logits = blocks.logits(model, blocks.at_positions(state.resid_post, batch.positions)[:, 0])
                rank[state.layer, list(rows)], probability[state.layer, list(rows)] = _standing(logits, answers)
            done += len(rows)
            execution.report("logit lens", done, total=len(bound))
    return LogitLens(model.name, bound.name, tuple(range(model.n_layers)), rank, probability)


def _standing(logits: Tensor, answers: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], Floats]:
    """Rank of the best answer and probability of all [row], from logits [row, vocab]."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    ids, mask = (x.to(logits.device) for x in pack_ids(answers))
    # Gaps repeat a token of the row's own set, so they may take part in the maximum, but not in the sum.
    best = logits.gather(-1, ids).amax(-1, keepdim=True)
    probability = (logits.softmax(-1).gather(-1, ids) * mask).sum(-1)
    return (1 + (logits > best).sum(-1)).cpu().numpy(), probability.cpu().double().numpy()


def stream_contributions(
    model: CircuitModel, task: Task | BoundTask, *, execution: Execution | None = None
) -> StreamContributions:
    """Contributions per layer and token on the clean prompts of the most frequent length."""
    chosen, execution = equal_length(model, task), execution or Execution()
    bound, done = chosen.task, 0
    width = len(chosen.positions)
    size, logits = np.zeros((2, model.n_layers, width)), np.zeros((2, model.n_layers, width))
    start = np.zeros(width)
    with torch.inference_mode():
        for rows in batches(bound, plan(model, bound, execution=execution).batch_size):
            batch = make_batch(bound, rows)
            wanted, before = readout(batch.examples), np.zeros(0)
            for state in walk_batch(model, batch):
                if state.layer == 0:
                    before = _difference(model, state.resid_pre, wanted)
                    start += before
                streams = (state.resid_pre, state.resid_mid, state.resid_post)
                for part in range(2):
                    size[part, state.layer] += _relative_size(streams[part], streams[part + 1])
                    after = _difference(model, streams[part + 1], wanted)
                    logits[part, state.layer] += after - before
                    before = after
            done += len(rows)
            execution.report("contributions", done, total=len(bound))
    layers, n = tuple(range(model.n_layers)), len(bound)
    found = (size / n, logits / n, start / n)
    return StreamContributions(model.name, bound.name, layers, chosen.positions, *found, n, chosen.left_out)


def _difference(model: CircuitModel, resid: Tensor, wanted: Readout) -> Floats:
    """Logit differences read off the stream [row, pos, d_model], summed over rows [pos]."""
    return np.asarray(wanted.values(model, resid.transpose(0, 1)).sum(1).cpu().double().numpy())


def _relative_size(before: Tensor, after: Tensor) -> Floats:
    """Length of the difference over the length before, summed over rows [pos]; 0 where there is nothing before."""
    wide = torch.promote_types(after.dtype, torch.float32)
    before, after = before.to(after.device, wide), after.to(wide)
    length = before.norm(dim=-1)
    found = torch.where(length > 0, (after - before).norm(dim=-1) / length, torch.zeros_like(length))
    return np.asarray(found.sum(0).cpu().double().numpy())
