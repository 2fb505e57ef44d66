"""Checks of array input: float64, finite, of the expected number of axes. Every message says what to do
instead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def finite(values: ArrayLike, name: str, *, axes: str, dtype: type[np.float64] | None = np.float64) -> Array:
    """`values` as a finite, non-empty float64 array with the given axes ("pair", "teacher student", "...
    component"). `dtype=None` leaves a large array as it is, in its own dtype.

    A leading "..." allows further axes in front. Raises ValueError naming the array and, for NaN, the first
    bad entry.
    """
    array = np.asarray(values, dtype=dtype)
    names = axes.split()
    required = [axis for axis in names if axis != "..."]
    if array.ndim < len(required) or (array.ndim > len(required) and "..." not in names):
        raise ValueError(f"{name} must have axes [{', '.join(names)}], got shape {array.shape}")
    if array.size == 0:
        raise ValueError(
            f"{name} is empty (shape {array.shape}); give at least one entry along each of [{', '.join(names)}]"
        )
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(
            f"{name} holds NaN or an infinite value at index {where}; check the model's dtype (try float32) or drop it"
        )
    return array


def one_of(value: str | None, allowed: Sequence[str | None], *, name: str) -> None:
    """Raise ValueError listing the choices unless `value` is one of them."""
    if value not in allowed:
        raise ValueError(f"unknown {name} {value!r}: choose one of {', '.join(map(str, allowed))}")


def at_least(value: float, low: float, *, name: str) -> None:
    """Raise ValueError unless `value` is finite and not below `low`."""
    if not (np.isfinite(value) and value >= low):
        raise ValueError(f"{name} must be at least {low:g}, got {value}")
