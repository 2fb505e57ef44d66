"""Role scores of every head from attention patterns, with a null and a threshold for each role (DC 3.1.2, Appendix C).

Attention of a head in a role is the attention from a query to the role's keys, averaged over the role's queries, on
patterns averaged over prompts. With u the attention that looking everywhere alike would give (keys over visible
positions, averaged alike),

    score = max(0, (attention - u) / (1 - u))     in [0, 1]: 0 as spread attention, 1 all attention.

Null: the same for shuffles of the role, leaving out pairs that some role names (`role_definitions.py`): the same
queries with other keys, chosen alike in all scenes. With T the value that the largest null score of all heads exceeds
in a share ALPHA / (number of roles) of the shuffles, the threshold of a role is where the odds are MARGIN times those
of T:

    threshold / (1 - threshold) = MARGIN T / (1 - T)     but at least MINIMUM

A head has a role iff its score exceeds the threshold, at least BREADTH of the role's queries score MINIMUM or more each,
and the role's own conditions hold. It may have several; its share of a role is that role's part of the sum of their
scores.

Error rate: the probability that any head of a model gets any role where attention has nothing to do with words and
labels is at most ALPHA. Exchanging labels alone cannot show that: a role with n different shuffles has a null score
above all others with probability 1 / (n + 1), and n is small where a form has one label and few other words
(`error_rates` [role]: ALPHA / (number of roles), or 1 / (n + 1) if that is more). Hence the margin: a head that likes
one place much more than any other head likes any other place is rare. That this is enough is measured, not proved
(tests/roles/test_role_scoring.py and test_patterns.py): random models with sharp attention have any role in fewer than
ALPHA of all cases, though in more than that a head exceeds all shuffles. Roles with fewer than FEWEST shuffles are left
out and named.

Limits: shuffles are exchangeable with the role only about as words are with each other: repeated words share what
attention to them there is. The threshold asks more of a head in a model whose other heads have strong habits. Sliding
windows are ignored in u.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from circuitkd.components import Component
from circuitkd.roles.role_definitions import ROLES, Arc, Role, Slots
from circuitkd.roles.scenes import Scene
from circuitkd.roles.shuffles import ArcSets, count_shuffles, own_arcs, shuffled_arcs

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Form = tuple[Scene, Floats, int]
ALPHA, MINIMUM, MARGIN, BREADTH = 0.05, 0.1, 3.0, 0.5
SHUFFLES, FEWEST, SEED = 500, 5, 0


@dataclass(frozen=True, eq=False)
class RoleScores:
    """Roles of every head of a model on a task.

    `attention`, `score` [head, role] as in the module docstring, both in [0, 1]. `threshold` [role]. `error_rates`
    [role]: what the shuffles alone say of the probability that any head exceeds all null scores by chance.
    `found` [head, role]: whether the head has the role. `share` [head, role]: rows sum to 1, or are 0 for a head
    without a role. `left_out`: role -> why it could not be asked for. `definition` says what was done.
    """

    model: str
    task: str
    heads: tuple[Component, ...]
    roles: tuple[str, ...]
    attention: Floats
    score: Floats
    threshold: Floats
    error_rates: Floats
    found: Bools
    share: Floats
    left_out: dict[str, str]
    definition: str

    def of(self, head: Component | str) -> dict[str, float]:
        """The roles of one head with their shares. Raises ValueError for a head that the model does not have."""
        row = self._row(head)
        return {name: float(self.share[row, i]) for i, name in enumerate(self.roles) if self.found[row, i]}

    def near(self, head: Component | str) -> tuple[str, ...]:
        """The roles in which a head scores MINIMUM or more, whether it has them or not. Raises ValueError as `of`."""
        row = self._row(head)
        return tuple(name for i, name in enumerate(self.roles) if self.score[row, i] >= MINIMUM)

    def _row(self, head: Component | str) -> int:
        wanted = Component.parse(head) if isinstance(head, str) else head
        if wanted not in self.heads:
            raise ValueError(f"{self.model} has no head {wanted}: see `heads`")
        return self.heads.index(wanted)

    def best(self, role: str) -> Component | None:
        """The head with the highest score among those that have the role; None where no head has it, or where the
        role was left out."""
        if role not in self.roles:
            return None
        column = self.roles.index(role)
        scores = np.where(self.found[:, column], self.score[:, column], -1.0)
        return self.heads[int(scores.argmax())] if self.found[:, column].any() else None

    def to_pandas(self) -> pd.DataFrame:
        """One row for each head and role."""
        named = ("attention", "score", "found", "share")
        rows = [
            {"head": str(head), "role": role, "threshold": float(self.threshold[j])}
            | {name: getattr(self, name)[i, j].item() for name in named}
            for i, head in enumerate(self.heads)
            for j, role in enumerate(self.roles)
        ]
        return pd.DataFrame(rows, columns=["head", "role", *named, "threshold"])


def score_patterns(
    forms: Iterable[Form],
    heads: Sequence[Component],
    *,
    names: tuple[str, str],
    is_causal: bool,
    shuffles: int = SHUFFLES,
) -> RoleScores:
    """Score mean patterns: each form is a scene, its mean pattern [head, pos, pos] (rows are queries) and its number of
    prompts. `names`: of the model and the task.

    Raises ValueError for fewer than 200 shuffles, too few for the thresholds of all roles.
    """
    if shuffles < 200:
        raise ValueError(f"{shuffles} shuffles cannot tell a threshold at {ALPHA:g} over all roles: use 200 or more")
    parts = {slots: _Part(slots, is_causal, shuffles) for role in ROLES for slots in _slots_of(role)}
    for form in forms:
        named = frozenset(arc for role in ROLES for slot in role.slots(form[0]) for arc in slot.arcs)
        for part in parts.values():
            part.add(form, named)
    return _result(parts, tuple(heads), names)


def _slots_of(role: Role) -> tuple[Slots, ...]:
    return (role.slots, *role.parts, *([role.rival] if role.rival else []))


class _Part:
    """One list of slots, summed over prompts: attention and what spread attention gives, in the scenes and in shuffles
    of them."""

    def __init__(self, slots: Slots, is_causal: bool, shuffles: int) -> None:
        self.slots, self.is_causal, self.shuffles = slots, is_causal, shuffles
        self.own: Floats | None = None
        self.null: Floats | None = None
        self.broad: Floats = np.zeros(0)
        self.prompts, self.null_prompts, self.distinct = 0, 0, 0

    def add(self, form: Form, named: frozenset[Arc]) -> None:
        """Add the patterns of one scene."""
        scene, patterns, prompts = form
        slots = self.slots(scene)
        if not slots:
            return
        queries = _attention(own_arcs(slots, scene, is_causal=self.is_causal), patterns)
        broad = prompts * (_rescaled(queries) >= MINIMUM).mean(axis=0)
        own = prompts * queries.mean(axis=0, keepdims=True)
        self.own, self.broad = (own, broad) if self.own is None else (self.own + own, self.broad + broad)
        self.prompts += prompts
        shuffled = shuffled_arcs(slots, scene, named=named, draws=self.shuffles, seed=SEED, is_causal=self.is_causal)
        if shuffled is not None:
            null = prompts * _attention(shuffled, patterns)
            self.null = null if self.null is None else self.null + null
            self.null_prompts += prompts
            # Chosen alike in all scenes, more scenes have no more shuffles.
            self.distinct = max(self.distinct, count_shuffles(slots, named=named))

    @property
    def attention(self) -> Floats:
        """Mean attention [head]."""
        return self.own[0, :-1] / self.prompts if self.own is not None else np.zeros(0)

    @property
    def score(self) -> Floats:
        """Scores [head]."""
        return _rescaled(self.own / self.prompts)[0] if self.own is not None else np.zeros(0)

    @property
    def breadth(self) -> Floats:
        """Share of the queries whose own score is at least MINIMUM [head]."""
        return self.broad / max(self.prompts, 1)

    @property
    def largest(self) -> Floats:
        """The largest null score of all heads [shuffle]; empty where there is no null."""
        return _rescaled(self.null / self.null_prompts).max(axis=1) if self.null is not None else np.zeros(0)


def _attention(arcs: ArcSets, patterns: Floats) -> Floats:
    """Attention along each set [set, head + 1]; the last column is that of spread attention."""
    found = arcs.weights @ patterns.reshape(len(patterns), -1).T
    return np.concatenate([found, arcs.spread[:, None]], axis=1)


def _rescaled(attention: Floats) -> Floats:
    """Scores [set, head] from attention [set, head + 1] whose last column is that of spread attention."""
    spread = attention[:, -1:]
    return np.clip((attention[:, :-1] - spread) / np.where(spread < 1, 1 - spread, np.inf), 0.0, 1.0)


def _result(parts: dict[Slots, _Part], heads: tuple[Component, ...], names: tuple[str, str]) -> RoleScores:
    left_out = {r.name: why for r in ROLES if (why := _why_not(r, parts[r.slots]))}
    roles = [r for r in ROLES if r.name not in left_out]
    rate = ALPHA / max(len(roles), 1)
    threshold = {slots: _threshold(part.largest, rate) for slots, part in parts.items()}
    found = np.zeros((len(heads), len(roles)), dtype=bool)
    for i, role in enumerate(roles):
        found[:, i] = _found(role, parts, threshold)
    for i, role in enumerate(roles):
        covered = np.array([j for j, other in enumerate(roles) if other.name in role.covers], dtype=np.intp)
        found[np.ix_(found[:, i], covered)] = False
    score = _columns([parts[r.slots].score for r in roles], len(heads))
    owned = np.where(found, score, 0.0)
    total = owned.sum(axis=1, keepdims=True)
    return RoleScores(
        model=names[0],
        task=names[1],
        heads=heads,
        roles=tuple(r.name for r in roles),
        attention=_columns([parts[r.slots].attention for r in roles], len(heads)),
        score=score,
        threshold=np.array([threshold[r.slots] for r in roles]),
        error_rates=np.array([max(rate, 1 / (parts[r.slots].distinct + 1)) for r in roles]),
        found=found,
        share=owned / np.where(total > 0, total, 1.0),
        left_out=left_out,
        definition=_definition(next(iter(parts.values())).shuffles, len(roles)),
    )


def _columns(values: list[Floats], heads: int) -> Floats:
    return np.stack(values, axis=1) if values else np.zeros((heads, 0))


def _why_not(role: Role, part: _Part) -> str:
    if part.own is None:
        return f"needs {role.needs}"
    if part.distinct < FEWEST:
        return (
            f"has no null: the prompts have room for {part.distinct} other places of its labels, and {FEWEST} are needed to "
            "tell it from chance: use longer prompts"
        )
    return ""


def _threshold(largest: Floats, rate: float) -> float:
    if not len(largest):
        return np.inf
    level = float(np.quantile(largest, 1 - rate, method="higher"))
    return max(MINIMUM, MARGIN * level / (1 + (MARGIN - 1) * level))


def _found(role: Role, parts: dict[Slots, _Part], threshold: dict[Slots, float]) -> Bools:
    """Which heads [head] have the role."""
    needed = (role.slots, *role.parts)
    found = np.all([(parts[s].score > threshold[s]) & (parts[s].breadth >= BREADTH) for s in needed], axis=0)
    if role.rival is None or parts[role.rival].own is None:
        return np.asarray(found)
    return np.asarray(found & (parts[role.slots].attention > parts[role.rival].attention))


def _definition(shuffles: int, roles: int) -> str:
    return (
        "score: attention along the role's pairs, averaged over queries and prompts, rescaled so that 0 is spread "
        f"attention and 1 all attention; threshold: odds {MARGIN:g} times those that any head exceeds in {100 * ALPHA:g} % / "
        f"{roles} roles of {shuffles} shuffles of labels and positions (seed {SEED}), and at least {MINIMUM:g}, so that any "
        f"head of an untrained model has any role with a probability of at most {100 * ALPHA:g} %"
    )
