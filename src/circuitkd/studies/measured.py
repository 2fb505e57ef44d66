"""What a quantity is, and the small steps that reading one off a result takes.

Intervals are 95 %, and NaN where the result has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuitkd.comparison.performance import Estimate
from circuitkd.comparison.resampling import interval, resampled_means
from circuitkd.components import Component
from circuitkd.tasks.rows import nearest

Floats = NDArray[np.float64]
SIDES = ("teacher", "student")
DRAWS, SEED = 2000, 0


@dataclass(frozen=True)
class Quantity:
    """`kind` of analysis that has it; `of`: what it is of, as in "a component like L4H4" (empty: nothing); `read` takes
    the result and that, and raises ValueError where the result does not have it. `unit` for the tables."""

    kind: str
    unit: str
    read: Callable[[Any, str], Estimate]
    of: str = ""


def plain(value: float) -> Estimate:
    """A value without an interval."""
    return Estimate(float(value), float("nan"), float("nan"))


def scaled(value: Estimate, factor: float) -> Estimate:
    """An estimate in another unit; a negative factor swaps the ends."""
    ends = sorted((factor * value.low, factor * value.high))
    return Estimate(factor * value.value, *ends)


def over_examples(values: Floats) -> Estimate:
    """Mean of values [example] with its bootstrap interval over examples."""
    draws = np.concatenate(list(resampled_means(values[None], draws=DRAWS, seed=SEED)))
    return Estimate(float(values.mean()), *interval(draws))


def chosen(wanted: str, known: Sequence[str], *, what: str) -> int:
    """Index of a name among those that a result has. Raises ValueError with the nearest one."""
    if wanted not in known:
        raise ValueError(f"there is no {what} {wanted!r}: {nearest(wanted, known)}" if known else f"there is no {what}")
    return list(known).index(wanted)


def two_components(text: str) -> tuple[str, str]:
    """The canonical names in "MLP9->MLP4". Raises ValueError for anything else."""
    parts = text.split("->")
    if len(parts) != 2:
        raise ValueError(f"{text!r} is no pair: write a teacher's and a student's component, as in MLP9->MLP4")
    return str(Component.parse(parts[0])), str(Component.parse(parts[1]))


def numbered(text: str, word: str) -> tuple[str, float]:
    """What stands before ", WORD NUMBER" and the number, as in "member, layer 5"; the word and number may stand alone.
    Raises ValueError for anything else."""
    name, found, number = text.rpartition(f"{word} ")
    try:
        value = float(number)
    except ValueError:
        found, value = "", 0.0
    if not found:
        raise ValueError(f"{text!r} names no {word}: write it as in '{word} 5'")
    return name.rstrip(", "), value
