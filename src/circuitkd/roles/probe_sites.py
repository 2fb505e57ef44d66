"""What the linear probes of one model share, wherever they read: which prompts train, what is asked at which positions,
and the scores beside those of shuffled labels.

A site is what a probe reads: the residual stream of a layer (`probes.py`), or the value vectors of a head
(`head_probes.py`). What is asked is in `probe_targets.py`; how probes are trained, in `linear_probes.py`. 80 % of the
prompts train, 20 % test: an example's two prompts, and prompts of the same text, stay on one side.

Limit: as many sites are trained at a time as `TOGETHER` allows; how many changes no score but by rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuitkd.interventions.capture import Batch, LayerState, Prompts, batches, make_batch, walk_batch
from circuitkd.interventions.execution import Execution, plan
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.roles.linear_probes import BATCH, EPOCHS, RATE, Bools, Floats, Outputs, SingleClass, encode, probe_scores
from circuitkd.roles.probe_targets import Place, Target, find_targets
from circuitkd.tasks.binding import BoundTask

SHUFFLES, TEST_SHARE, FEWEST = 8, 0.2, 10
TOGETHER = 1 << 24  # weights and predictions of the probes that are trained at a time
MEASURES = {"classes": "balanced accuracy", "labels": "AUROC"}
Where = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Questions:
    """`asked`: each target with its outputs. `places`: all positions that are asked about, numbered. `left_out`: target ->
    why it could not be asked for. `seed`: of the split, of shuffles and of the order in training."""

    task: str
    asked: tuple[tuple[Target, Outputs], ...]
    places: dict[Place, int]
    left_out: dict[str, str]
    seed: int


@dataclass(frozen=True, eq=False)
class ProbeScores:
    """Probes of all targets at all sites of one model.

    `scores`, `control`, `control_std` [target, site]: on held-out prompts; mean and standard deviation over shuffles of
    the labels. `chance` [target]. `measures` [target]: what the score is. `outputs`, `train_rows`, `test_rows` [target]:
    classes or labels told apart, and rows. `left_out`: target -> why it could not be asked for.
    """

    model: str
    task: str
    targets: tuple[str, ...]
    measures: tuple[str, ...]
    scores: Floats
    control: Floats
    control_std: Floats
    chance: Floats
    outputs: NDArray[np.int64]
    train_rows: NDArray[np.int64]
    test_rows: NDArray[np.int64]
    left_out: dict[str, str]
    definition: str

    def table(self, **sites: Sequence[Any]) -> pd.DataFrame:
        """One row for each target and site; `sites`: columns that say which site it is."""
        columns = ("scores", "control", "control_std")
        rows = [
            {"target": target}
            | {name: values[j] for name, values in sites.items()}
            | {"measure": self.measures[i]}
            | {name: float(getattr(self, name)[i, j]) for name in columns}
            | {"chance": float(self.chance[i])}
            for i, target in enumerate(self.targets)
            for j in range(self.scores.shape[1])
        ]
        return pd.DataFrame(rows).rename(columns={"scores": "score"})


def questions(task: BoundTask, *, seed: int) -> Questions:
    """All that the task's prompts can be asked.

    Raises ValueError for fewer than 10 different prompts, and a task whose targets all have a single class.
    """
    is_train = split(task, seed=seed)
    targets, left_out = find_targets(task, seed=seed)
    asked: list[tuple[Target, Outputs]] = []
    for target in targets:
        try:
            sides = np.array([is_train[p.example] for p in target.places])
            asked.append((target, encode(target.labels, kind=target.kind, is_train=sides)))
        except SingleClass as error:
            left_out[target.name] = str(error)
    if not asked:
        raise ValueError(
            f"{task.name!r} has nothing to probe for: " + "; ".join(f"{k}: {v}" for k, v in left_out.items())
        )
    places = {p: i for i, p in enumerate(dict.fromkeys(p for target, _ in asked for p in target.places))}
    return Questions(task.name, tuple(asked), places, left_out, seed)


def split(task: BoundTask, *, seed: int) -> Bools:
    """Which examples train [example]; 20 % of the different clean prompts, at least one, do not.

    Raises ValueError for fewer than 10 different prompts.
    """
    texts = sorted({e.clean for e in task.examples})
    if len(texts) < FEWEST:
        raise ValueError(
            f"{task.name!r} has {len(texts)} different prompts, and probes need {FEWEST} or more: give more"
        )
    order = np.random.default_rng(seed).permutation(len(texts))
    held_out = {texts[i] for i in order[: round(TEST_SHARE * len(texts))]}
    return np.array([e.clean not in held_out for e in task.examples])


def states_at(
    model: CircuitModel, task: BoundTask, *, places: dict[Place, int], label: str, execution: Execution
) -> Iterator[tuple[LayerState, Where, Tensor]]:
    """The state of every layer of every batch, with (row, position) of the wanted places in it, and their numbers."""
    for batch, found in _batches(model, task, places, label=label, execution=execution):
        rows, positions, to = (torch.tensor(column) for column in zip(*found, strict=True))
        for state in walk_batch(model, batch):
            yield state, (rows, positions), to


def probe_sites(features: Tensor, asked: Questions) -> tuple[Floats, Floats]:
    """features [site, place, d] -> scores [target, site], and those of shuffled labels [target, shuffle, site]."""
    found = [_one_target(features, target, outputs, asked=asked) for target, outputs in asked.asked]
    return np.stack([scores for scores, _ in found]), np.stack([control for _, control in found])


def _one_target(features: Tensor, target: Target, outputs: Outputs, *, asked: Questions) -> tuple[Floats, Floats]:
    """Scores [site] and controls [shuffle, site]."""
    rows = [asked.places[target.places[i]] for i in outputs.rows]
    size = sites_together(features.shape[2], rows=len(rows), outputs=outputs.values.shape[1])
    found = [probe_scores(some[:, rows], outputs, shuffles=SHUFFLES, seed=asked.seed) for some in features.split(size)]
    return np.concatenate([s for s, _ in found]), np.concatenate([c for _, c in found], axis=1)


def sites_together(width: int, *, rows: int, outputs: int) -> int:
    """How many sites of this width are trained at a time, at least one."""
    return max(1, TOGETHER // ((width + rows) * outputs * (SHUFFLES + 1)))


def common_fields(model: CircuitModel, asked: Questions, *, scores: Floats, controls: Floats) -> dict[str, Any]:
    """The fields of `ProbeScores`, of what `probe_sites` gives."""
    outputs = [o for _, o in asked.asked]
    return {
        "model": model.name,
        "task": asked.task,
        "targets": tuple(t.name for t, _ in asked.asked),
        "measures": tuple(MEASURES[o.kind] for o in outputs),
        "scores": scores,
        "control": controls.mean(axis=1),
        "control_std": controls.std(axis=1),
        "chance": np.array([o.chance for o in outputs]),
        "outputs": np.array([o.values.shape[1] for o in outputs]),
        "train_rows": np.array([o.is_train.sum() for o in outputs]),
        "test_rows": np.array([(~o.is_train).sum() for o in outputs]),
        "left_out": asked.left_out,
        "definition": (
            f"linear, Adam {RATE:g}, {EPOCHS} epochs, batches of {BATCH}, {1 - TEST_SHARE:.0%} of the prompts for training, "
            f"standardised features, balanced classes, {SHUFFLES} shuffles, seed {asked.seed}"
        ),
    }


def _batches(
    model: CircuitModel, task: BoundTask, places: dict[Place, int], *, label: str, execution: Execution
) -> Iterator[tuple[Batch, list[tuple[int, int, int]]]]:
    """Batches of prompts with the wanted places in them: (row of the batch, position, number of the place)."""
    size = plan(model, task, execution=execution).batch_size
    both: tuple[Prompts, Prompts] = ("clean", "corrupted")
    for done, prompts in enumerate(both):
        wanted: dict[int, list[Place]] = {}
        for place in places:
            if place.prompts == prompts:
                wanted.setdefault(place.example, []).append(place)
        some = replace(task, examples=tuple(task.examples[i] for i in wanted))
        numbers = list(wanted)
        for rows in batches(some, size, prompts=prompts):
            batch = make_batch(some, rows, prompts=prompts)
            yield batch, [(r, p.position, places[p]) for r, i in enumerate(rows) for p in wanted[numbers[i]]]
        execution.report(label, done + 1, total=len(both))
