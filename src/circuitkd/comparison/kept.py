"""Which of the teacher's influential components have a counterpart in the student: the short answer to "what did it keep?".

    influential    influence (DC Eq. 5, by the maximum) of at least INFLUENTIAL
    alike          more similar to its match than to anything in a randomly initialised student of the student's shape
    kept           alike, and its match has at least HALF of its influence

`expected` is how many would be kept if the student's influences were dealt out at random within heads and within MLPs:
for each component that is alike, the share of the student's components of its type with enough influence.

Limits: a match that has more influence than the component counts as keeping it; several components may be kept by one
match; a student that was initialised from its teacher's layers is alike without any training. `roles.fates` tells kept,
merged, split and repurposed apart; it needs the models, this only the comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from circuitkd.comparison.result import Comparison, MatchedPair
from circuitkd.components import Component

INFLUENTIAL, HALF = 0.1, 0.5


@dataclass(frozen=True)
class KeptComponent:
    """One of the teacher's influential components and its match (None: it is in no pair). Influences by the maximum;
    `chance`: probability of being kept under shuffled influences."""

    teacher: Component
    influence: float
    match: MatchedPair | None
    match_influence: float
    is_alike: bool
    is_kept: bool
    chance: float

    @property
    def state(self) -> str:
        """ "kept", "weak" (alike, but with less than HALF of its influence) or "unlike"."""
        return "kept" if self.is_kept else "weak" if self.is_alike else "unlike"


@dataclass(frozen=True)
class Kept:
    """The teacher's influential components, the most influential first."""

    components: tuple[KeptComponent, ...]

    @property
    def count(self) -> int:
        """How many are kept."""
        return sum(c.is_kept for c in self.components)

    @property
    def expected(self) -> float:
        """How many would be kept under shuffled influences, on average."""
        return sum(c.chance for c in self.components)


def kept_components(comparison: Comparison) -> Kept | None:
    """What the student kept of the teacher's influential components; None for a comparison without an untrained student,
    which is the null of a match."""
    largest = comparison.alignment.null.random_largest
    if largest is None:
        return None
    teacher, student = comparison.teacher_sweep, comparison.student_sweep
    influences = teacher.influence(), student.influence()
    matches = best_matches(comparison.alignment.pairs)
    found = []
    for index in np.argsort(-influences[0], kind="stable"):
        component, influence = teacher.components[index], float(influences[0][index])
        if influence < INFLUENTIAL:
            break
        match = matches.get(component)
        of_type = np.array([c.kind == component.kind for c in student.components])
        found.append(_kept(component, influence, match, (float(largest[index]), influences[1], of_type), comparison))
    return Kept(tuple(found))


def best_matches(pairs: Sequence[MatchedPair]) -> dict[Component, MatchedPair]:
    """The pair of largest weight, and then of largest similarity, for each teacher component that is in one, in the
    order in which they come."""
    best: dict[Component, MatchedPair] = {}
    for pair in pairs:
        known = best.get(pair.teacher)
        if known is None or (pair.weight, pair.similarity) > (known.weight, known.similarity):
            best[pair.teacher] = pair
    return best


def _kept(
    component: Component,
    influence: float,
    match: MatchedPair | None,
    null: tuple[float, NDArray[np.float64], NDArray[np.bool_]],
    comparison: Comparison,
) -> KeptComponent:
    largest, influences, of_type = null
    if match is None:
        return KeptComponent(component, influence, None, 0.0, False, False, 0.0)
    own = float(influences[comparison.student_sweep.components.index(match.student)])
    is_alike = match.similarity > largest
    chance = float((influences[of_type] >= HALF * influence).mean()) if is_alike else 0.0
    return KeptComponent(component, influence, match, own, is_alike, is_alike and own >= HALF * influence, chance)
