"""Similarity of teacher and student components, as matrices [teacher, student] in float64.

Formulas (DC Eq. 6, section 4.1.2; semantics of the axes in each function):
- heads: cosine of flattened dataset-mean attention patterns, or the per-row cosine averaged over rows;
- MLPs: mean |cos| of the equal-rank pairs among the k = 3 leading eigenvectors of the centred covariance of
  outputs;
- subspace overlap ||U_T^T U_S||_F^2 / k, which does not change when close eigenvalues swap their order.
CKA, for components of any widths and bases, is in `comparison.cka`.

Limits. Eigenvectors are compared in the residual basis: rotating a model's residual stream leaves its logits
equal and changes Eq. 6 and the overlap, so pairs without a shared initialisation need CKA as well.

Where a component has no direction (an all-zero pattern, a covariance of rank below k) its similarity is
undefined: `undefined="error"` (default) raises, `undefined="zero"` makes it unlike everything.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.linalg import eigh

from circuitkd.comparison.checks import Array, finite, one_of
from circuitkd.comparison.products import with_float64

Undefined = Literal["error", "zero"]
UNDEFINED: tuple[Undefined, ...] = ("error", "zero")

# Eigenvalues below this share of the largest are rounding.
_RANK = 1e-12


def flattened_cosine(teacher: ArrayLike, student: ArrayLike, *, undefined: Undefined = "error") -> Array:
    """Cosine of flattened mean patterns: teacher [teacher, F], student [student, F] -> [teacher, student] (DC
    Eq. 6, heads).

    The caller flattens the dataset-mean pattern of each token length and concatenates them along F. Raises
    ValueError for unequal F, NaN, or an all-zero component (see `undefined`).
    """
    x, y = (
        finite(teacher, "teacher patterns", axes="teacher F"),
        finite(student, "student patterns", axes="student F"),
    )
    _same(x.shape[1], y.shape[1], "pattern entries")
    return np.clip(_unit(x, "teacher", undefined) @ _unit(y, "student", undefined).T, -1.0, 1.0)


def row_cosine(teacher: ArrayLike, student: ArrayLike, *, undefined: Undefined = "error") -> Array:
    """Cosine of each pattern row, averaged over rows: teacher [teacher, row, key], student [student, row,
    key] -> [teacher, student].

    Rows of shorter prompts are padded with zeros along key, which changes no cosine. Raises ValueError as
    `flattened_cosine`.
    """
    x = finite(teacher, "teacher patterns", axes="teacher row key")
    y = finite(student, "student patterns", axes="student row key")
    _same(x.shape[1:], y.shape[1:], "pattern rows and keys")
    rows = x.shape[1]
    x, y = (
        _unit(x, "teacher", undefined).reshape(len(x), -1),
        _unit(y, "student", undefined).reshape(len(y), -1),
    )
    return np.clip(x @ y.T / rows, -1.0, 1.0)


def leading_eigenvectors(covariance: ArrayLike, k: int = 3, *, undefined: Undefined = "error") -> Array:
    """The k leading unit eigenvectors, largest eigenvalue first: covariance [..., d, d] -> [..., d, k].

    The sign makes each vector's largest entry positive. Raises ValueError for k > d, an asymmetric matrix,
    NaN, or rank below k; with `undefined="zero"` the vectors beyond the rank are zero vectors instead.
    """
    matrices = finite(covariance, "covariance", axes="... d d")
    one_of(undefined, UNDEFINED, name="undefined")
    width = matrices.shape[-1]
    if matrices.shape[-2] != width or not 1 <= k <= width:
        raise ValueError(
            f"covariance must be square and at least k={k} wide, got shape {matrices.shape}; lower k or pass [d, d]"
        )
    flat = matrices.reshape(-1, width, width)
    if not np.allclose(flat, flat.swapaxes(1, 2), rtol=1e-6, atol=1e-9 * float(np.abs(flat).max())):
        raise ValueError("covariance is not symmetric; pass Gram.result().covariance, not a cross-covariance")
    vectors = np.stack([_leading(matrix, k, index, undefined) for index, matrix in enumerate(flat)])
    return vectors.reshape(*matrices.shape[:-2], width, k)


def leading_directions(
    rows: ArrayLike, k: int = 3, *, undefined: Undefined = "error", device: torch.device | str = "cpu"
) -> Array:
    """`leading_eigenvectors` [d, k] of the covariance of rows [row, d], which is never made: from the eigenvectors u of
    X X^T (rows centred, multiplied on `device`) as X^T u / |X^T u|. Cheap where rows are fewer than d.

    Raises ValueError for k > d, NaN, or rank below k (see `undefined`).
    """
    x = finite(rows, "rows", axes="row d")
    one_of(undefined, UNDEFINED, name="undefined")
    count, width = x.shape
    if not 1 <= k <= width:
        raise ValueError(f"rows must be at least k={k} wide, got shape {x.shape}; lower k")
    centred = torch.from_numpy(x - x.mean(axis=0)).to(with_float64(device))
    found = min(k, count)
    values, left = eigh((centred @ centred.T).cpu().numpy(), subset_by_index=[count - found, count - 1])
    vectors = (centred.T @ torch.from_numpy(left).to(centred)).cpu().numpy()
    lengths = np.linalg.norm(vectors, axis=0)
    vectors = vectors / np.where(lengths > 0, lengths, 1.0)
    missing = k - found
    return _largest_first(np.pad(values, (missing, 0)), np.pad(vectors, ((0, 0), (missing, 0))), 0, undefined)


def _leading(matrix: Array, k: int, index: int, undefined: Undefined) -> Array:
    width = len(matrix)
    return _largest_first(*eigh(matrix, subset_by_index=[width - k, width - 1]), index, undefined)


def _largest_first(values: Array, vectors: Array, index: int, undefined: Undefined) -> Array:
    """Ascending eigenvalues [k] with their vectors [d, k] -> vectors by descending value, with signs, without those
    beyond the rank."""
    values, vectors = values[::-1], vectors[:, ::-1]
    present = values > max(_RANK * float(values[0]), 0.0)
    if undefined == "error" and not present.all():
        raise ValueError(
            f"covariance {index} has rank {int(present.sum())} among its k={len(values)} leading directions, so its "
            "eigenvectors are arbitrary; capture more tokens, lower k, or pass undefined='zero'"
        )
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(values))])
    return np.where(present, vectors * signs, 0.0)


def eigenvector_similarity(
    teacher: ArrayLike, student: ArrayLike, *, k: int = 3, undefined: Undefined = "error"
) -> Array:
    """Mean |cos| of the k equal-rank eigenvector pairs: covariances [teacher, d, d], [student, d, d] ->
    [teacher, student] (DC Eq. 6).

    Raises ValueError for unequal widths (use cka) and as `leading_eigenvectors`.
    """
    x, y = (
        finite(teacher, "teacher covariances", axes="teacher d d"),
        finite(student, "student covariances", axes="student d d"),
    )
    same_width(x.shape[-1], y.shape[-1])
    return rank_cosine(leading_eigenvectors(x, k, undefined=undefined), leading_eigenvectors(y, k, undefined=undefined))


def rank_cosine(teacher_vectors: ArrayLike, student_vectors: ArrayLike) -> Array:
    """Mean |cos| of equal-rank pairs of unit vectors [teacher, d, k], [student, d, k] -> [teacher,
    student]."""
    x, y = _vectors(teacher_vectors, student_vectors)
    return np.clip(np.abs(np.einsum("tdk,sdk->tsk", x, y)).mean(axis=2), 0.0, 1.0)


def subspace_overlap(teacher_vectors: ArrayLike, student_vectors: ArrayLike) -> Array:
    """||U_T^T U_S||_F^2 / k of orthonormal vectors [teacher, d, k], [student, d, k] -> [teacher, student], 1
    for equal subspaces.

    Raises ValueError for unequal widths or k. For `leading_eigenvectors` of two stacks of covariances.
    """
    x, y = _vectors(teacher_vectors, student_vectors)
    products = np.einsum("tdk,sdl->tskl", x, y, optimize=True)
    return np.clip((products**2).sum(axis=(2, 3)) / x.shape[2], 0.0, 1.0)


def _unit(values: Array, side: str, undefined: Undefined) -> Array:
    """Rows of the last axis scaled to length 1; zero rows are an error or stay zero."""
    one_of(undefined, UNDEFINED, name="undefined")
    scale = np.abs(values).max(axis=-1, keepdims=True)
    zero = scale == 0
    if undefined == "error" and zero.any():
        raise ValueError(
            f"{side} component {int(np.argwhere(zero)[0][0])} has an all-zero pattern; drop it or pass undefined='zero'"
        )
    # Scaling by the largest entry first keeps the squares of very small patterns from underflowing.
    scaled = values / np.where(zero, 1.0, scale)
    length = np.linalg.norm(scaled, axis=-1, keepdims=True)
    return scaled / np.where(zero, 1.0, length)


def _vectors(teacher_vectors: ArrayLike, student_vectors: ArrayLike) -> tuple[Array, Array]:
    x = finite(teacher_vectors, "teacher eigenvectors", axes="teacher d k")
    y = finite(student_vectors, "student eigenvectors", axes="student d k")
    same_width(x.shape[1], y.shape[1])
    _same(x.shape[2], y.shape[2], "eigenvectors k")
    return x, y


def same_width(teacher: int, student: int) -> None:
    """Raise ValueError, pointing to cka, where eigenvectors would be of spaces of unequal width."""
    if teacher != student:
        raise ValueError(
            f"teacher and student widths differ ({teacher} and {student}), and eigenvectors of different "
            "spaces have no cosine: use cka (debiased) for models of unequal width"
        )


def _same(teacher: object, student: object, what: str) -> None:
    if teacher != student:
        raise ValueError(
            f"teacher and student {what} differ ({teacher} and {student}); use the same prompts and "
            "positions for both (align tokens to words where the tokenizers differ), or cka of the "
            "activations"
        )
