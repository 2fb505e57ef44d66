"""Everything similarities are made of, against plain means over Hugging Face's own forward."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch

from circuitkd.comparison import measure as module
from circuitkd.comparison.alignment_of_tokens import Units, common_units
from circuitkd.comparison.measure import FIELDS, Asked, Measured, example_patterns, measure, sample_points
from circuitkd.comparison.noise import GaussianNoise
from circuitkd.comparison.similarity import leading_eigenvectors
from circuitkd.models import blocks
from circuitkd.models.hooks import hf_inputs
from equal_results import numbers
from oracle import recorded
from small_runs import model_for, task_of
from tiny_models import TINY
from two_tokenizers import byte_level_model


def measured(model, bound, units, *, batch_size=100, noise=None, fields=FIELDS):
    asked = Asked(sample_points(units), fields)
    return measure(model, bound, units=units, asked=asked, batch_size=batch_size, noise=noise)


def own_units(model, bound):
    return common_units(model, model, teacher_task=bound, student_task=bound)[0]


def attentions(model, example):
    """Patterns [head, pos, pos] of all layers, by HF's eager attention."""
    tokens = torch.tensor([example.clean])
    with torch.no_grad():
        inputs = hf_inputs(model, tokens, lengths=torch.tensor([tokens.shape[1]]))
        return torch.cat([a[0] for a in model.hf(**inputs, output_attentions=True).attentions]).numpy()


def heads(model, run):
    """z of every head of one prompt [head, pos, d_head]."""
    by_layer = [run["z", layer].unflatten(-1, (model.n_heads, model.d_head)) for layer in range(model.n_layers)]
    return torch.cat([z.transpose(0, 1) for z in by_layer]).numpy()


def by_length(examples, values):
    """Means over the examples of each token length."""
    groups = defaultdict(list)
    for example, value in zip(examples, values, strict=True):
        groups[len(example.clean)].append(value)
    return {n: np.mean(group, axis=0) for n, group in groups.items()}


def assert_close(found, wanted, *, within=1e-10):
    assert sorted(found) == sorted(wanted)
    for n in found:
        np.testing.assert_allclose(found[n], wanted[n], rtol=0, atol=within * np.abs(wanted[n]).max())


# Some classes take the softmax of their eager attention in single precision, whatever their dtype.
EAGER = 1e-6


@pytest.mark.parametrize("name", sorted(TINY))
def test_of_every_architecture(name):
    model, eager = model_for(name), model_for(name, attention="eager")
    bound = task_of().bind(model)
    runs = [recorded(model, e.clean) for e in bound.examples]
    found = measured(model, bound, own_units(model, bound))
    wanted = by_length(bound.examples, [attentions(eager, e) for e in bound.examples])
    assert_close(found.patterns, wanted, within=EAGER)
    z = [heads(model, run) for run in runs]
    assert_close(found.mean_z, by_length(bound.examples, z))
    out = [
        np.concatenate(
            [
                np.stack([v[h] @ w[h].detach().numpy() for h in range(model.n_heads)])
                for v, w in (
                    (value[i * model.n_heads : (i + 1) * model.n_heads], blocks.output_matrices(model, i))
                    for i in range(model.n_layers)
                )
            ]
        )
        for value in z
    ]
    assert_close(found.mean_results, by_length(bound.examples, out))
    for layer in range(model.n_layers):
        outputs = torch.cat([run["mlp", layer] for run in runs]).numpy()
        centred = outputs - outputs.mean(axis=1, keepdims=True)
        wanted = leading_eigenvectors(np.cov(outputs.T, bias=True))
        np.testing.assert_allclose(found.mlp_vectors[layer], wanted, atol=1e-10)
        assert found.mlp_centred[layer].count == len(outputs)
        second = centred.T @ centred / len(centred)
        np.testing.assert_allclose(found.mlp_centred[layer].second_moment, second, atol=1e-10)
    np.testing.assert_allclose(found.z, np.concatenate([v.transpose(1, 0, 2) for v in z]), atol=1e-5)
    mlps = [np.stack([run["mlp", layer].numpy() for layer in range(model.n_layers)], axis=1) for run in runs]
    np.testing.assert_allclose(found.mlp_points, np.concatenate(mlps), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "mistral"])
@pytest.mark.parametrize("noise", [None, GaussianNoise(0.5, 1)])
def test_batches_change_nothing(name, noise):
    model, bound = model_for(name), task_of().bind(model_for(name))
    one, other = (measured(model, bound, own_units(model, bound), batch_size=b, noise=noise) for b in (1, 100))
    assert_close(one.patterns, other.patterns)
    assert_close(one.mean_z, other.mean_z)
    np.testing.assert_allclose(one.z, other.z, atol=1e-5)
    np.testing.assert_allclose(one.mlp_points, other.mlp_points, atol=1e-5)
    np.testing.assert_allclose(one.mlp_vectors, other.mlp_vectors, atol=1e-9)
    for a, b in zip(one.mlp_centred, other.mlp_centred, strict=True):
        np.testing.assert_allclose(a.covariance, b.covariance, atol=1e-10)


def test_noise_is_in_all_of_it():
    model, bound = model_for("gpt2"), task_of().bind(model_for("gpt2"))
    units = own_units(model, bound)
    quiet, noisy = (measured(model, bound, units, noise=n) for n in (None, GaussianNoise(0.5, 1)))
    for n in quiet.patterns:
        first = model.n_heads
        np.testing.assert_array_equal(quiet.patterns[n][:first], noisy.patterns[n][:first])
        assert np.abs(quiet.patterns[n] - noisy.patterns[n])[first:].max() > 1e-3
        assert np.abs(quiet.mean_z[n] - noisy.mean_z[n]).max() > 0.1
    assert np.abs(quiet.mlp_points - noisy.mlp_points).max() > 0.1
    assert np.abs(quiet.mlp_centred[0].covariance - noisy.mlp_centred[0].covariance).max() > 0.01
    assert np.abs(quiet.mlp_vectors[0] - noisy.mlp_vectors[0]).max() > 0.01


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_what_is_not_asked_for_is_not_made(name, monkeypatch):
    model, bound = model_for("gpt2"), task_of().bind(model_for("gpt2"))
    units = own_units(model, bound)
    whole = measured(model, bound, units)
    others = dict.fromkeys(FIELDS - {name})  # making one of these would fail
    monkeypatch.setattr(module, "_KEEPERS", module._KEEPERS | others)
    found = measured(model, bound, units, fields={name})
    assert found.widths == whole.widths == (32, 8)
    empty = vars(Measured((32, 8)))
    for field in FIELDS - {name}:
        assert len(getattr(found, field)) == len(empty[field]) == 0
    assert len(getattr(whole, name)) > 0
    one, other = (numbers(getattr(side, name)) for side in (found, whole))
    np.testing.assert_array_equal(one, other)


def test_by_word_from_one_token_to_another():
    """Word to word: the mean over the query's tokens of the sum over the key's; a word's z is that of its last token."""
    teacher, student, eager = model_for("gpt2"), byte_level_model(), byte_level_model(attention="eager")
    task = task_of("ioi", n=2)
    tasks = task.bind(teacher), task.bind(student)
    units = common_units(teacher, student, teacher_task=tasks[0], student_task=tasks[1])[1]
    assert max(len(e.clean) for e in tasks[1].examples) > max(len(e.clean) for e in tasks[0].examples)
    found = measured(student, tasks[1], units)
    patterns, z = defaultdict(list), defaultdict(list)
    for row, example in enumerate(tasks[1].examples):
        n, of_token = units.count[row], units.of_token[row]
        places = [[i for i, u in enumerate(of_token) if u == word] for word in range(n)]
        tokens = attentions(eager, example)
        summed = np.stack([tokens[:, :, keys].sum(axis=2) for keys in places], axis=2)
        patterns[n].append(np.stack([summed[:, queries].mean(axis=1) for queries in places], axis=1))
        z[n].append(heads(student, recorded(student, example.clean))[:, [p[-1] for p in places]])
    assert_close(found.patterns, {n: np.mean(group, axis=0) for n, group in patterns.items()}, within=EAGER)
    assert_close(found.mean_z, {n: np.mean(group, axis=0) for n, group in z.items()})
    assert all(len(np.unique(np.round(p.sum(axis=2), 9))) == 1 for p in found.patterns.values())
    assert found.z.shape == (sum(units.count), 12, 8)


def test_points_are_all_units_where_they_are_few():
    units = Units(((0, 1), (0, 0, 1, 2)), (2, 3), True)
    assert sample_points(units) == {0: [0, 1], 1: [0, 1, 2]}


def test_points_are_a_sample_where_they_are_many(monkeypatch):
    monkeypatch.setattr(module, "POINTS", 50)
    units = Units(tuple(tuple(range(10)) for _ in range(30)), (10,) * 30, False)
    found = sample_points(units)
    assert sum(map(len, found.values())) == 50
    assert all(row < 30 and sorted(set(chosen)) == chosen and max(chosen) < 10 for row, chosen in found.items())
    assert found == sample_points(units)
    assert found != sample_points(units, seed=1)
    assert len({unit for chosen in found.values() for unit in chosen}) == 10


def test_points_may_leave_out_an_example():
    model, bound = model_for("gpt2"), task_of(n=2).bind(model_for("gpt2"))
    units = own_units(model, bound)
    found = measure(model, bound, units=units, asked=Asked({3: [0, 4], 1: [2]}), batch_size=2)
    whole = measured(model, bound, units)
    starts = np.cumsum([0, *units.count])
    rows = [starts[1] + 2, starts[3], starts[3] + 4]
    np.testing.assert_allclose(found.z, whole.z[rows], atol=1e-6)
    np.testing.assert_allclose(found.mlp_points, whole.mlp_points[rows], atol=1e-6)


def test_patterns_of_one_example():
    model, eager = model_for("bert"), model_for("bert", attention="eager")
    bound = task_of().bind(model)
    found = example_patterns(model, bound, row=4)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, attentions(eager, bound.examples[4]), atol=1e-6)
