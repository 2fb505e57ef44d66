"""Linear CKA (Kornblith et al. 2019) of components of any widths and bases, biased and debiased.

CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) for the row kernels K = X X^T and L = Y Y^T. With centred
features HSIC(K, L) is, up to a factor that cancels,
- biased: ||X^T Y||_F^2;
- debiased (unbiased HSIC of Song et al. 2012, factor 1 / (n (n - 3))): ||X^T Y||_F^2 - n/(n-2) sum_i r_i s_i
  + (sum_i r_i) (sum_i s_i) / ((n-1) (n-2)), r and s squared row norms. So no n x n kernel is needed: rows
  stream through `accumulators.CrossGram`, or `cross_moments` takes arrays.

Rotating or scaling either side changes nothing. Limits: biased CKA is high for any two wide components at few
rows (independent 32-wide ones: 0.8 at 8 rows, 0.5 at 32); debiased CKA may lie slightly below 0 or above 1. A
constant component has no CKA: `undefined="error"` (default) raises, `undefined="zero"` makes it unlike
everything.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from circuitkd.accumulators import CrossMoments, OwnMoments
from circuitkd.comparison.checks import Array, finite, one_of
from circuitkd.comparison.products import Features, Scratch, squared_norms
from circuitkd.comparison.similarity import UNDEFINED, Undefined

Values = TypeVar("Values", Array, Tensor)

# Relative to the size of the data, in squared units: below these only rounding is left.
_CONSTANT = 1e-20
_DEGENERATE = 1e-12


def cross_moments(teacher: ArrayLike, student: ArrayLike, *, device: torch.device | str = "cpu") -> CrossMoments:
    """Statistics of linear CKA from arrays in memory: teacher [teacher, row, p], student [student, row, q].

    The same as streaming the rows through `CrossGram`, but by large products in parts of bounded size, in float64 on
    `device` (`comparison.products`). Raises ValueError for unequal rows and NaN.
    """
    x, y = (
        finite(teacher, "teacher activations", axes="teacher row p", dtype=None),
        finite(student, "student activations", axes="student row q", dtype=None),
    )
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"teacher and student have {x.shape[1]} and {y.shape[1]} rows; give the same tokens, in the "
            "same order, to both"
        )
    scratch = Scratch(device)
    sides = (Features.of(x, scratch=scratch), Features.of(y, scratch=scratch))
    norms = [side.row_norms() for side in sides]
    found = squared_norms(*sides)
    own = []
    for side, of_rows, norm in zip(sides, norms, found[1:], strict=True):
        trace, squares = of_rows.sum(dim=1), of_rows.square().sum(dim=1)
        scale = trace + side.rows * side.means.square().sum(dim=1)
        own.append(OwnMoments(norm, *(v.cpu().numpy() for v in (trace, squares, scale))))
    return CrossMoments(found.cross, (norms[0] @ norms[1].T).cpu().numpy(), own[0], own[1], x.shape[1])


def cka(x: ArrayLike, y: ArrayLike, *, debiased: bool = False) -> float:
    """Linear CKA of x [row, p] and y [row, q], rows being the same tokens.

    Raises ValueError for unequal or too few rows (2, debiased 4), NaN, or a constant array.
    """
    pair = finite(x, "x", axes="row p"), finite(y, "y", axes="row q")
    return float(cka_from_moments(cross_moments(pair[0][None], pair[1][None]), debiased=debiased)[0, 0])


def cka_matrix(
    teacher: ArrayLike,
    student: ArrayLike,
    *,
    debiased: bool = False,
    undefined: Undefined = "error",
    device: torch.device | str = "cpu",
) -> Array:
    """Linear CKA of teacher [teacher, row, p] and student [student, row, q] -> [teacher, student], multiplied on
    `device`. Raises ValueError as `cka`."""
    return cka_from_moments(cross_moments(teacher, student, device=device), debiased=debiased, undefined=undefined)


def cka_from_moments(moments: CrossMoments, *, debiased: bool = False, undefined: Undefined = "error") -> Array:
    """Linear CKA [teacher, student] from `CrossGram().result()` or `cross_moments`. Biased values lie in [0,
    1].

    Raises ValueError for too few rows (biased 2, debiased 4) and, with `undefined="error"`, for a constant
    component.
    """
    one_of(undefined, UNDEFINED, name="undefined")
    n, need = moments.count, 4 if debiased else 2
    if n < need:
        raise ValueError(
            f"{'debiased' if debiased else 'biased'} CKA needs at least {need} rows, got {n}; use more "
            "tokens or examples"
        )
    own_x, own_y = _own_hsic(moments.teacher, n, debiased), _own_hsic(moments.student, n, debiased)
    _report_undefined(own_x, own_y, undefined)
    cross = hsic(
        moments.norm,
        moments.rows,
        traces=np.multiply.outer(moments.teacher.trace, moments.student.trace),
        n=n,
        debiased=debiased,
    )
    defined = np.multiply.outer(own_x > 0, own_y > 0)
    scale = np.sqrt(np.where(defined, np.multiply.outer(own_x, own_y), 1.0))
    values = np.where(defined, cross / scale, 0.0)
    return values if debiased else np.clip(values, 0.0, 1.0)


def hsic(norm: Values, rows: Values, *, traces: Values, n: int, debiased: bool) -> Values:
    """HSIC up to a factor that cancels in CKA, from ||X^T Y||_F^2, sum_i r_i s_i, and the product `traces` of the two
    sides' sums of squared row norms (r_i, s_i), rows being centred; on arrays or tensors of any shape."""
    return norm - n / (n - 2) * rows + traces / ((n - 1) * (n - 2)) if debiased else norm


def _own_hsic(own: OwnMoments, n: int, debiased: bool) -> Array:
    """HSIC(K, K) per component, set to 0 where only rounding is left of the variation."""
    value = hsic(own.norm, own.rows, traces=own.trace**2, n=n, debiased=debiased)
    return np.where((own.trace > _CONSTANT * own.scale) & (value > _DEGENERATE * own.trace**2), value, 0.0)


def _report_undefined(own_x: Array, own_y: Array, undefined: Undefined) -> None:
    if undefined == "zero":
        return
    for own, side in ((own_x, "teacher (x)"), (own_y, "student (y)")):
        if (own == 0).any():
            raise ValueError(
                f"CKA is undefined: {side} component {int((own == 0).argmax())} is constant over the rows "
                "(or all but one of them); drop it, use more varied rows, or pass undefined='zero'"
            )
