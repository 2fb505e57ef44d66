"""Losses of circuit distillation: pure differentiable functions on tensors (CD, "Loss"; semantics, section 11).

    L = L_task + weight * sum over pairs c of (1 - CKA_c)

CKA is linear CKA of z of a student head and of its teacher head over the rows of a batch, with the formulas of
`comparison.cka`. Gradients reach the student alone: alignment losses detach the teacher. All is computed in float32
or wider, whatever the inputs' type and under autocast too.

Limits. CKA is a statistic of its whole batch, so the mean over small batches is not that of one large batch. Biased
CKA of independent 32-wide heads is about 0.8 at 8 rows and 0.5 at 32 (`row_caution`); fewer than two rows (debiased:
four) are an error. Where a side is constant over the rows, up to rounding, CKA is 0 and has no gradient; so a pair
with a constant teacher head costs 1 and teaches nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from circuitkd.comparison.cka import hsic
from circuitkd.tasks.metrics import logit_difference

REDUCTIONS = ("sum", "mean")
# In units of the dtype's rounding: less variation than this is none.
_ROUNDING = 16


def cka(x: Tensor, y: Tensor, *, mask: Tensor | None = None, debiased: bool = False) -> Tensor:
    """Linear CKA [...] of x [..., row, p] and y [..., row, q], rows being the same tokens of both.

    `mask` [row] is True (or 1) for the rows that count. Biased values are in [0, 1] up to rounding. Raises ValueError
    for unequal rows and for too few of them (2, debiased 4).
    """
    if mask is not None:
        if mask.shape != x.shape[-2:-1]:
            raise ValueError(f"a mask of shape {tuple(mask.shape)} does not fit {x.shape[-2]} rows: give [row]")
        x, y = x[..., mask.bool(), :], y[..., mask.bool(), :]
    n, need = x.shape[-2], 4 if debiased else 2
    if y.shape[-2] != n:
        raise ValueError(f"CKA needs the same rows on both sides, not {n} and {y.shape[-2]}")
    if n < need:
        raise ValueError(
            f"{'debiased' if debiased else 'biased'} CKA needs at least {need} rows in a batch, got {n}: use a larger "
            "per-device batch, drop the incomplete last batch (dataloader_drop_last=True), or gather_rows=True"
        )
    with torch.autocast(x.device.type, enabled=False):
        x, y = _unit(x), _unit(y)
        own_x, own_y = _hsic(x, x, debiased), _hsic(y, y, debiased)
        least = _ROUNDING * torch.finfo(own_x.dtype).eps
        defined = (own_x > least) & (own_y > least)
        scale = torch.where(defined, own_x * own_y, 1.0).sqrt()
        return torch.where(defined, _hsic(x, y, debiased) / scale, 0.0)


def _unit(x: Tensor) -> Tensor:
    """Rows centred and scaled to Frobenius norm 1 (CKA ignores the scale); all zeros where they are constant."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    # The largest entry first, so that neither squares nor their sums leave the range of float32.
    x = x / _or_one(x.detach().abs().amax((-2, -1), keepdim=True))
    size = _norm(x)
    x = x - x.mean(-2, keepdim=True)
    spread = _norm(x)
    varies = spread > _ROUNDING * torch.finfo(x.dtype).eps * size
    return torch.where(varies, x / _or_one(spread), 0.0)


def _norm(x: Tensor) -> Tensor:
    return x.detach().square().sum((-2, -1), keepdim=True).sqrt()


def _or_one(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 1.0)


def _hsic(x: Tensor, y: Tensor, debiased: bool) -> Tensor:
    """HSIC [...] up to its factor, of centred rows."""
    norm = (x.transpose(-1, -2) @ y).square().sum((-2, -1))
    if not debiased:
        return norm
    r, s = x.square().sum(-1), y.square().sum(-1)
    return hsic(norm, (r * s).sum(-1), traces=r.sum(-1) * s.sum(-1), n=x.shape[-2], debiased=True)


def row_caution(rows: int, d_head: int, *, debiased: bool = False) -> str | None:
    """What to tell whoever trains on biased CKA with few rows (None where there is nothing to tell)."""
    if debiased or rows >= 2 * d_head:
        return None
    return (
        f"biased CKA over {rows} rows of width {d_head} is high for unrelated heads too (0.8 at 8 rows of width 32): use "
        f"at least {2 * d_head} rows in a batch, gather_rows=True, or debiased=True"
    )


def alignment_loss(student: Tensor, teacher: Tensor, *, debiased: bool = False, reduction: str = "sum") -> Tensor:
    """Sum (CD) or mean over pairs of 1 - CKA, from student [pair, row, p] and teacher [pair, row, q].

    Raises ValueError as `cka`, for no pairs, and for an unknown reduction.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"unknown reduction {reduction!r}: choose one of {', '.join(REDUCTIONS)}")
    if not len(student) or len(student) != len(teacher):
        raise ValueError(
            f"{len(student)} student and {len(teacher)} teacher heads are no pairs: give one of each a pair"
        )
    losses = 1 - cka(student, teacher.detach(), debiased=debiased)
    return losses.sum() if reduction == "sum" else losses.mean()


def composite(task: Tensor, alignment: Tensor | None, *, weight: float) -> Tensor:
    """L_task + weight * alignment (CD); with weight 0 or no alignment the task loss itself, bit for bit."""
    return task if alignment is None or weight == 0 else task + weight * alignment


def estimated_effects(z: Tensor, gradient: Tensor, *, real: Tensor) -> Tensor:
    """First-order mean effects [head] of ablating heads: the mean over rows of sum gradient . (z - mean z).

    z, gradient [row, pos, head, d_head], the gradient being that of the metric of each row by z; the means are taken
    over the rows, position by position, where `real` [row, pos]. Differentiable in z, the gradient being held fixed.
    """
    weight = real[..., None, None].to(z.dtype)
    mean = (z.detach() * weight).sum(0) / weight.sum(0).clamp(min=1)
    return (gradient.detach() * (z - mean) * weight).sum((1, 3)).mean(0)


def surrogate_loss(similarity: Tensor, student_effects: Tensor, *, teacher_influence: Tensor, heads: Tensor) -> Tensor:
    """1 - A over pairs, A being the mean of S (1 - |I_T - I_S|) (DC Eq. 8), differentiable in the student.

    similarity [pair], student_effects [head] of all student heads, teacher_influence [pair] in [0, 1], `heads` [pair]:
    the student head of each pair. I_S = max(0, effect) / the largest of them (DC Eq. 5).
    """
    positive = student_effects.clamp(min=0)
    influence = positive / _or_one(positive.max())
    return 1 - (similarity * (1 - (influence[heads] - teacher_influence).abs())).mean()


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy [row] of logits [row, vocab] against token ids [row], such as the teacher's top tokens."""
    return cross_entropy(_wide(logits), labels, reduction="none")


def answer_loss(logits: Tensor, answers: Tensor) -> Tensor:
    """Minus the log-probability [row] of the set of right answers [row, k], gaps in which are negative: ground truth."""
    chosen = logits.gather(-1, answers.clamp(min=0))
    return -logit_difference(chosen, logits, answer_mask=answers >= 0)


def softened_loss(logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) [row] of distributions softened by the temperature T (Hinton et al. 2015).

    Raises ValueError for T <= 0 and for vocabularies of unequal size.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    if logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student and teacher logits have shapes {tuple(logits.shape)} and {tuple(teacher_logits.shape)}: KL needs "
            "one vocabulary, use the task loss 'teacher-labels'"
        )
    wanted = (_wide(teacher_logits.detach()) / temperature).log_softmax(-1)
    found = (_wide(logits) / temperature).log_softmax(-1)
    return temperature**2 * kl_div(found, wanted, reduction="none", log_target=True).sum(-1)


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
