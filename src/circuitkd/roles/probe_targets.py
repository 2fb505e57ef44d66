"""What linear probes are asked for, and where: the targets of DC Appendix J on a task's prompts.

    member i          the i-th given member, at the answer position of the corrupted prompt
    next member       the answer, at the answer position of the clean prompt ("answer" in tasks that are no sequences)
    whole list        which members occur at all (multi-label), at the answer position of the corrupted prompt
    previous member   the member before, at every member from the second on, of the corrupted prompt
    seen before       whether the token occurred earlier (binary), at positions of clean and corrupted prompts

DC doesn't say which prompts it probes. In a rising sequence all members follow from any one of them, and the previous
member from the current token: there the first, second and fourth target would be the next member under other names, and
any early layer would know them. So these are asked of the corrupted prompts, whose members are drawn independently, and
only where these differ from the clean ones in the members alone (so that the labelled positions hold).

In prompts of one form most positions always hold a repeated token, or never. Tokens seen before are asked for only where
prompts of one length differ in it, with as many repeated as new tokens at each position.

A class is the token at the label's position: the last token of a member that has several.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from circuitkd.interventions.capture import Prompts
from circuitkd.roles.scenes import members_of
from circuitkd.tasks.binding import BoundExample, BoundTask

Kind = Literal["classes", "labels"]
PAIRS = 400


@dataclass(frozen=True)
class Place:
    """A position of one of the two prompts of an example (its index in the task)."""

    example: int
    prompts: Prompts
    position: int


@dataclass(frozen=True)
class Target:
    """What to predict at some places. `labels` [place]: one token id for `kind` "classes", any number of them for
    "labels" (each is a yes or no)."""

    name: str
    kind: Kind
    places: tuple[Place, ...]
    labels: tuple[frozenset[int], ...]


def find_targets(task: BoundTask, *, seed: int = 0) -> tuple[list[Target], dict[str, str]]:
    """All targets that the task's labels allow, and for the others why not."""
    members = [members_of(e) for e in task.examples]
    most = max(len(m) for m in members)
    drawn = [i for i, e in enumerate(task.examples) if _only_members_differ(e, members[i])]
    found = [_member(task, members, drawn, number=k) for k in range(most)]
    found += [_whole_list(task, members, drawn), _previous(task, members, drawn)]
    why_not = (
        "needs corrupted prompts that differ from the clean ones in the members alone"
        if most
        else "needs the labels member_1, member_2, ..."
    )
    left_out = {"member i": why_not} if not most else {}
    left_out |= {t.name: why_not for t in found if not t.places}
    answer = _answer(task, "next member" if most else "answer")
    if not answer.places:
        left_out[answer.name] = "needs prompts with a single answer"
    seen = _seen_before(task, seed)
    if not seen.places:
        left_out[seen.name] = "needs prompts of one length, of which some repeat a token where others have a new one"
    return [t for t in (*found, answer, seen) if t.places], left_out


def _only_members_differ(example: BoundExample, members: tuple[int, ...]) -> bool:
    if not members or len(example.clean) != len(example.corrupted):
        return False
    pairs = enumerate(zip(example.clean, example.corrupted, strict=True))
    return all(a == b or place in members for place, (a, b) in pairs)


def _end(task: BoundTask, example: int) -> Place:
    return Place(example, "corrupted", task.examples[example].corrupted_answer_position)


def _member(task: BoundTask, members: Sequence[tuple[int, ...]], drawn: list[int], *, number: int) -> Target:
    rows = [i for i in drawn if number < len(members[i])]
    labels = [frozenset({task.examples[i].corrupted[members[i][number]]}) for i in rows]
    return Target(f"member {number + 1}", "classes", tuple(_end(task, i) for i in rows), tuple(labels))


def _whole_list(task: BoundTask, members: Sequence[tuple[int, ...]], drawn: list[int]) -> Target:
    labels = [frozenset(task.examples[i].corrupted[p] for p in members[i]) for i in drawn]
    return Target("whole list", "labels", tuple(_end(task, i) for i in drawn), tuple(labels))


def _previous(task: BoundTask, members: Sequence[tuple[int, ...]], drawn: list[int]) -> Target:
    pairs = [(i, before, here) for i in drawn for before, here in zip(members[i], members[i][1:], strict=False)]
    places = tuple(Place(i, "corrupted", here) for i, _, here in pairs)
    return Target(
        "previous member",
        "classes",
        places,
        tuple(frozenset({task.examples[i].corrupted[before]}) for i, before, _ in pairs),
    )


def _answer(task: BoundTask, name: str) -> Target:
    rows = [i for i, e in enumerate(task.examples) if len(e.answers) == 1]
    places = tuple(Place(i, "clean", task.examples[i].answer_position) for i in rows)
    return Target(name, "classes", places, tuple(frozenset(task.examples[i].answers) for i in rows))


def _seen_before(task: BoundTask, seed: int) -> Target:
    """Pairs of a repeated and a new token at one position of prompts of one length, at most PAIRS, drawn from `seed`."""
    both: tuple[Prompts, Prompts] = ("clean", "corrupted")
    found: dict[tuple[int, int], tuple[list[Place], list[Place]]] = {}
    for example, bound in enumerate(task.examples):
        for prompts in both:
            ids = bound.clean if prompts == "clean" else bound.corrupted
            for position, token in enumerate(ids):
                new, seen = found.setdefault((len(ids), position), ([], []))
                (seen if token in ids[:position] else new).append(Place(example, prompts, position))
    rng, pairs = random.Random(seed), list[tuple[Place, Place]]()
    for new, seen in found.values():
        count = min(len(new), len(seen))
        pairs += zip(rng.sample(new, count), rng.sample(seen, count), strict=True)
    rng.shuffle(pairs)
    places = tuple(place for pair in pairs[:PAIRS] for place in pair)
    return Target("seen before", "labels", places, (frozenset[int](), frozenset({1})) * (len(places) // 2))
