"""Streaming moments: means, Gram matrices and the statistics of linear CKA, in one pass over the rows.

Idea: nothing of size [row, component, width] is kept. Every accumulator takes `update(batch)` with the rows
on the first axis, and `result()` gives a frozen value that later updates do not change.

Formulas. Sums are kept about a shift a (the mean of the first batch) and moved to the mean at the end, so
that a mean much larger than the spread costs no digits: sum (x-mu)(x-mu)^T = sum (x-a)(x-a)^T - n
(mu-a)(mu-a)^T. Debiased CKA (Song et al. 2012; Kornblith et al. 2019) needs, besides ||Xc^T Yc||_F^2, the
sums of the squared row norms r_i = ||x_i - mu||^2, s_i = ||y_i - nu||^2 and of r_i s_i. The norms are known
only once mu is, so their products are expanded into sums that stream: sum r, sum r s, sum r y, sum s x.

Assumptions and limits: float64 throughout; rows are counted equally (drop padding before); `CrossGram` holds
the teacher x student cross products, 8 * T * p * S * q bytes; for wide models
`comparison.cka.cross_moments` needs only the rows in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def _batch(batch: ArrayLike, shape: tuple[int, ...] | None, what: str) -> Array:
    """`batch` as float64 with rows first; `shape` is that of one row in the batches before (None: this is the
    first)."""
    rows = np.asarray(batch, dtype=np.float64)
    if rows.ndim == 0 or (shape is not None and rows.shape[1:] != shape):
        raise ValueError(
            f"{what}: a batch of shape {rows.shape} is not [row, ...] with rows of shape "
            f"{shape if shape else 'given'}; "
            "put rows on the first axis and use one accumulator per row shape"
        )
    if not np.isfinite(rows).all():
        raise ValueError(f"{what}: the batch holds NaN or infinite values; check the model's dtype (try float32)")
    return rows


def _require_rows(count: int, what: str) -> None:
    if count == 0:
        raise ValueError(f"{what}: no rows were given; call update(batch) with at least one row before result()")


@dataclass(frozen=True, eq=False)
class MeanResult:
    """Mean over rows: `mean` [...], the shape of one row, and the number of rows `count`."""

    mean: Array
    count: int


class Mean:
    """Streaming mean of rows of any shape, for example positional means [pos, head, d_head] of equally long
    prompts."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: Array | None = None

    def update(self, batch: ArrayLike) -> None:
        """Add a batch [row, ...]. Raises ValueError for another row shape and for NaN or infinite values."""
        rows = _batch(batch, None if self._sum is None else self._sum.shape, "Mean")
        total = rows.sum(axis=0)
        self._sum = total if self._sum is None else self._sum + total
        self._count += len(rows)

    def result(self) -> MeanResult:
        """The mean so far. Raises ValueError where no row was given."""
        _require_rows(self._count, "Mean")
        assert self._sum is not None
        return MeanResult(self._sum / self._count, self._count)


@dataclass(frozen=True, eq=False)
class GramResult:
    """Moments of rows of width d: `mean` [..., d], `scatter` [..., d, d] = sum of centred outer products,
    `count`."""

    mean: Array
    scatter: Array
    count: int

    @property
    def covariance(self) -> Array:
        """Centred covariance [..., d, d], divided by the number of rows (its eigenvectors do not depend on
        the divisor)."""
        return self.scatter / self.count

    @property
    def second_moment(self) -> Array:
        """Uncentred second moment [..., d, d]: the mean of x x^T."""
        return self.covariance + self.mean[..., :, None] * self.mean[..., None, :]


class Gram:
    """Streaming mean and scatter matrix of rows [d], or of a stack of components [component, d]."""

    def __init__(self) -> None:
        self._count = 0
        self._shift: Array | None = None
        self._sum: Array = np.zeros(0)
        self._products: Array = np.zeros(0)

    def update(self, batch: ArrayLike) -> None:
        """Add a batch [row, d] or [row, component, d]. Raises ValueError for other shapes, NaN and infinite
        values."""
        rows = _batch(batch, None if self._shift is None else self._shift.shape, "Gram")
        if rows.ndim not in (2, 3):
            raise ValueError(
                f"Gram: expected [row, d] or [row, component, d], got shape {rows.shape}; flatten positions into rows"
            )
        if not len(rows):
            return
        if self._shift is None:
            self._shift = rows.mean(axis=0)
            self._sum, self._products = (
                np.zeros_like(self._shift),
                np.zeros((*self._shift.shape, self._shift.shape[-1])),
            )
        rows = rows - self._shift
        by_component = np.moveaxis(rows, 0, -1)
        self._sum = self._sum + rows.sum(axis=0)
        self._products = self._products + by_component @ by_component.swapaxes(-1, -2)
        self._count += len(rows)

    def result(self) -> GramResult:
        """Mean, scatter and count so far. Raises ValueError where no row was given."""
        _require_rows(self._count, "Gram")
        assert self._shift is not None
        offset = self._sum / self._count
        scatter = self._products - self._count * offset[..., :, None] * offset[..., None, :]
        return GramResult(self._shift + offset, scatter, self._count)


@dataclass(frozen=True, eq=False)
class OwnMoments:
    """Per component [component], with rows centred: `norm` = ||X^T X||_F^2, `trace` = sum of squared row
    norms, `rows` = sum of their squares; `scale` is the sum of squared row norms before centring (against
    which a constant component is recognised)."""

    norm: Array
    trace: Array
    rows: Array
    scale: Array


@dataclass(frozen=True, eq=False)
class CrossMoments:
    """All that linear CKA needs: `norm` [teacher, student] = ||X^T Y||_F^2 and `rows` [teacher, student] =
    sum_i |x_i|^2 |y_i|^2 of centred rows, each side's own moments, and the number of rows `count`."""

    norm: Array
    rows: Array
    teacher: OwnMoments
    student: OwnMoments
    count: int


class _Side:
    """Streamed sums of one model's components [component, width] about a shift."""

    def __init__(self, rows: Array) -> None:
        self.shift = rows.mean(axis=0)
        components, width = self.shift.shape
        self.sum, self.products = np.zeros((components, width)), np.zeros((components, width, width))
        self.norm_sum, self.norm_squares = np.zeros(components), np.zeros(components)
        self.norm_rows = np.zeros((components, width))

    def add(self, rows: Array) -> tuple[Array, Array]:
        """Add rows [row, component, width]; returns them shifted, and their squared norms [row,
        component]."""
        shifted = rows - self.shift
        norms = np.einsum("rcw,rcw->rc", shifted, shifted)
        by_component = shifted.transpose(1, 2, 0)
        self.sum += shifted.sum(axis=0)
        self.products += by_component @ by_component.swapaxes(1, 2)
        self.norm_sum += norms.sum(axis=0)
        self.norm_squares += np.einsum("rc,rc->c", norms, norms)
        self.norm_rows += np.einsum("rc,rcw->cw", norms, shifted)
        return shifted, norms

    def moments(self, count: int) -> OwnMoments:
        mean = self.sum / count
        square = np.einsum("cw,cw->c", mean, mean)
        scatter = self.products - count * mean[:, :, None] * mean[:, None, :]
        trace = self.norm_sum - count * square
        rows = (
            self.norm_squares
            - 4 * np.einsum("cw,cw->c", mean, self.norm_rows)
            + 2 * square * self.norm_sum
            + 4 * np.einsum("cv,cvw,cw->c", mean, self.products, mean)
            - 3 * count * square**2
        )
        total = ((self.shift + mean) ** 2).sum(axis=1)
        return OwnMoments((scatter**2).sum(axis=(1, 2)), trace, rows, trace + count * total)


class CrossGram:
    """Streaming statistics of linear CKA between all teacher and all student components.

    Holds 8 * T * p * S * q bytes for T teacher components of width p and S student components of width q.
    """

    def __init__(self) -> None:
        self._count = 0
        self._teacher: _Side | None = None
        self._student: _Side | None = None
        self._products: Array = np.zeros(0)
        self._norms: Array = np.zeros(0)
        self._teacher_norms_student: Array = np.zeros(0)
        self._student_norms_teacher: Array = np.zeros(0)

    def update(self, teacher: ArrayLike, student: ArrayLike) -> None:
        """Add rows: teacher [row, p] or [row, teacher, p], student [row, q] or [row, student, q], row i of
        both being the same token.

        Raises ValueError for unequal numbers of rows, changed shapes, NaN and infinite values.
        """
        x, y = (
            _components(teacher, self._teacher, "CrossGram teacher"),
            _components(student, self._student, "CrossGram student"),
        )
        _same_rows(x, y)
        if not len(x):
            return
        if self._teacher is None or self._student is None:
            self._teacher, self._student = _Side(x), _Side(y)
            t, s, p, q = x.shape[1], y.shape[1], x.shape[2], y.shape[2]
            self._products, self._norms = np.zeros((t * p, s * q)), np.zeros((t, s))
            self._teacher_norms_student, self._student_norms_teacher = (
                np.zeros((t, s * q)),
                np.zeros((s, t * p)),
            )
        x, x_norms = self._teacher.add(x)
        y, y_norms = self._student.add(y)
        x_flat, y_flat = x.reshape(len(x), -1), y.reshape(len(y), -1)
        self._products += x_flat.T @ y_flat
        self._norms += x_norms.T @ y_norms
        self._teacher_norms_student += x_norms.T @ y_flat
        self._student_norms_teacher += y_norms.T @ x_flat
        self._count += len(x)

    def result(self) -> CrossMoments:
        """The moments of the rows so far, centred. Raises ValueError where no row was given."""
        _require_rows(self._count, "CrossGram")
        assert self._teacher is not None
        assert self._student is not None
        n, x, y = self._count, self._teacher, self._student
        mean_x, mean_y = x.sum / n, y.sum / n
        square_x, square_y = (mean_x**2).sum(axis=1), (mean_y**2).sum(axis=1)
        blocks = self._products.reshape(*mean_x.shape, *mean_y.shape)
        centred = blocks - n * mean_x[:, :, None, None] * mean_y[None, None]
        rows = (
            self._norms
            - 2 * np.einsum("tsw,sw->ts", self._teacher_norms_student.reshape(len(mean_x), *mean_y.shape), mean_y)
            - 2 * np.einsum("stw,tw->ts", self._student_norms_teacher.reshape(len(mean_y), *mean_x.shape), mean_x)
            + x.norm_sum[:, None] * square_y
            + square_x[:, None] * y.norm_sum
            + 4 * np.einsum("tsw,sw->ts", np.einsum("tv,tvsw->tsw", mean_x, blocks), mean_y)
            - 3 * n * square_x[:, None] * square_y
        )
        return CrossMoments(np.einsum("tvsw,tvsw->ts", centred, centred), rows, x.moments(n), y.moments(n), n)


def _components(batch: ArrayLike, side: _Side | None, what: str) -> Array:
    """[row, d] or [row, component, d] -> [row, component, d], checked against the earlier batches."""
    rows = _batch(batch, None, what)
    rows = rows[:, None, :] if rows.ndim == 2 else rows
    if rows.ndim != 3:
        raise ValueError(
            f"{what}: expected [row, d] or [row, component, d], got shape {rows.shape}; flatten positions into rows"
        )
    return _batch(rows, None if side is None else side.shift.shape, what)


def _same_rows(x: Array, y: Array) -> None:
    if len(x) != len(y):
        raise ValueError(
            f"teacher and student rows differ ({len(x)} and {len(y)}); give the same tokens, in the same order, to both"
        )
