"""Losses: closed forms, gradients by finite differences, and what happens at their limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group
from torch.nn.functional import cross_entropy, kl_div

from circuitkd.comparison.cka import cka as cka_of_arrays
from circuitkd.distill.losses import (
    alignment_loss,
    answer_loss,
    cka,
    composite,
    estimated_effects,
    label_loss,
    row_caution,
    softened_loss,
    surrogate_loss,
)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def related(rows=9, p=5, q=3, seed=0):
    x = draw(rows, p, seed=seed)
    return x, x[:, :q] + 0.7 * draw(rows, q, seed=seed + 1)


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("rows", [4, 9, 40])
def test_cka_is_that_of_arrays(rows, debiased):
    x, y = related(rows)
    expected = cka_of_arrays(x.numpy() + 3, y.numpy(), debiased=debiased)
    assert float(cka(x + 3, y, debiased=debiased)) == pytest.approx(expected, abs=1e-12)


def test_cka_by_hand():
    # One feature on each side: the squared correlation, here (1/2)^2.
    assert float(cka(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[1.0], [3.0], [2.0]]))) == pytest.approx(0.25)


def test_cka_ignores_rotation_and_scale_and_nothing_else():
    x, y = related()
    turned = x @ torch.from_numpy(ortho_group.rvs(5, random_state=0)) * 7 + 2
    assert float(cka(turned, y)) == pytest.approx(float(cka(x, y)), abs=1e-12)
    assert float(cka(x, x)) == pytest.approx(1.0, abs=1e-12)
    stretched = x * torch.tensor([5.0, 1, 1, 1, 1])
    assert abs(float(cka(stretched, y)) - float(cka(x, y))) > 0.01


def test_cka_of_pairs_is_that_of_each():
    x, y = draw(3, 8, 5), draw(3, 8, 4, seed=1)
    assert torch.allclose(cka(x, y), torch.stack([cka(a, b) for a, b in zip(x, y, strict=True)]), rtol=1e-12)


def test_masked_rows_do_not_count():
    x, y = related(8)
    mask = torch.tensor([1, 0, 1, 1, 0, 1, 1, 1])
    kept = mask.bool()
    assert torch.equal(cka(x, y, mask=mask), cka(x[kept], y[kept]))
    changed = x.clone().masked_fill_(~kept[:, None], 1e9)
    assert torch.equal(cka(changed, y, mask=kept), cka(x, y, mask=kept))


@pytest.mark.parametrize("debiased", [False, True])
def test_gradients_by_finite_differences(debiased):
    x, y = related(6)
    mask = torch.tensor([True, True, False, True, True, True])
    for side in (x, y):
        side.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: cka(a, b, mask=mask, debiased=debiased), (x, y))
    logits, labels = draw(4, 6).requires_grad_(), torch.tensor([0, 3, 5, 1])
    answers = torch.tensor([[0, 2], [3, -100], [5, 1], [1, -100]])
    teacher = draw(4, 6, seed=3)
    assert torch.autograd.gradcheck(lambda a: label_loss(a, labels), logits)
    assert torch.autograd.gradcheck(lambda a: answer_loss(a, answers), logits)
    assert torch.autograd.gradcheck(lambda a: softened_loss(a, teacher, temperature=2.5), logits)
    pairs = draw(2, 6, 3, seed=4).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: alignment_loss(a, draw(2, 6, 4), debiased=debiased), pairs)
    effects, similarity = torch.tensor([0.2, 1.5, -0.4], dtype=torch.float64), torch.tensor([0.3, 0.8]).double()
    effects.requires_grad_(), similarity.requires_grad_()
    heads, influence = torch.tensor([0, 2]), torch.tensor([0.9, 0.1]).double()
    assert torch.autograd.gradcheck(
        lambda s, e: surrogate_loss(s, e, teacher_influence=influence, heads=heads),
        (similarity, effects),
        raise_exception=True,
    )


def test_only_the_student_gets_a_gradient():
    student, teacher = draw(2, 8, 4).requires_grad_(), draw(2, 8, 5, seed=1).requires_grad_()
    alignment_loss(student, teacher).backward()
    assert teacher.grad is None and float(student.grad.abs().sum()) > 1e-3
    logits, wanted = draw(3, 7).requires_grad_(), draw(3, 7, seed=1).requires_grad_()
    softened_loss(logits, wanted, temperature=2.0).sum().backward()
    assert wanted.grad is None and float(logits.grad.abs().sum()) > 1e-3


def test_a_step_along_the_gradient_aligns():
    student, teacher = draw(2, 12, 4).requires_grad_(), draw(2, 12, 5, seed=1)
    before = alignment_loss(student, teacher)
    before.backward()
    after = alignment_loss(student.detach() - 0.1 * student.grad, teacher)
    assert float(after) < float(before.detach()) - 1e-3


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("value", [0.0, 1.0, 1e30, 1e-30])
def test_a_constant_side_has_cka_0_and_no_gradient(value, debiased):
    x, constant = draw(8, 4, dtype=torch.float32).requires_grad_(), torch.full((8, 4), value)
    found = cka(x, constant, debiased=debiased)
    found.backward()
    assert float(found.detach()) == 0.0 and not x.grad.any()
    assert float(cka(constant, constant, debiased=debiased)) == 0.0


def test_one_deviating_row_is_no_evidence_once_debiased():
    x = torch.zeros(8, 4)
    x[0] = 1.0
    assert float(cka(x, x)) == pytest.approx(1.0)
    assert float(cka(x, x, debiased=True)) == 0.0


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_extreme_scales_change_nothing(scale):
    x, y = (side.float() for side in related())
    assert float(cka(x * scale, y)) == pytest.approx(float(cka(x, y)), rel=1e-5)


@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 0.02), (torch.float16, 0.005)])
def test_half_precision_is_computed_in_float32(dtype, tolerance):
    x, y = related(40)
    found = cka(x.to(dtype), y.to(dtype))
    assert found.dtype == torch.float32
    exact = cka(x.to(dtype).double(), y.to(dtype).double())
    assert float(found) == pytest.approx(float(exact), rel=1e-5)
    assert float(found) == pytest.approx(float(cka(x, y)), abs=tolerance)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(cka(x.to(dtype), y.to(dtype)), found)


@pytest.mark.parametrize("rows, debiased, need", [(1, False, 2), (0, False, 2), (3, True, 4)])
def test_too_few_rows(rows, debiased, need):
    kind = "debiased" if debiased else "biased"
    with pytest.raises(ValueError, match=f"{kind} CKA needs at least {need} rows in a batch, got {rows}: use a larger"):
        cka(draw(rows, 4), draw(rows, 4), debiased=debiased)


def test_rows_must_fit():
    with pytest.raises(ValueError, match="CKA needs the same rows on both sides, not 5 and 4"):
        cka(draw(5, 2), draw(4, 2))
    with pytest.raises(ValueError, match=r"a mask of shape \(4,\) does not fit 5 rows: give \[row\]"):
        cka(draw(5, 2), draw(5, 2), mask=torch.ones(4))


def test_few_rows_are_a_caution():
    # The figures that the caution gives.
    rng = np.random.default_rng(0)
    for rows, expected in ((8, 0.81), (32, 0.50)):
        values = [cka_of_arrays(rng.normal(size=(rows, 32)), rng.normal(size=(rows, 32))) for _ in range(50)]
        assert np.mean(values) == pytest.approx(expected, abs=0.02)
    assert "use at least 64 rows in a batch" in row_caution(63, 32)
    assert row_caution(64, 32) is None
    assert row_caution(8, 32, debiased=True) is None


def test_alignment_of_pairs():
    x, y = draw(3, 9, 4), draw(3, 9, 5, seed=1)
    each = 1 - cka(x, y)
    assert torch.equal(alignment_loss(x, y), each.sum())
    assert torch.equal(alignment_loss(x, y, reduction="mean"), each.mean())
    assert float(alignment_loss(x, x)) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match="unknown reduction 'max': choose one of sum, mean"):
        alignment_loss(x, y, reduction="max")
    for student, teacher in ((x[:0], y[:0]), (x, y[:2])):
        with pytest.raises(ValueError, match=f"{len(student)} student and {len(teacher)} teacher heads are no pairs"):
            alignment_loss(student, teacher)


def test_task_losses_against_torch():
    logits, teacher, labels = draw(4, 6), draw(4, 6, seed=1), torch.tensor([0, 3, 5, 1])
    assert torch.allclose(label_loss(logits, labels).mean(), cross_entropy(logits, labels))
    assert torch.allclose(answer_loss(logits, labels[:, None]), label_loss(logits, labels))
    both = answer_loss(logits, torch.tensor([[0, 2]] * 4))
    assert torch.allclose(both, -logits.softmax(-1)[:, [0, 2]].sum(-1).log())
    expected = 9 * kl_div((logits / 3).log_softmax(-1), (teacher / 3).softmax(-1), reduction="batchmean")
    assert torch.allclose(softened_loss(logits, teacher, temperature=3.0).mean(), expected)
    assert float(softened_loss(logits, logits, temperature=3.0).abs().max()) < 1e-12
    assert label_loss(logits.bfloat16(), labels).dtype == torch.float32


def test_wrong_distributions():
    with pytest.raises(ValueError, match="temperature must be above 0, not 0"):
        softened_loss(draw(2, 3), draw(2, 3), temperature=0)
    with pytest.raises(ValueError, match=r"have shapes \(2, 3\) and \(2, 4\): KL needs one vocabulary"):
        softened_loss(draw(2, 3), draw(2, 4), temperature=1.0)


def test_composite():
    task, alignment = torch.tensor(0.3), torch.tensor(0.5)
    assert float(composite(task, alignment, weight=2.0)) == pytest.approx(1.3)
    assert composite(task, alignment, weight=0) is task
    assert composite(task, None, weight=2.0) is task


def test_estimated_effects_are_exact_where_the_metric_is_linear():
    z, slope = draw(5, 3, 2, 4), draw(1, 3, 2, 4, seed=1).expand(5, -1, -1, -1)
    real = torch.tensor([[1, 1, 1]] * 4 + [[1, 1, 0]]).bool()
    weight = real[..., None, None]
    mean = (z * weight).sum(0) / weight.sum(0)

    def metric(value):
        return (value * slope * weight).sum((1, 2, 3)).mean()

    for head in range(2):
        ablated = z.clone()
        ablated[:, :, head] = mean[:, head]
        expected = float(metric(z) - metric(ablated))
        assert float(estimated_effects(z, slope, real=real)[head]) == pytest.approx(expected, abs=1e-12)


def test_the_surrogate_is_one_minus_alignment():
    similarity, effects = torch.tensor([0.5, 1.0, 0.8]), torch.tensor([2.0, -1.0, 1.0])
    teacher, heads = torch.tensor([1.0, 0.4, 0.5]), torch.tensor([0, 1, 2])
    # Influences 1, 0 and 1/2: products 0.5 * 1, 1 * 0.6 and 0.8 * 1.
    assert float(surrogate_loss(similarity, effects, teacher_influence=teacher, heads=heads)) == pytest.approx(
        1 - 1.9 / 3
    )
    assert float(
        surrogate_loss(similarity, torch.zeros(3), teacher_influence=torch.zeros(3), heads=heads)
    ) == pytest.approx(1 - 2.3 / 3)
