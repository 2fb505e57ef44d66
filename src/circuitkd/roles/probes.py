"""At which layer a model knows what: linear probes on the residual stream, or on one head's value vectors (DC 3.1.3,
Appendix J).

What is asked, and where, is in `probe_targets.py`; how the probes are trained, in `linear_probes.py`. Features are those of
every layer's resid_mid (after attention, before the MLP); with `head`, the value vectors of that head of every layer.
80 % of the prompts train, 20 % test: an example's two prompts, and prompts of the same text, stay on one side.

Beside each score stand two controls. `control`: probes trained and tested on shuffled labels, which must sit at chance.
`embedding`: the same probe on the embedding, before any attention: what token and position alone give away. A target
that is known there says nothing about the layers.

Limits: a probe finds what could be read, not what the model reads; a score of 20 test prompts has a standard error of
about 0.1. Parallel blocks have no resid_mid: theirs is the entering stream plus the attention output. Post-norm blocks:
after the norm. Under grouped-query attention a head's values are those of its K/V group.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

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
from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import BoundTask

SHUFFLES, TEST_SHARE, FEWEST = 8, 0.2, 10
MEASURES = {"classes": "balanced accuracy", "labels": "AUROC"}


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """Probes of all targets at all layers of one model.

    `scores`, `control`, `control_std` [target, layer]: on held-out prompts; mean and standard deviation over shuffles of
    the labels. `embedding`, `chance` [target]. `measures` [target]: what the score is. `outputs`, `train_rows`,
    `test_rows` [target]: classes or labels told apart, and rows. `features`: what the probes read. `left_out`: target ->
    why it could not be asked for.
    """

    model: str
    task: str
    features: str
    layers: tuple[int, ...]
    targets: tuple[str, ...]
    measures: tuple[str, ...]
    scores: Floats
    control: Floats
    control_std: Floats
    embedding: Floats
    chance: Floats
    outputs: NDArray[np.int64]
    train_rows: NDArray[np.int64]
    test_rows: NDArray[np.int64]
    left_out: dict[str, str]
    definition: str

    def to_pandas(self) -> pd.DataFrame:
        """One row for each target and layer."""
        rows = [
            {"target": target, "layer": layer, "measure": self.measures[i]}
            | {name: float(getattr(self, name)[i, j]) for name in ("scores", "control", "control_std")}
            | {name: float(getattr(self, name)[i]) for name in ("embedding", "chance")}
            for i, target in enumerate(self.targets)
            for j, layer in enumerate(self.layers)
        ]
        return pd.DataFrame(rows).rename(columns={"scores": "score"})


def probe(
    model: CircuitModel,
    task: Task | BoundTask,
    *,
    head: int | None = None,
    seed: int = 0,
    execution: Execution | None = None,
) -> ProbeResult:
    """Train and test probes of every target at every layer.

    Raises ValueError for a head that the model doesn't have, fewer than 10 different prompts, and a task whose targets all
    have a single class.
    """
    if head is not None and not 0 <= head < model.n_heads:
        raise ValueError(f"{model.name} has no head {head}: its layers have the heads 0 to {model.n_heads - 1}")
    bound = task.bind(model, aligned=False) if isinstance(task, Task) else task
    is_train = split(bound, seed=seed)
    targets, left_out = find_targets(bound, seed=seed)
    encoded: list[tuple[Target, Outputs]] = []
    for target in targets:
        try:
            sides = np.array([is_train[p.example] for p in target.places])
            encoded.append((target, encode(target.labels, kind=target.kind, is_train=sides)))
        except SingleClass as error:
            left_out[target.name] = str(error)
    if not encoded:
        raise ValueError(
            f"{bound.name!r} has nothing to probe for: " + "; ".join(f"{k}: {v}" for k, v in left_out.items())
        )
    places = {p: i for i, p in enumerate(dict.fromkeys(p for target, _ in encoded for p in target.places))}
    embedding, features = _features(model, bound, places=places, head=head, execution=execution or Execution())
    found = [_curves(embedding, features, target=t, outputs=o, places=places, seed=seed) for t, o in encoded]
    return ProbeResult(
        model=model.name,
        task=bound.name,
        features="resid_mid" if head is None else f"values of head {head}",
        layers=tuple(range(model.n_layers)),
        targets=tuple(t.name for t, _ in encoded),
        measures=tuple(MEASURES[o.kind] for _, o in encoded),
        scores=np.stack([scores[1:] for scores, _ in found]),
        control=np.stack([control[:, 1:].mean(axis=0) for _, control in found]),
        control_std=np.stack([control[:, 1:].std(axis=0) for _, control in found]),
        embedding=np.array([scores[0] for scores, _ in found]),
        chance=np.array([o.chance for _, o in encoded]),
        outputs=np.array([o.values.shape[1] for _, o in encoded]),
        train_rows=np.array([o.is_train.sum() for _, o in encoded]),
        test_rows=np.array([(~o.is_train).sum() for _, o in encoded]),
        left_out=left_out,
        definition=(
            f"linear, Adam {RATE:g}, {EPOCHS} epochs, batches of {BATCH}, {1 - TEST_SHARE:.0%} of the prompts for training, "
            f"standardised features, balanced classes, {SHUFFLES} shuffles, seed {seed}"
        ),
    )


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


def _curves(
    embedding: Tensor, features: Tensor, *, target: Target, outputs: Outputs, places: dict[Place, int], seed: int
) -> tuple[Floats, Floats]:
    """Scores [1 + layer] and controls [shuffle, 1 + layer] of one target, the embedding first."""
    rows = [places[target.places[i]] for i in outputs.rows]
    same_width = embedding.shape[-1] == features.shape[-1]
    together = [torch.cat([embedding, features])] if same_width else [embedding, features]
    found = [probe_scores(x[:, rows], outputs, shuffles=SHUFFLES, seed=seed) for x in together]
    return np.concatenate([s for s, _ in found]), np.concatenate([c for _, c in found], axis=1)


def _features(
    model: CircuitModel, task: BoundTask, *, places: dict[Place, int], head: int | None, execution: Execution
) -> tuple[Tensor, Tensor]:
    """The embedding [1, place, d_model] and what the probes read [layer, place, d] at these places, float32."""
    width = model.d_model if head is None else model.d_head
    embedding = torch.zeros(1, len(places), model.d_model, device=model.device)
    features = torch.zeros(model.n_layers, len(places), width, device=model.device)
    with torch.inference_mode():
        for batch, found in _batches(model, task, places, execution=execution):
            rows, positions, to = (torch.tensor(column) for column in zip(*found, strict=True))
            for state in walk_batch(model, batch):
                if state.layer == 0:
                    embedding[0, to] = state.resid_pre[rows, positions].to(embedding)
                features[state.layer, to] = _read(model, state, head)[rows, positions].to(features)
    return embedding, features


def _read(model: CircuitModel, state: LayerState, head: int | None) -> Tensor:
    return state.resid_mid if head is None else state.v[:, head * model.n_kv_heads // model.n_heads]


def _batches(
    model: CircuitModel, task: BoundTask, places: dict[Place, int], *, execution: Execution
) -> Iterable[tuple[Batch, list[tuple[int, int, int]]]]:
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
        execution.report("probes", done + 1, total=len(both))
