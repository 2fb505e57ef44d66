"""The trainer and the scores of linear probes, on arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import linear_model, metrics
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from circuitkd.roles.linear_probes import (
    BATCH,
    EPOCHS,
    RATE,
    SingleClass,
    auroc,
    balanced_accuracy,
    encode,
    fit,
    mean_auroc,
    probe_scores,
    standardised,
)

YES, NO = True, False


@pytest.mark.parametrize(
    ("scores", "positive", "expected"),
    [
        ([1, 2, 3, 4], [NO, NO, YES, YES], 1.0),
        ([4, 3, 2, 1], [NO, NO, YES, YES], 0.0),
        ([5, 5, 5], [NO, YES, NO], 0.5),
        # of the four pairs one is a tie and three are in order
        ([0.1, 0.4, 0.4, 0.8], [NO, YES, NO, YES], 3.5 / 4),
        ([0.3, 0.1, 0.2], [NO, YES, NO], 0.0),
        ([0, 0, 1, 1], [NO, YES, NO, YES], 0.5),
    ],
)
def test_auroc_of_small_cases(scores, positive, expected):
    assert auroc(np.array(scores, dtype=float), np.array(positive)) == pytest.approx(expected)


def test_auroc_counts_pairs_in_order_and_half_the_ties():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 5, (3, 4, 17)).astype(float)
    positive = rng.random((3, 4, 17)) < 0.4
    found = auroc(scores, positive)
    for i, j in np.ndindex(3, 4):
        yes, no = scores[i, j][positive[i, j]], scores[i, j][~positive[i, j]]
        pairs = (yes[:, None] > no).mean() + (yes[:, None] == no).mean() / 2
        assert found[i, j] == pytest.approx(pairs, abs=1e-12)
    per_label = mean_auroc(scores[0].T, positive[0].T)
    assert per_label == pytest.approx(found[0].mean())


@pytest.mark.parametrize("only", [YES, NO])
def test_auroc_of_a_single_class_is_refused(only):
    with pytest.raises(ValueError, match="AUROC needs positive and negative rows: .* single class"):
        auroc(np.arange(3.0), np.full(3, only))


def test_balanced_accuracy_is_the_mean_recall():
    actual = np.eye(3, dtype=bool)[[0, 0, 0, 0, 1, 2]]
    always_0 = np.eye(3)[[0] * 6]
    assert balanced_accuracy(always_0, actual) == pytest.approx(1 / 3)
    some = np.eye(3)[[0, 1, 0, 2, 1, 0]]
    assert balanced_accuracy(np.stack([always_0, some]), np.stack([actual] * 2)) == pytest.approx(
        [1 / 3, (2 / 4 + 1 + 0) / 3]
    )


def test_balanced_accuracy_needs_rows_of_every_class():
    with pytest.raises(ValueError, match="a class has no test rows: leave it out"):
        balanced_accuracy(np.eye(2), np.array([[YES, NO], [YES, NO]]))


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(3)
    predicted, actual = rng.normal(size=(4, 60, 3)).round(1), np.eye(3, dtype=bool)[rng.integers(0, 3, (4, 60))]
    found = balanced_accuracy(predicted, actual)
    several = rng.random((4, 60, 3)) < 0.3
    areas = mean_auroc(predicted, several)
    for i in range(4):
        expected = metrics.balanced_accuracy_score(actual[i].argmax(1), predicted[i].argmax(1))
        assert found[i] == pytest.approx(expected, abs=1e-12)
        assert areas[i] == pytest.approx(metrics.roc_auc_score(several[i], predicted[i], average="macro"), abs=1e-12)


def test_probes_find_as_much_as_scikit_learn_where_there_is_enough_to_learn_from():
    rng, n = np.random.default_rng(4), 1500
    labels = rng.integers(0, 3, n)
    centres = 0.8 * rng.normal(size=(3, 8))
    x = torch.tensor(centres[labels] + rng.normal(size=(n, 8)))[None]
    outputs = encode(one(*labels), kind="classes", is_train=np.arange(n) < 1200)
    ours, _ = probe_scores(x, outputs, shuffles=1, seed=0)
    scaled = standardised(x, outputs.is_train)[0].numpy()
    theirs = linear_model.LogisticRegression(class_weight="balanced").fit(scaled[:1200], labels[:1200])
    guessed = np.eye(3)[theirs.predict(scaled[1200:])]
    best = balanced_accuracy(guessed, outputs.values[1200:].bool().numpy())
    assert 0.6 < best < 0.98
    assert ours[0] == pytest.approx(best, abs=0.03)


def alone(x, y, kind):
    """One probe by autograd, in the same order of batches."""
    if kind == "classes":
        weights = len(y) / (y.shape[1] * y.sum(0))

        def loss(logits, rows):
            return cross_entropy(logits, y[rows].argmax(1), weight=weights, reduction="sum") / len(rows)
    else:
        yes, no = len(y) / (2 * y.sum(0)), len(y) / (2 * (1 - y).sum(0))

        def loss(logits, rows):
            weights = torch.where(y[rows] > 0, yes, no)
            return binary_cross_entropy_with_logits(logits, y[rows], weights, reduction="sum") / len(rows)

    layer = torch.nn.Linear(x.shape[1], y.shape[1], dtype=x.dtype)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    adam, generator = torch.optim.Adam(layer.parameters(), lr=RATE), torch.Generator().manual_seed(3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(y), generator=generator).split(BATCH):
            adam.zero_grad()
            loss(layer(x[rows]), rows).backward()
            adam.step()
    return layer.weight.T, layer.bias


@pytest.mark.parametrize("kind", ["classes", "labels"])
def test_every_probe_becomes_what_it_would_become_alone(kind):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 21, 5, generator=generator, dtype=torch.float64)
    if kind == "classes":
        y = torch.stack([torch.eye(3)[torch.randint(3, (21,), generator=generator)] for _ in range(2)]).double()
    else:
        y = (torch.rand(2, 21, 3, generator=generator) < 0.3).double()
    weight, bias = (t.unflatten(-1, (2, 3)) for t in fit(x, y, kind=kind, seed=3))
    for site in range(2):
        for shuffle in range(2):
            expected = alone(x[site], y[shuffle], kind)
            torch.testing.assert_close(weight[site, :, shuffle], expected[0], atol=1e-10, rtol=1e-8)
            torch.testing.assert_close(bias[site, 0, shuffle], expected[1], atol=1e-10, rtol=1e-8)


def test_features_are_standardised_by_the_training_rows():
    generator = torch.Generator().manual_seed(0)
    x = 5 + 3 * torch.randn(2, 50, 4, generator=generator, dtype=torch.float64)
    is_train = np.arange(50) < 40
    found = standardised(x, is_train)
    torch.testing.assert_close(found[:, :40].mean(1), torch.zeros(2, 4).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(found[:, :40].std(1, correction=0), torch.ones(2, 4).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(standardised(1e6 * x, is_train), found, atol=1e-6, rtol=1e-6)
    changed = torch.cat([x[:, :40], x[:, 40:] + 100], dim=1)
    torch.testing.assert_close(standardised(changed, is_train)[:, :40], found[:, :40])


def test_features_that_vary_by_rounding_alone_stay_small():
    x = torch.full((1, 20, 3), 7.0)
    x[0, ::2] += 7e-7
    assert float(standardised(x, np.ones(20, dtype=bool)).abs().max()) < 0.2
    constant = standardised(torch.zeros(1, 5, 2), np.ones(5, dtype=bool))
    assert constant.abs().max() == 0
    mixed = torch.cat([x, torch.randn(1, 20, 1, generator=torch.Generator().manual_seed(1))], dim=2)
    assert float(standardised(mixed, np.ones(20, dtype=bool))[..., :3].abs().max()) < 2e-3


def one(*names):
    return [frozenset({n}) for n in names]


def test_classes_that_one_side_lacks_are_left_out_with_their_rows():
    is_train = np.array([YES, YES, YES, NO, NO, NO, YES])
    found = encode(one(5, 6, 7, 5, 6, 8, 5), kind="classes", is_train=is_train)
    assert found.rows.tolist() == [0, 1, 3, 4, 6]
    assert found.values.tolist() == [[1, 0], [0, 1], [1, 0], [0, 1], [1, 0]]
    assert found.is_train.tolist() == [YES, YES, NO, NO, YES]
    assert found.chance == 0.5


def test_labels_that_one_side_has_everywhere_or_nowhere_are_left_out():
    rows = [{1, 2, 3}, {2, 3}, {1, 3, 4}, {3}, {1, 2, 3}, {3}]
    is_train = np.array([YES, YES, YES, YES, NO, NO])
    found = encode([frozenset(r) for r in rows], kind="labels", is_train=is_train)
    assert found.rows.tolist() == list(range(6))
    assert found.values.tolist() == [[1, 1], [0, 1], [1, 0], [0, 0], [1, 1], [0, 0]]
    assert found.chance == 0.5


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (one(1, 1, 1, 1), "classes"),
        (one(1, 2, 1, 1), "classes"),
        (one(1, 1, 1, 1), "labels"),
        ([frozenset()] * 4, "labels"),
    ],
)
def test_a_single_class_is_refused(labels, kind):
    with pytest.raises(SingleClass, match="a probe needs two classes among both .* give more prompts"):
        encode(labels, kind=kind, is_train=np.array([YES, YES, NO, NO]))


def sites(y, seed=0):
    """Noise of 12 numbers at three sites; at the second, the outputs are in three of them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, len(y), 12, generator=generator)
    x[1, :, :3] += 6 * y
    return x


@pytest.mark.parametrize("kind", ["classes", "labels"])
def test_what_is_linearly_there_is_found_where_it_is(kind):
    rng = np.random.default_rng(1)
    if kind == "classes":
        labels = one(*rng.integers(0, 3, 200))
    else:
        labels = [frozenset(np.flatnonzero(rng.random(3) < 0.3).tolist()) for _ in range(200)]
    outputs = encode(labels, kind=kind, is_train=np.arange(200) < 160)
    scores, control = probe_scores(sites(outputs.values), outputs, shuffles=16, seed=0)
    assert scores[1] > 0.95
    # 40 test rows: a guess has a standard deviation of about 0.08, the mean of 16 of about 0.02
    assert np.abs(scores[[0, 2]] - outputs.chance).max() < 0.24
    assert control.shape == (16, 3)
    assert np.abs(control.mean(axis=0) - outputs.chance).max() < 0.08


def test_scores_can_be_repeated_and_do_not_depend_on_the_other_sites():
    labels = one(*np.random.default_rng(2).integers(0, 2, 60))
    outputs = encode(labels, kind="classes", is_train=np.arange(60) < 48)
    x = sites(torch.cat([outputs.values, outputs.values[:, :1]], 1))
    whole = probe_scores(x, outputs, shuffles=2, seed=5)
    assert np.array_equal(probe_scores(x, outputs, shuffles=2, seed=5)[1], whole[1])
    single = probe_scores(x[1:2], outputs, shuffles=2, seed=5)
    np.testing.assert_allclose([single[0][0], *single[1][:, 0]], [whole[0][1], *whole[1][:, 1]])
