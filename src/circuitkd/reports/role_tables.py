"""Roles and fates as rows for the templates: what is shown, in which order, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass

from circuitkd.components import Component
from circuitkd.reports.tables import Data
from circuitkd.roles.brittleness import Reliance
from circuitkd.roles.fate_result import KINDS, Fate, Fates
from circuitkd.roles.patching_result import ActivationPatching
from circuitkd.roles.result import RolesResult
from circuitkd.roles.role_scoring import RoleScores

FATE_WORDS = {
    "preserved": "a lookalike in the student matters as it does, or both do not matter",
    "merged": "several that matter are most like one student component that matters",
    "split": "several student components that matter are most like it",
    "repurposed": "its lookalike matters differently, or plays another role",
    "discarded": "nothing is alike, or what is alike does not matter or belongs to another",
}
FATE_COLUMNS = {
    "teacher": "teacher component",
    "student": "most similar student component",
    "others": "other components",
    "null": "largest similarity in untrained students",
    "teacher_influence": "teacher influence (0 to 1)",
    "student_influence": "student influence (0 to 1)",
    "teacher_drop_percent": "teacher drop (%)",
    "student_drop_percent": "student drop (%)",
    "teacher_roles": "teacher roles",
    "student_roles": "student roles",
}
ROLE_WORDS = {
    "previous token": "every word to the one before it",
    "first-token sink": "every word to the first one",
    "duplicate token": "a repeated word to its earlier mentions",
    "induction": "a repeated word to what followed its earlier mentions",
    "numeral detection": "each member of a sequence to the earlier members",
    "similar member": "members to earlier members, and repeated words to earlier mentions",
    "mover": "the answer position to all members",
    "successor": "the answer position to the last member",
    "name mover": "the answer position to the name that is the answer",
    "S-inhibition": "the answer position to the second mention of the other name",
}


@dataclass(frozen=True)
class RoleHead:
    """A head that has a role: its score and the threshold that it exceeds, and the role's share of what it does."""

    head: Component
    score: float
    threshold: float
    share: float


@dataclass(frozen=True)
class RoleRow:
    """The heads of one role in both models, the best first. None: the role was left out."""

    role: str
    looks: str
    teacher: tuple[RoleHead, ...] | None
    student: tuple[RoleHead, ...] | None


def ordered_fates(fates: Fates) -> list[Fate]:
    """The most influential teacher components first, among equals those with a more influential lookalike."""
    return sorted(fates.fates, key=lambda f: (-f.teacher.influence, -f.student.influence))


def fate_counts(fates: Fates) -> list[tuple[str, dict[str, int]]]:
    """How many teacher components have each fate: of those that matter, and of all."""
    important = sum(f.teacher.influential for f in fates.fates)
    rows = [(f"{important} that matter", fates.counts(influential=True)), (f"all {len(fates.fates)}", fates.counts())]
    return [(name, {kind: counts[kind] for kind in KINDS if counts[kind]}) for name, counts in rows]


def fate_data(fates: Fates) -> Data:
    """All fates with their evidence."""
    table = fates.to_pandas()
    columns = tuple(FATE_COLUMNS.get(name, name) for name in table.columns)
    return Data(columns, tuple(table.itertuples(index=False, name=None)))


def role_rows(result: RolesResult) -> list[RoleRow]:
    """The heads of each role that was asked for in one model at least, roles that some head has first."""
    sides = result.teacher.scores, result.student.scores
    rows = [
        RoleRow(role, ROLE_WORDS.get(role, ""), _heads(sides[0], role), _heads(sides[1], role))
        for role in dict.fromkeys((*sides[0].roles, *sides[1].roles))
    ]
    return sorted(rows, key=lambda row: not (row.teacher or row.student))


def reliance_rows(result: RolesResult) -> list[tuple[Reliance, Reliance]]:
    """The best head of each role in teacher and student, roles that neither has left out."""
    pairs = zip(result.brittleness.teacher.reliances, result.brittleness.student.reliances, strict=True)
    return [(t, s) for t, s in pairs if t.head or s.head]


def left_out_rows(result: RolesResult) -> list[tuple[str, str]]:
    """What could not be done and why, one row for each reason, models taken together."""
    by_reason: dict[str, list[str]] = {}
    for what, why in result.left_out.items():
        by_reason.setdefault(why, []).append(what.rsplit(" of ", 1)[0])
    return [(", ".join(dict.fromkeys(names)), why) for why, names in by_reason.items()]


def left_out_examples(result: RolesResult) -> list[tuple[str, int, str]]:
    """How many examples are not in the maps by position, and why the first of them isn't."""
    sides = ("teacher", result.teacher), ("student", result.student)
    maps: dict[str, dict[str, str]] = {}
    for side, found in sides:
        if found.patching is not None:
            maps[f"activation patching, {side}"] = found.patching.left_out
        maps[f"contributions, {side}"] = found.contributions.left_out
    return [(name, len(out), next(iter(out.values()))) for name, out in maps.items() if out]


def mlp_cosines(result: RolesResult) -> dict[str, tuple[float, float]]:
    """For each teacher MLP with a plane the cosine to its lookalike's outputs: at the first token, and at the others."""
    if result.mlps is None:
        return {}
    first, others = result.mlps.first_token, result.mlps.other_tokens
    places = {
        str(p.teacher): (result.mlps.teacher_mlps.index(p.teacher), result.mlps.student_mlps.index(p.student))
        for p in result.planes
    }
    return {name: (float(first[at]), float(others[at])) for name, at in places.items()}


def cut_rows(patching: ActivationPatching | None, most: int) -> str:
    """A sentence where a map has more components than are drawn."""
    if patching is None or len(patching.components) <= most:
        return ""
    return f"The {most} of {len(patching.components)} components with the largest effects are drawn."


def _heads(scores: RoleScores, role: str) -> tuple[RoleHead, ...] | None:
    if role not in scores.roles:
        return None
    column = scores.roles.index(role)
    threshold = float(scores.threshold[column])
    found = [
        RoleHead(head, float(scores.score[i, column]), threshold, float(scores.share[i, column]))
        for i, head in enumerate(scores.heads)
        if scores.found[i, column]
    ]
    return tuple(sorted(found, key=lambda h: -h.score))
