"""Roles of attention heads, each defined by where the attention goes: from which positions to which.

    previous token      every token to the one before it (from the third on, so that it isn't the first-token sink)
    first-token sink    every token to the first one
    duplicate token     a repeated token to its earlier mentions
    induction           a repeated token to what followed its earlier mentions
    numeral detection   a member of the sequence to the earlier members (DC C.2)
    similar member      both: members to earlier members, and repeated words to their earlier mentions (DC C.1)
    mover               the answer position to the members, not only the last (DC C.3)
    successor           the answer position to the last member, more than to all earlier ones (DC Figure 1)
    name mover          the answer position to the indirect object, more than to the subject (Wang et al. 2023)
    S-inhibition        the answer position to the subject's second mention

A definition is a list of slots. A slot holds the pairs (query, key) that belong to the role, and other pairs, which
could stand in their place if words and labels meant nothing: the same queries with other keys. One choice in every
slot, alike for all prompts of a scene, makes a shuffle (prompts shuffled one by one would make any habit of liking a
position look like a role):

    previous token      further back, equally far for all
    first-token sink    another unlabelled position, the same for all
    duplicate token, induction   for every repeated token the mentions of another token (or what followed them)
    the others          for every label all mentions of an unlabelled word

The same definitions serve causal and masked models, so "earlier" is meant for both. Pairs of two roles may coincide: in
"Lamp found in 3 . Boat found in" what followed the earlier "in" is a member, so a head that does induction also moves
members to the answer position. It has both roles then, with a share of each. Limit: a pattern says where a head looks,
not what it does with it; `ov.py` and `activation_patching.py` ask that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from circuitkd.roles.scenes import Scene

Arc = tuple[int, int]


@dataclass(frozen=True)
class Slot:
    """`arcs`: the pairs (query, key) of a role. `others`: what a shuffle may put in their place."""

    arcs: tuple[Arc, ...]
    others: tuple[tuple[Arc, ...], ...]


Slots = Callable[[Scene], list[Slot]]


@dataclass(frozen=True)
class Role:
    """A role. `needs`: which labels or tokens it takes. Each of `parts` must be above its own null too, and attention
    along the role's pairs must exceed that along `rival`. A head with this role does not also get the roles that it
    `covers`."""

    name: str
    slots: Slots
    needs: str
    parts: tuple[Slots, ...] = ()
    rival: Slots | None = None
    covers: tuple[str, ...] = ()


def previous_token(scene: Scene) -> list[Slot]:
    """Every position from the third on, with the one before."""
    return _slot(*([(q, q - d) for q in range(max(2, d + 1), scene.n_pos)] for d in range(1, scene.n_pos)))


def first_token(scene: Scene) -> list[Slot]:
    """Every position from the third on, with the first."""
    elsewhere = [p for p in scene.unlabelled if p < scene.n_pos - 2]
    return _slot(*([(q, p) for q in range(max(2, p + 1), scene.n_pos)] for p in (0, *elsewhere)))


def duplicate_token(scene: Scene) -> list[Slot]:
    """Repeated tokens with their earlier mentions."""
    return _repeated(scene, after=0)


def induction(scene: Scene) -> list[Slot]:
    """Repeated tokens with what followed their earlier mentions."""
    return _repeated(scene, after=1)


def numeral_detection(scene: Scene) -> list[Slot]:
    """Members with earlier members."""
    return _labels(scene, [(scene.members, key) for key in scene.members])


def similar_member(scene: Scene) -> list[Slot]:
    """Members with earlier members and repeated tokens with earlier mentions; nothing unless there are both."""
    numerals, repeated = numeral_detection(scene), duplicate_token(scene)
    return numerals + repeated if numerals and repeated else []


def mover(scene: Scene) -> list[Slot]:
    """The answer position with the members, of which there must be two."""
    return _from_end(scene, scene.members if len(scene.members) > 1 else ())


def end_to_earlier_members(scene: Scene) -> list[Slot]:
    """The answer position with all members but the last."""
    return _from_end(scene, scene.members[:-1])


def successor(scene: Scene) -> list[Slot]:
    """The answer position with the last member."""
    return _from_end(scene, scene.members[-1:])


def name_mover(scene: Scene) -> list[Slot]:
    """The answer position with the indirect object."""
    return _from_end(scene, [p for name, p in scene.names if name == "IO"])


def end_to_subject(scene: Scene) -> list[Slot]:
    """The answer position with both mentions of the subject."""
    return _from_end(scene, [p for name, p in scene.names if name != "IO"])


def s_inhibition(scene: Scene) -> list[Slot]:
    """The answer position with the subject's second mention."""
    return _from_end(scene, [p for name, p in scene.names if name == "S2"])


def _from_end(scene: Scene, keys: Sequence[int]) -> list[Slot]:
    return _labels(scene, [((scene.end,), key) for key in keys])


def _labels(scene: Scene, pairs: Iterable[tuple[Iterable[int], int]]) -> list[Slot]:
    """A slot for each label: its queries with its position, or with all mentions of an unlabelled word."""
    words = [places for places in scene.mentions.values() if set(places) <= set(scene.unlabelled)]
    found = []
    for queries, key in pairs:
        found += _slot(*([(q, k) for q in queries for k in keys if k < q] for keys in ((key,), *words)))
    return found


def _repeated(scene: Scene, *, after: int) -> list[Slot]:
    """A slot for each repeated token: its mentions with the places `after` earlier mentions of it, or of another."""
    found, mentions = [], scene.mentions
    for token, places in mentions.items():
        keys_of = [mentions[token], *(keys for other, keys in mentions.items() if other != token)]
        found += _slot(*([(q, k + after) for q in places for k in keys if k < q and k + after < q] for keys in keys_of))
    return found


def _slot(arcs: Sequence[Arc], *others: Sequence[Arc]) -> list[Slot]:
    """The slot of these pairs, if there are any; of the others, what belongs to the same queries."""
    queries = {q for q, _ in arcs}
    kept = [tuple((q, k) for q, k in other if q in queries) for other in others]
    return [Slot(tuple(arcs), tuple(other for other in kept if other))] if arcs else []


_MEMBERS = "the labels member_1, member_2, ... before the answer position"
ROLES: tuple[Role, ...] = (
    Role("previous token", previous_token, "prompts of three tokens or more"),
    Role("first-token sink", first_token, "prompts of three tokens or more"),
    Role("duplicate token", duplicate_token, "repeated tokens"),
    Role("induction", induction, "repeated tokens"),
    Role("numeral detection", numeral_detection, _MEMBERS),
    Role(
        "similar member",
        similar_member,
        f"{_MEMBERS}, and repeated tokens",
        parts=(numeral_detection, duplicate_token),
        covers=("numeral detection", "duplicate token"),
    ),
    Role("mover", mover, _MEMBERS, parts=(end_to_earlier_members,)),
    Role("successor", successor, _MEMBERS, rival=end_to_earlier_members),
    Role("name mover", name_mover, "the label IO before the answer position", rival=end_to_subject),
    Role("S-inhibition", s_inhibition, "the label S2 before the answer position"),
)
