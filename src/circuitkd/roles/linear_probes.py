"""Linear probes trained all at once: every site (layer) and every shuffle of the labels is a slice of one batched
matrix product.

A probe is a linear map of standardised features. Classes: softmax, cross-entropy, every class with the same total weight;
score: balanced accuracy (mean recall), chance 1 / classes. Labels: a sigmoid and logistic loss for each, yes and no with
the same total weight; score: AUROC, averaged over the labels, chance 1/2. Adam 1e-3, 20 epochs (DC Appendix J); batches of
16 rows and zero as the start are ours. The losses of the slices are added, so their gradients don't mix and Adam acts on
each number alone: every probe becomes what it would become on its own.

Features are centred and scaled by the training rows, without which the growth of the residual stream over the layers would
look like growing decodability: 20 epochs take small features nowhere.

AUROC by ranks (Mann-Whitney): (sum of the positives' ranks - P (P + 1) / 2) / (P N), ties counting one half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from circuitkd.roles.probe_targets import Kind

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
EPOCHS, RATE, BATCH = 20, 1e-3, 16


class SingleClass(ValueError):
    """There is nothing to tell apart."""


@dataclass(frozen=True, eq=False)
class Outputs:
    """`values` [row, output]: 1 where the row has the class or label. `rows`: which rows of the input they are.
    `is_train` [row]."""

    kind: Kind
    values: Tensor
    rows: NDArray[np.intp]
    is_train: Bools

    @property
    def chance(self) -> float:
        """The score of guessing."""
        return 1.0 / self.values.shape[1] if self.kind == "classes" else 0.5


def encode(labels: Sequence[frozenset[int]], *, kind: Kind, is_train: Bools) -> Outputs:
    """Outputs of labels [row], without those that cannot be both learned and tested: classes that are not on both sides
    of the split (with their rows), and labels that one side has everywhere or nowhere.

    Raises SingleClass when fewer than two classes, or no label, are left.
    """
    names = sorted(frozenset().union(*labels))
    values = np.array([[name in row for name in names] for row in labels], dtype=bool).reshape(len(labels), -1)
    sides = [values[is_train], values[~is_train]]
    usable = np.all([side.any(axis=0) for side in sides], axis=0)
    if kind == "labels":
        usable &= ~np.any([side.all(axis=0) for side in sides], axis=0)
    if usable.sum() < (2 if kind == "classes" else 1):
        raise SingleClass(
            f"a probe needs two classes among both its training and its test rows, and these {len(labels)} rows of "
            f"{len(names)} classes have {int(usable.sum())}: give more prompts, or prompts that differ in it"
        )
    kept = values[:, usable].any(axis=1) if kind == "classes" else np.ones(len(values), dtype=bool)
    return Outputs(kind, torch.tensor(values[kept][:, usable]).float(), np.flatnonzero(kept), is_train[kept])


def probe_scores(features: Tensor, outputs: Outputs, *, shuffles: int, seed: int) -> tuple[Floats, Floats]:
    """features [site, row, d] of the rows of `outputs` -> scores on the test rows [site], and of probes trained and tested
    on shuffled labels [shuffle, site]."""
    train, test = np.flatnonzero(outputs.is_train), np.flatnonzero(~outputs.is_train)
    rng = np.random.default_rng(seed)
    orders = [[side, *(rng.permutation(side) for _ in range(shuffles))] for side in (train, test)]
    learned, asked = (torch.stack([outputs.values[o] for o in side]) for side in orders)
    scaled = standardised(features, outputs.is_train)
    weight, bias = fit(scaled[:, train], learned, kind=outputs.kind, seed=seed)
    predicted = torch.baddbmm(bias, scaled[:, test], weight).unflatten(-1, (shuffles + 1, -1)).transpose(1, 2)
    measure = balanced_accuracy if outputs.kind == "classes" else mean_auroc
    found = measure(predicted.cpu().double().numpy(), asked.bool().numpy())
    return found[:, 0], found[:, 1:].T


def standardised(features: Tensor, is_train: Bools) -> Tensor:
    """features [site, row, d] with mean 0 and deviation 1 over the training rows; what hardly varies beside the rest, or
    only by rounding, stays small."""
    train = features[:, torch.from_numpy(is_train).to(features.device)]
    mean, deviation = train.mean(1, keepdim=True), train.std(1, keepdim=True, correction=0)
    largest = deviation.square().mean(-1, keepdim=True).sqrt()
    rounding = train.square().mean((1, 2), keepdim=True).sqrt()
    return (features - mean) / (deviation.clamp(min=1e-3 * largest) + 1e-6 * rounding).clamp(min=1e-30)


def fit(features: Tensor, outputs: Tensor, *, kind: Kind, seed: int) -> tuple[Tensor, Tensor]:
    """Train on features [site, row, d] and outputs [shuffle, row, output] -> weight [site, d, shuffle x output], bias
    [site, 1, shuffle x output]."""
    y, emphasis = (t.to(features).transpose(0, 1) for t in (outputs, _emphasis(outputs, kind)))
    _, shuffles, size = y.shape
    weight = features.new_zeros(len(features), features.shape[2], shuffles * size)
    bias = features.new_zeros(len(features), 1, shuffles * size)
    adam, generator = torch.optim.Adam([weight, bias], lr=RATE), torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(y), generator=generator).split(BATCH):
            x = features[:, rows.to(features.device)]
            logits = torch.baddbmm(bias, x, weight).unflatten(-1, (shuffles, size))
            guess = logits.softmax(-1) if kind == "classes" else logits.sigmoid()
            # Both losses have this gradient in the logits, so nothing needs to be recorded for a backward pass.
            error = ((guess - y[rows]) * emphasis[rows]).flatten(2) / len(rows)
            weight.grad, bias.grad = x.transpose(1, 2) @ error, error.sum(1, keepdim=True)
            adam.step()
    return weight, bias


def _emphasis(outputs: Tensor, kind: Kind) -> Tensor:
    """Weights [shuffle, row, output or 1] that give every class, or each side of a label, the same total."""
    count = outputs.sum(1, keepdim=True)
    if kind == "classes":
        return outputs.shape[1] / outputs.shape[2] * (outputs / count).sum(-1, keepdim=True)
    return outputs.shape[1] / 2 * (outputs / count + (1 - outputs) / (outputs.shape[1] - count))


def balanced_accuracy(predicted: Floats, actual: Bools) -> Floats:
    """Mean recall of the classes: predicted [..., row, class] (any scores), actual [..., row, class] -> [...].

    Raises ValueError for a class without rows.
    """
    if not actual.any(axis=-2).all():
        raise ValueError("a class has no test rows: leave it out before scoring")
    hit = predicted.argmax(axis=-1)[..., None] == np.arange(predicted.shape[-1])
    return np.asarray(((hit & actual).sum(axis=-2) / actual.sum(axis=-2)).mean(axis=-1))


def mean_auroc(predicted: Floats, actual: Bools) -> Floats:
    """AUROC averaged over the labels: predicted [..., row, label], actual [..., row, label] -> [...]."""
    return np.asarray(auroc(predicted.swapaxes(-1, -2), actual.swapaxes(-1, -2)).mean(axis=-1))


def auroc(scores: Floats, positive: Bools) -> Floats:
    """Area under the ROC curve: scores [..., row], positive [..., row] -> [...], ties counting one half.

    Raises ValueError where all rows are positive or none is.
    """
    n_positive, n_negative = positive.sum(axis=-1), (~positive).sum(axis=-1)
    if not (n_positive.all() and n_negative.all()):
        raise ValueError("AUROC needs positive and negative rows: this target has a single class among them")
    ranks = np.where(positive, rankdata(scores, axis=-1), 0.0).sum(axis=-1)
    return np.asarray((ranks - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))
