"""What training moved: two comparisons of one teacher, with a student before and after, component by component.

The student's components are the same places in both, so their influences (DC Eq. 5, by the maximum of either state) and
effects can be subtracted; the teacher's components are the same, so their matches can be compared.

Limit: influences are relative to each state's own largest, so one component that grows lowers all others; effects, in
logits, stand beside them. Differences of two point estimates, without a test.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from circuitkd.comparison.kept import best_matches
from circuitkd.comparison.result import Comparison, MatchedPair
from circuitkd.components import Component


@dataclass(frozen=True)
class Moved:
    """A student component before and after: influences in [0, 1], mean effects in logits."""

    student: Component
    influence: tuple[float, float]
    effect: tuple[float, float]


@dataclass(frozen=True)
class Rematched:
    """A teacher component whose match is another one after than before."""

    teacher: Component
    influence: float
    before: MatchedPair
    after: MatchedPair


@dataclass(frozen=True)
class Changes:
    """`moved`: all student components, the largest change of influence first. `rematched`: the teacher's most influential
    first, of `matched` that have a match in both."""

    moved: tuple[Moved, ...]
    rematched: tuple[Rematched, ...]
    matched: int


def find_changes(before: Comparison, after: Comparison) -> Changes:
    """Compare a student's two states. Raises ValueError unless both are of one teacher, on the same examples, with
    students of one shape."""
    _check_alike(before, after)
    sweeps = before.student_sweep, after.student_sweep
    influences, effects = [s.influence() for s in sweeps], [s.drops for s in sweeps]
    order = np.argsort(-np.abs(influences[1] - influences[0]), kind="stable")
    moved = tuple(
        Moved(
            sweeps[0].components[i],
            (float(influences[0][i]), float(influences[1][i])),
            (float(effects[0][i]), float(effects[1][i])),
        )
        for i in order
    )
    first, second = best_matches(before.alignment.pairs), best_matches(after.alignment.pairs)
    both = [c for c in before.teacher_sweep.components if c in first and c in second]
    of_teacher = dict(zip(before.teacher_sweep.components, before.teacher_sweep.influence(), strict=True))
    other = [
        Rematched(c, float(of_teacher[c]), first[c], second[c]) for c in both if first[c].student != second[c].student
    ]
    return Changes(moved, tuple(sorted(other, key=lambda r: -r.influence)), len(both))


def _check_alike(before: Comparison, after: Comparison) -> None:
    def facts(c: Comparison) -> dict[str, object]:
        return {
            "teacher": c.teacher.fingerprint,
            "task": c.task,
            "examples": c.student_sweep.examples,
            "components of the student": c.student_sweep.components,
        }

    first, second = facts(before), facts(after)
    different = [name for name, value in first.items() if value != second[name]]
    if different:
        raise ValueError(
            f"the comparisons before and after training differ in their {' and '.join(different)}: compare one teacher "
            "with the same student before and after, on the same examples"
        )
