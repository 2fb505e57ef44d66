"""Belief tracking (CD's theory-of-mind task, after CausalToM): who can believe what about which container.

Two actors each fill a container; each may or may not see the other. An actor knows the content of their own
container, that of the other one only if they can see the other actor, else the answer is "unknown".
Corrupted: another story of the same template. Distractor: what a reader who got the visibility wrong (or
mixed up the containers) would say. Labels: query_actor, query_container, content (the queried container's),
sight (the queried actor's "can" or "cannot"), end.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from circuitkd.tasks.base import Example
from circuitkd.tasks.words import CONTAINERS, CONTENTS, NAMES, ROOMS

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Story:
    """Actors, containers and contents in order of action; `sees[i]`: actor i can see the other."""

    room: str
    actors: tuple[str, str]
    containers: tuple[str, str]
    contents: tuple[str, str]
    sees: tuple[bool, bool]

    def text(self) -> str:
        """The story without a question; 35 words and always the same word positions."""
        (a, b), (c, d), (x, y) = self.actors, self.containers, self.contents
        told = f"{a} and {b} work in the {self.room}. {a} fills the {c} with {x}. {b} fills the {d} with {y}."
        return f"{told} {self.sights()}"

    def sights(self) -> str:
        """Who can see whom: the last two sentences of the story."""
        (a, b), sight = self.actors, ["can" if s else "cannot" for s in self.sees]
        return f"{a} {sight[0]} see {b}. {b} {sight[1]} see {a}."

    def question(self, actor: int, container: int) -> str:
        """The prompt's last sentence, to be completed by the belief."""
        return f"{self.actors[actor]} believes the {self.containers[container]} contains"

    def belief(self, actor: int, container: int) -> str:
        """The correct completion."""
        return self.contents[container] if actor == container or self.sees[actor] else UNKNOWN

    def mistake(self, actor: int, container: int) -> str:
        """The distractor: the other content for an own container, else the answer if they saw otherwise."""
        if actor == container:
            return self.contents[1 - container]
        return UNKNOWN if self.sees[actor] else self.contents[container]


def belief_tracking(n: int, seed: int) -> list[Example]:
    """`n` stories with one question each.

    A quarter asks about the actor's own container, the rest about the other's, which half of them can see.
    """
    rng = random.Random(seed)
    examples = []
    for i in range(n):
        actor, own = rng.randrange(2), i % 4 == 0
        container = actor if own else 1 - actor
        story = draw_story(rng, names=NAMES, contents=CONTENTS)
        other = draw_story(
            rng,
            names=[x for x in NAMES if x not in story.actors],
            contents=[x for x in CONTENTS if x not in story.contents],
        )
        clean = f"{story.text()} {story.question(actor, container)}"
        labels = {
            "content": 12 + 6 * container,
            "sight": 20 + 4 * actor,
            "query_actor": 27,
            "query_container": 30,
            "end": 31,
        }
        examples.append(
            Example(
                id=f"{i}",
                clean=clean,
                corrupted=f"{other.text()} {other.question(actor, container)}",
                answer=f" {story.belief(actor, container)}",
                distractor=f" {story.mistake(actor, container)}",
                labels=labels,
                template="own" if own else "other",
            )
        )
    return examples


def draw_story(rng: random.Random, *, names: Sequence[str], contents: Sequence[str]) -> Story:
    """A random story over the given names and contents."""
    a, b = rng.sample(list(names), 2)
    c, d = rng.sample(CONTAINERS, 2)
    x, y = rng.sample(list(contents), 2)
    sees = (rng.random() < 0.5, rng.random() < 0.5)
    return Story(rng.choice(ROOMS), (a, b), (c, d), (x, y), sees)
