"""Where things are in a prompt: repeated tokens, members of a sequence, names, the answer position.

Roles of heads are defined on scenes. Prompts with the same scene share one mean attention pattern.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from circuitkd.tasks.binding import BoundExample, BoundTask

NAMES = ("IO", "S1", "S2")
_MEMBER = re.compile(r"member_(\d+)")


@dataclass(frozen=True)
class Scene:
    """One form of prompt of `n_pos` positions.

    `tokens` [pos]: the first position of the same token. `members`: positions of the given members of a sequence, in
    order. `names`: positions of the labels IO, S1 and S2, those that there are. `end`: where the answer is read.
    `labelled`: every position with a label.
    """

    n_pos: int
    tokens: tuple[int, ...]
    members: tuple[int, ...]
    names: tuple[tuple[str, int], ...]
    end: int
    labelled: frozenset[int]

    @property
    def mentions(self) -> dict[int, tuple[int, ...]]:
        """Every token's positions, by the first of them."""
        found: dict[int, tuple[int, ...]] = {}
        for place, first in enumerate(self.tokens):
            found[first] = (*found.get(first, ()), place)
        return found

    @property
    def unlabelled(self) -> tuple[int, ...]:
        """Positions without a label, but not the first."""
        return tuple(p for p in range(1, self.n_pos) if p not in self.labelled)


def scene_of(example: BoundExample) -> Scene:
    """The scene of an example's clean prompt."""
    labels, first_place = example.positions, dict[int, int]()
    return Scene(
        n_pos=len(example.clean),
        tokens=tuple(first_place.setdefault(token, place) for place, token in enumerate(example.clean)),
        members=members_of(example),
        names=tuple((name, labels[name][0]) for name in NAMES if len(labels.get(name, ())) == 1),
        end=example.answer_position,
        labelled=frozenset(p for places in labels.values() for p in places),
    )


def members_of(example: BoundExample) -> tuple[int, ...]:
    """Positions of the labels member_1, member_2, ... in order; those with several positions do not count."""
    numbered = [(int(m[1]), places) for name, places in example.positions.items() if (m := _MEMBER.fullmatch(name))]
    return tuple(places[0] for _, places in sorted(numbered) if len(places) == 1)


def scenes(task: BoundTask) -> dict[Scene, list[int]]:
    """The task's scenes, each with the indexes of its examples."""
    found: dict[Scene, list[int]] = {}
    for row, example in enumerate(task.examples):
        found.setdefault(scene_of(example), []).append(row)
    return found
