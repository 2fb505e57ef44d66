"""The fate of every teacher component, with its evidence. The rules are in `fates.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import pandas as pd

from circuitkd.components import Component

Kind = Literal["preserved", "merged", "split", "repurposed", "discarded"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Side:
    """One component in its model. `influence`: normalised, in [0, 1]. `drop_percent`: what its ablation costs of the
    model's logit difference, with its 95 % interval over examples; NaN where that difference is 0. `roles`: those found
    for it (none for an MLP); `near_roles`: those in which it scores 0.1 or more, found or not."""

    component: Component
    influence: float
    influential: bool
    drop_percent: float
    drop_interval: tuple[float, float]
    roles: tuple[str, ...] = ()
    near_roles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fate:
    """What became of a teacher component. `student`: its lookalike (for a split: the heir that is most like it);
    `similarity` to it, and `null`, the largest similarity to anything in untrained students. `others`: for a merger the
    teacher components that share the lookalike, for a split the other heirs. `reason`: the rule that decided, with its
    numbers."""

    fate: Kind
    teacher: Side
    student: Side
    similarity: float
    null: float
    others: tuple[Component, ...]
    reason: str


@dataclass(frozen=True)
class Fates:
    """Every teacher component's fate, heads first. `examples`: how many prompts the effects are means over. `rules`: what
    the words mean, and the thresholds. `summary`: one paragraph for readers who know none of this."""

    teacher: str
    student: str
    task: str
    examples: int
    fates: tuple[Fate, ...]
    rules: str
    summary: str

    def of(self, component: Component | str) -> Fate:
        """The fate of one teacher component. Raises ValueError for one that the teacher does not have."""
        wanted = Component.parse(component) if isinstance(component, str) else component
        found = [fate for fate in self.fates if fate.teacher.component == wanted]
        if not found:
            raise ValueError(f"{self.teacher} has no {wanted}: see the `fates`, one for each head and MLP")
        return found[0]

    def counts(self, *, influential: bool = False) -> dict[str, int]:
        """How many components have each fate; of the influential teacher components alone if wanted."""
        counted = [f for f in self.fates if f.teacher.influential or not influential]
        return {kind: sum(f.fate == kind for f in counted) for kind in KINDS}

    def to_pandas(self) -> pd.DataFrame:
        """One row a teacher component."""
        rows = [
            {
                "teacher": str(f.teacher.component),
                "fate": f.fate,
                "student": str(f.student.component),
                "others": " ".join(map(str, f.others)),
                "similarity": f.similarity,
                "null": f.null,
                "teacher_influence": f.teacher.influence,
                "student_influence": f.student.influence,
                "teacher_drop_percent": f.teacher.drop_percent,
                "student_drop_percent": f.student.drop_percent,
                "teacher_roles": ", ".join(f.teacher.roles),
                "student_roles": ", ".join(f.student.roles),
                "reason": f.reason,
            }
            for f in self.fates
        ]
        return pd.DataFrame(rows)
