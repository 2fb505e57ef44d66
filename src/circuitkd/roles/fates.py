"""What became of each teacher component in the student: preserved, merged, split, repurposed or discarded.

DC section 3.2 decides this by hand and eye; these are explicit rules, and each fate carries its evidence.

    lookalike    the student component of the same type with the largest similarity (DC Eq. 7). Where several are equally
                 similar: the one of nearest influence, influential ones first if the teacher's is influential.
    alike        similarity to the lookalike above that to anything in untrained students (`untrained_similarity.py`)
    influential  normalised influence (DC Eq. 5) of at least INFLUENTIAL, and a mean effect whose 95 % interval over
                 examples is above 0

In this order, for a teacher component:
    discarded    nothing in the student is alike
    discarded    it is influential, and its lookalike isn't
    merged       it is influential, and so is another teacher component with the same (influential) lookalike
    split        it is influential, and so are two or more student components (its heirs) that are alike and whose own
                 nearest teacher component it is
    repurposed   both are influential, but their normalised influences differ by CHANGED or more, or both have roles, and
                 neither comes near any role of the other (scores 0.1 or more in it)
    discarded    it is not influential; its lookalike is, but that one's own nearest teacher component is another
    repurposed   it is not influential, and its lookalike, whose nearest it is, is
    preserved    otherwise: both are influential, or neither is

So with fewer student components plain many-to-one matching is never called a merger: all that merge must matter, on
both sides. Limits: similarity of patterns (or of subspaces) says that two components look at the same things, not that
they compute the same; influence is one ablation at a time, so components that back each other up look uninfluential.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from circuitkd.comparison.matching import TIE
from circuitkd.comparison.resampling import INTERVAL, resampled_means
from circuitkd.comparison.result import Comparison
from circuitkd.components import Component
from circuitkd.interventions.sweep_result import SweepResult
from circuitkd.roles.fate_result import Fate, Fates, Kind, Side
from circuitkd.roles.fate_words import summary
from circuitkd.roles.role_scoring import MINIMUM, RoleScores
from circuitkd.roles.untrained_similarity import UntrainedSimilarity

Floats = NDArray[np.float64]
# The fate, the index of the student component, the others, and the reason (see `Fate`).
Decision = tuple[Kind, int, tuple[Component, ...], str]
INFLUENTIAL, CHANGED, DRAWS, SEED = 0.05, 0.5, 2000, 0


def find_fates(
    comparison: Comparison, null: UntrainedSimilarity, *, roles: tuple[RoleScores, RoleScores] | None = None
) -> Fates:
    """Decide the fate of every teacher component; `roles` of teacher and student, where they are known.

    Raises ValueError for a null or roles of other models than those compared.
    """
    _check_fit(comparison, null, roles)
    teacher = component_sides(comparison.teacher_sweep, roles[0] if roles else None)
    student = component_sides(comparison.student_sweep, roles[1] if roles else None)
    similarity, found = comparison.similarity, list[Fate]()
    for kind, values in (("head", similarity.head), ("mlp", similarity.mlp)):
        of_type = [[side for side in both if side.component.kind == kind] for both in (teacher, student)]
        levels = [n for n, side in zip(null.largest, teacher, strict=True) if side.component.kind == kind]
        found += _Type(values, of_type[0], of_type[1], np.array(levels)).fates()
    return Fates(
        teacher=comparison.teacher.name,
        student=comparison.student.name,
        task=comparison.task,
        examples=len(comparison.teacher_sweep.examples),
        fates=tuple(found),
        rules=_rules(null),
        summary=summary(found, comparison, heirs=Counter(s.component.kind for s in student if s.influential)),
    )


@dataclass(frozen=True, eq=False)
class _Type:
    """All components of one type: similarity `values` and the null of each teacher component, [teacher, student] and
    [teacher]."""

    values: Floats
    teacher: Sequence[Side]
    student: Sequence[Side]
    null: Floats

    def fates(self) -> list[Fate]:
        """The fate of each teacher component."""
        like = [_nearest(row, side, self.student) for row, side in zip(self.values, self.teacher, strict=True)]
        owner = [_nearest(row, side, self.teacher) for row, side in zip(self.values.T, self.student, strict=True)]
        found = []
        for t, side in enumerate(self.teacher):
            kind, s, others, reason = self._decide(t, like, owner)
            evidence = float(self.values[t, s]), float(self.null[t])
            found.append(Fate(kind, side, self.student[s], *evidence, others=others, reason=reason))
        return found

    def _alike(self, t: int, s: int) -> bool:
        return bool(self.values[t, s] > self.null[t])

    def _decide(self, t: int, like: list[int], owner: list[int]) -> Decision:
        s, side = like[t], self.teacher[t]
        mine = self.student[s]
        effects = f"{_effect(side)}; {_effect(mine)}"
        if not self._alike(t, s):
            why = f"nothing in the student is more like it than untrained students are ({self._likeness(t, s)})"
            return "discarded", s, (), why
        if side.influential and not mine.influential:
            why = f"it matters; what is most like it, {mine.component}, is not shown to ({effects})"
            return "discarded", s, (), why
        if side.influential:
            return self._influential(t, like, owner)
        if not mine.influential:
            return "preserved", s, (), f"neither is shown to matter ({effects})"
        if owner[s] != t:
            other = self.teacher[owner[s]].component
            why = f"it is not shown to matter; its lookalike {mine.component} matters, and is most like {other}"
            return "discarded", s, (), why
        return "repurposed", s, (), f"it is not shown to matter; its lookalike matters ({effects})"

    def _influential(self, t: int, like: list[int], owner: list[int]) -> Decision:
        """Of an influential component with an influential lookalike."""
        s, side = like[t], self.teacher[t]
        mine = self.student[s]
        sharing = [
            i
            for i, other in enumerate(self.teacher)
            if other.influential and like[i] == s and self._alike(i, s) and i != t
        ]
        if sharing:
            others = tuple(self.teacher[i].component for i in sharing)
            likeness = ", ".join(f"{self.teacher[i].component} {self.values[i, s]:.2f}" for i in (t, *sharing))
            return (
                "merged",
                s,
                others,
                f"all of these matter and are most like {mine.component}, which matters too: {likeness}",
            )
        heirs = [i for i, other in enumerate(self.student) if other.influential and owner[i] == t and self._alike(t, i)]
        if len(heirs) > 1:
            first, *rest = sorted(heirs, key=lambda i: (i != s, -self.values[t, i]))
            names = _listed([self.student[i].component for i in (first, *rest)])
            why = f"{names} matter in the student, and {side.component} is what each of them is most like"
            return "split", first, tuple(self.student[i].component for i in rest), why
        if abs(side.influence - mine.influence) >= CHANGED:
            return "repurposed", s, (), f"its lookalike matters differently: {_effect(side)}, {_effect(mine)}"
        shared = set(side.roles) & set(mine.near_roles) | set(mine.roles) & set(side.near_roles)
        if side.roles and mine.roles and not shared:
            return "repurposed", s, (), f"other roles: {', '.join(side.roles)} became {', '.join(mine.roles)}"
        return "preserved", s, (), f"both matter ({_effect(side)}; {_effect(mine)}); {self._likeness(t, s)}"

    def _likeness(self, t: int, s: int) -> str:
        return f"similarity {self.values[t, s]:.3f}, untrained at most {self.null[t]:.3f}"


def _nearest(similarity: Floats, side: Side, candidates: Sequence[Side]) -> int:
    """The most similar candidate; among equals (within 1e-9) an influential one for an influential side, then the one of
    nearest influence, then the first."""
    equal = np.flatnonzero(similarity >= similarity.max() - TIE)

    def order(i: int) -> tuple[bool, float, int]:
        other = candidates[i]
        return side.influential and not other.influential, abs(side.influence - other.influence), i

    return min((int(i) for i in equal), key=order)


def component_sides(sweep: SweepResult, roles: RoleScores | None) -> list[Side]:
    """Every component of a model with its influence and whether that is more than chance, its drop and its roles."""
    draws = np.concatenate(list(resampled_means(sweep.effects, draws=DRAWS, seed=SEED)))
    low, high = np.percentile(draws, INTERVAL, axis=0)
    percent = 100 / (abs(float(sweep.base.mean())) or np.nan)
    found = []
    for i, (component, influence) in enumerate(zip(sweep.components, sweep.influence(), strict=True)):
        has_roles = roles if component.kind == "head" else None
        found.append(
            Side(
                component=component,
                influence=float(influence),
                influential=bool(influence >= INFLUENTIAL and low[i] > 0),
                drop_percent=float(percent * sweep.drops[i]),
                drop_interval=(float(percent * low[i]), float(percent * high[i])),
                roles=tuple(has_roles.of(component)) if has_roles else (),
                near_roles=has_roles.near(component) if has_roles else (),
            )
        )
    return found


def _effect(side: Side) -> str:
    low, high = side.drop_interval
    return f"{side.component}: influence {side.influence:.2f}, drop {side.drop_percent:.1f} % ({low:.1f} to {high:.1f})"


def _listed(components: Sequence[Component]) -> str:
    names = [str(c) for c in components]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _rules(null: UntrainedSimilarity) -> str:
    return (
        f"influential: influence of {INFLUENTIAL:g} or more of the largest, and a 95 % interval of the mean effect above 0; "
        f"alike: similarity ({null.definition}) above the largest with {len(null.seeds)} randomly initialised students; "
        f"repurposed: influences {CHANGED:g} or more apart, or roles in which the other scores below {MINIMUM:g}"
    )


def _check_fit(comparison: Comparison, null: UntrainedSimilarity, roles: tuple[RoleScores, RoleScores] | None) -> None:
    if len(null.largest) != len(comparison.teacher_sweep.components):
        raise ValueError(
            f"the null has {len(null.largest)} components, {comparison.teacher.name} has "
            f"{len(comparison.teacher_sweep.components)}: measure it with the compared models"
        )
    for found, model in zip(roles or (), (comparison.teacher, comparison.student), strict=False):
        if (found.model, found.task) != (model.name, comparison.task):
            raise ValueError(
                f"roles of {found.model} on {found.task!r} do not belong to a comparison of {model.name} on "
                f"{comparison.task!r}: score the roles of the compared models"
            )
