"""MLPs of two models: cosines by hand, eigenvectors and principal axes by numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from circuitkd.artifacts import load_run, save_run
from circuitkd.components import Component
from circuitkd.interventions.execution import Execution
from circuitkd.roles.mlps import MlpComparison, MlpPlane, compare_mlps, mlp_planes, principal_plane
from circuitkd.tasks.words_of_tokens import token_words
from equal_results import assert_same
from oracle import recorded
from small_runs import model_for, task_of
from two_tokenizers import byte_level_model


def bound_to(*models, names=("ioi",), n=3):
    task = task_of(*names, n=n)
    return tuple(task.bind(model) for model in models)


def cosine(x, y):
    return (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1))


def by_hand(models, tasks, places):
    """Cosines [teacher, student] at every unit, prompt by prompt; `places`: per side and prompt the units' positions."""
    found = []
    for row in range(len(tasks[0])):
        outputs = []
        for model, task, at in zip(models, tasks, places, strict=True):
            values = recorded(model, task.examples[row].clean)
            outputs.append(torch.stack([values["mlp", layer][at[row]] for layer in range(model.n_layers)]))
        found.append(cosine(outputs[0][:, None], outputs[1][None]).numpy())
    return found


@pytest.mark.parametrize("names", [("gpt2", "qwen2"), ("llama", "neox-parallel"), ("bert", "distilbert")])
def test_cosines_are_those_of_the_outputs_at_each_token(names):
    models = [model_for(name, seed=seed) for seed, name in enumerate(names)]
    tasks = bound_to(*models, names=("numeral-sequence", "ioi"))
    found = compare_mlps(*models, tasks=tasks, execution=Execution(batch_size=2))
    everywhere = [list(range(len(e.clean))) for e in tasks[0].examples]
    expected = by_hand(models, tasks, [everywhere, everywhere])
    np.testing.assert_allclose(found.cosine, np.concatenate(expected, axis=2).mean(axis=2), atol=1e-12)
    kept = [c for c, e in zip(expected, tasks[0].examples, strict=True) if e.id not in found.left_out]
    assert found.prompts == len(kept) == 3
    np.testing.assert_allclose(found.by_position, np.mean(kept, axis=0), atol=1e-12)
    np.testing.assert_allclose(found.first_token, np.mean(kept, axis=0)[:, :, 0], atol=1e-12)
    np.testing.assert_allclose(found.other_tokens, np.mean(kept, axis=0)[:, :, 1:].mean(axis=2), atol=1e-12)
    assert len(found.positions) == found.by_position.shape[2]
    assert "end" in found.positions


def test_a_few_prompts_at_a_time_change_nothing():
    models = [model_for("gpt2"), model_for("llama", seed=1)]
    tasks = bound_to(*models, names=("numeral-sequence", "ioi"))
    one, all_of_them = (compare_mlps(*models, tasks=tasks, execution=Execution(batch_size=n)) for n in (1, 6))
    for field in ("cosine", "eigenvectors", "by_position"):
        np.testing.assert_allclose(getattr(one, field), getattr(all_of_them, field), atol=1e-9)


def test_prompts_of_one_word_have_no_other_tokens():
    found = compare_mlps(*(two := [model_for("gpt2")] * 2), tasks=bound_to(*two))
    short = replace(found, positions=found.positions[:1], by_position=found.by_position[:, :, :1])
    assert np.isnan(short.other_tokens).all()
    assert short.first_token.shape == (3, 3)


def test_eigenvectors_are_those_of_the_centred_outputs():
    models = [model_for("gpt2"), model_for("gpt2", seed=1)]
    tasks = bound_to(*models, names=("numeral-sequence", "ioi"))
    found = compare_mlps(*models, tasks=tasks)
    leading = []
    for model, task in zip(models, tasks, strict=True):
        runs = [recorded(model, e.clean) for e in task.examples]
        rows = [torch.cat([r["mlp", layer] for r in runs]).numpy() for layer in range(3)]
        leading.append([np.linalg.svd(x - x.mean(axis=0))[2][:3] for x in rows])
    expected = [[np.abs((t * s).sum(axis=1)).mean() for s in leading[1]] for t in leading[0]]
    np.testing.assert_allclose(found.eigenvectors, expected, atol=1e-9)


def test_a_model_is_like_itself_and_a_negated_mlp_its_opposite():
    model, other = model_for("gpt2"), model_for("gpt2")
    with torch.no_grad():
        last = list(other.modules.blocks[2].mlp[0].parameters())[-2:]
        for parameter in last:  # the last layer: no later MLP reads this one
            parameter.neg_()
    tasks = bound_to(model, other)
    found = compare_mlps(model, other, tasks=tasks)
    assert np.diag(found.cosine) == pytest.approx([1, 1, -1])
    assert np.diag(found.eigenvectors) == pytest.approx([1, 1, 1])


def test_models_with_different_tokenizers_are_compared_at_the_last_tokens_of_words():
    models = [model_for("gpt2"), byte_level_model(seed=1)]
    tasks = bound_to(*models)
    found = compare_mlps(*models, tasks=tasks)
    places = []
    for model, task in zip(models, tasks, strict=True):
        words = [token_words(e, model, with_mask=False) for e in task.examples]
        places.append([[len(w) - 1 - w[::-1].index(u) for u in range(max(w) + 1)] for w in words])
    expected = by_hand(models, tasks, places)
    np.testing.assert_allclose(found.cosine, np.concatenate(expected, axis=2).mean(axis=2), atol=1e-12)


def test_prompts_of_another_form_are_left_out_and_named():
    model = model_for("gpt2")
    tasks = bound_to(model, model, names=("numeral-sequence", "ioi"))
    two = replace(tasks[0], examples=tasks[0].examples[:5])
    found = compare_mlps(model, model, tasks=(two, two))
    assert found.left_out == dict.fromkeys(("ioi-0", "ioi-1"), "its tokens are not of the most frequent form")
    assert (found.prompts, "member_1" in found.positions) == (3, True)


def test_models_of_unequal_width_are_refused():
    models = [model_for("gpt2"), model_for("gpt2", n_embd=16)]
    with pytest.raises(ValueError, match="widths differ .32 and 16.* use cka"):
        compare_mlps(*models, tasks=bound_to(*models))


def test_different_examples_are_refused():
    model = model_for("gpt2")
    one = bound_to(model)[0]
    with pytest.raises(ValueError, match="tiny-gpt2 have different examples of 'mixed': keep those that both"):
        compare_mlps(model, model, tasks=(one, replace(one, examples=one.examples[:2])))


MLPS = [Component("mlp", layer) for layer in range(3)]


def test_a_shared_plane_is_that_of_both_models_mean_outputs():
    models = [model_for("gpt2"), model_for("llama", seed=1)]
    tasks = bound_to(*models)
    (plane,) = mlp_planes(*models, tasks=tasks, pairs=[(MLPS[2], MLPS[1])], execution=Execution(batch_size=2))
    means = []
    for model, task, layer in zip(models, tasks, (2, 1), strict=True):
        means.append(np.mean([recorded(model, e.clean)["mlp", layer].numpy() for e in task.examples], axis=0))
    points, explained = principal_plane(np.concatenate(means))
    n = len(plane.positions)
    assert (plane.teacher, plane.student, plane.is_shared, plane.prompts) == (MLPS[2], MLPS[1], True, 3)
    np.testing.assert_allclose(plane.teacher_points, points[:n], atol=1e-9)
    np.testing.assert_allclose(plane.student_points, points[n:], atol=1e-9)
    np.testing.assert_allclose(plane.explained, [explained, explained], atol=1e-12)


def test_equal_mlps_lie_on_each_other():
    model = model_for("gpt2")
    planes = mlp_planes(model, model, tasks=bound_to(model, model), pairs=[(m, m) for m in MLPS])
    assert [p.teacher for p in planes] == MLPS
    for plane in planes:
        np.testing.assert_allclose(plane.teacher_points, plane.student_points)


def test_models_of_unequal_width_have_a_plane_each():
    models = [model_for("gpt2"), model_for("gpt2", n_embd=16)]
    tasks = bound_to(*models)
    (plane,) = mlp_planes(*models, tasks=tasks, pairs=[(MLPS[0], MLPS[1])])
    assert not plane.is_shared
    for model, task, layer, side in zip(models, tasks, (0, 1), (0, 1), strict=True):
        mean = np.mean([recorded(model, e.clean)["mlp", layer].numpy() for e in task.examples], axis=0)
        points, explained = principal_plane(mean)
        np.testing.assert_allclose((plane.teacher_points, plane.student_points)[side], points, atol=1e-9)
        np.testing.assert_allclose(plane.explained[side], explained, atol=1e-12)


def test_a_plane_is_numpys_singular_value_decomposition():
    x = np.random.default_rng(0).normal(size=(9, 6)) * [5, 1, 3, 1, 1, 1] + 7
    points, explained = principal_plane(x)
    centred = x - x.mean(axis=0)
    u, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    for axis in range(2):
        sign = 1 if axes[axis][np.abs(axes[axis]).argmax()] > 0 else -1
        np.testing.assert_allclose(points[:, axis], sign * u[:, axis] * lengths[axis], atol=1e-12)
    values = np.sort(np.linalg.eigvalsh(centred.T @ centred))[::-1]
    np.testing.assert_allclose(explained, values[:2] / values.sum())
    np.testing.assert_allclose(principal_plane(-x + 3)[0], -points, atol=1e-12)


def test_a_plane_keeps_the_distances_of_points_in_a_plane():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(5, 2)) @ rng.normal(size=(2, 8))
    points, explained = principal_plane(x)
    np.testing.assert_allclose(
        np.linalg.norm(points[:, None] - points, axis=-1), np.linalg.norm(x[:, None] - x, axis=-1), atol=1e-12
    )
    assert explained.sum() == pytest.approx(1)
    same, nothing = principal_plane(np.ones((4, 3)))
    assert np.abs(same).max() == np.abs(nothing).max() == 0


@pytest.mark.parametrize("shape", [(2, 5), (5, 1)])
def test_too_few_points_make_no_plane(shape):
    with pytest.raises(ValueError, match="a plane needs three points and two dimensions or more, got shape"):
        principal_plane(np.zeros(shape))


def test_a_pair_must_be_of_mlps():
    model = model_for("gpt2")
    for pair in ((Component("head", 0, 0), MLPS[0]), (MLPS[0], Component("mlp", 3))):
        with pytest.raises(ValueError, match="tiny-gpt2 has no MLP .* give pairs of a teacher's and a student's MLP"):
            mlp_planes(model, model, tasks=bound_to(model, model), pairs=[pair])


def test_they_can_be_saved_and_are_tables(tmp_path):
    models = [model_for("gpt2"), model_for("llama", seed=1)]
    tasks = bound_to(*models)
    found = compare_mlps(*models, tasks=tasks)
    (plane,) = mlp_planes(*models, tasks=tasks, pairs=[(MLPS[0], MLPS[1])])
    assert_same(load_run(save_run(tmp_path / "a", found, manifest={}), MlpComparison), found)
    assert_same(load_run(save_run(tmp_path / "b", plane, manifest={}), MlpPlane), plane)
    row = found.to_pandas().iloc[4]
    assert (row.teacher, row.student, row.cosine) == ("MLP1", "MLP1", found.cosine[1, 1])
    assert (row["first"], row.others) == (found.first_token[1, 1], found.other_tokens[1, 1])
