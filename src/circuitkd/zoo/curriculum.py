"""Training text for the zoo: the tasks themselves, and easier forms that make binding (which box holds what) learnable.

Trained directly, binding a box to its object stays at chance for thousands of steps. It is learned through a chain of forms, each
a small step from the one before: repeated random words; "letter object" pairs; the reversed pair; the full statement with a
short query; the full form; what a container holds; what people believe who know only what they did themselves; who can see
whom; beliefs that hang on sight alone; the full beliefs. The next form enters when the last is mastered, and earlier forms stay
in the mix, or they are forgotten. A context asks several questions in turn.

A row is a list of (word, is_answer). Prompts whose checksum falls in the held-out class never occur in training.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

from circuitkd.tasks import belief_tracking, entity_tracking, greater_than, ioi, question_answering, sequences
from circuitkd.tasks.base import Example
from circuitkd.tasks.words import CONTAINERS, CONTENTS, LETTERS, NAMES, OBJECTS
from circuitkd.zoo.vocabulary import split

Row = list[tuple[str, bool]]
QUERIES = 6
SHORT_TASKS: tuple[Callable[[int, int], list[Example]], ...] = (
    sequences.numerals,
    sequences.number_words,
    sequences.months,
    ioi.ioi,
    ioi.ioi,
    greater_than.greater_than,
    question_answering.question_answering,
)


def held_out(prompt: str) -> bool:
    """Whether a prompt belongs to the eighth of all prompts that training never sees (by CRC-32)."""
    return zlib.crc32(prompt.encode()) % 8 == 0


def plain(text: str, *, answer: bool = False) -> Row:
    """A piece of text as a row, all of it answer or none of it."""
    return [(word, answer) for word in split(text)]


def short_row(rng: random.Random) -> Row:
    """One training example of a task with short prompts."""
    generate = rng.choice(SHORT_TASKS)
    while True:
        example = generate(2, rng.getrandbits(32))[rng.randrange(2)]  # generators alternate between forms
        if not held_out(example.clean):
            answer = rng.choice(example.answers)
            return plain(example.clean) + plain(answer, answer=True) + plain(".")


def belief_row(rng: random.Random) -> Row:
    """A story followed by its four questions in random order."""
    questions = [(a, c) for a in (0, 1) for c in (0, 1)]
    while True:
        story = belief_tracking.draw_story(rng, names=NAMES, contents=CONTENTS)
        rng.shuffle(questions)
        if held_out(f"{story.text()} {story.question(*questions[0])}"):
            continue
        row = plain(story.text())
        for q in questions:
            row += plain(story.question(*q)) + plain(story.belief(*q), answer=True) + plain(".")
        return row


def facts_row(rng: random.Random) -> Row:
    """Two to five fillings, then what each container holds, whoever knows it: the easier form of a belief."""
    filled = _fillings(rng)
    row = _told(filled)
    for _, container, content in rng.sample(filled, len(filled)):
        row += plain(f"The {container} contains") + plain(content, answer=True) + plain(".")
    return row


def owners_row(rng: random.Random) -> Row:
    """Two to five fillings, then beliefs of people who know only what they filled in: every second question is of another's."""
    filled = _fillings(rng)
    row = _told(filled)
    for i in range(QUERIES):
        name, container, content = rng.choice(filled)
        if i % 2:
            name, content = rng.choice([other for other, *_ in filled if other != name]), belief_tracking.UNKNOWN
        row += plain(f"{name} believes the {container} contains") + plain(content, answer=True) + plain(".")
    return row


def recalled_sights_row(rng: random.Random) -> Row:
    """One to four pairs of people and who of them can see the other, told twice: the second time it is asked for."""
    people = rng.sample(NAMES, 2 * rng.randint(1, 4))
    pairs = list(zip(people[::2], people[1::2], strict=True))
    told = [(a, rng.choice(("can", "cannot")), b) for pair in pairs for a, b in (pair, pair[::-1])]
    row: Row = []
    for a, sight, b in told:
        row += plain(f"{a} {sight} see {b}.")
    for a, sight, b in rng.sample(told, len(told)):
        row += plain(a) + plain(sight, answer=True) + plain(f"see {b}.")
    return row


def sights_row(rng: random.Random) -> Row:
    """Two contents nobody put there, who can see the other, and what they believe: it hangs on their sight alone."""
    story = belief_tracking.draw_story(rng, names=NAMES, contents=CONTENTS)
    row: Row = []
    for container, content in zip(story.containers, story.contents, strict=True):
        row += plain(f"The {container} contains {content}.")
    row += plain(story.sights())
    for who, what in rng.sample([(a, c) for a in (0, 1) for c in (0, 1)], 4):
        answer = story.contents[what] if story.sees[who] else belief_tracking.UNKNOWN
        row += plain(story.question(who, what)) + plain(answer, answer=True) + plain(".")
    return row


def _fillings(rng: random.Random) -> list[tuple[str, str, str]]:
    n = rng.randint(2, 5)
    return list(zip(rng.sample(NAMES, n), rng.sample(CONTAINERS, n), rng.sample(CONTENTS, n), strict=True))


def _told(filled: list[tuple[str, str, str]]) -> Row:
    return [w for name, container, content in filled for w in plain(f"{name} fills the {container} with {content}.")]


def repeated_row(rng: random.Random) -> Row:
    """Random words, then the same words again: what an induction head solves."""
    words = rng.sample(OBJECTS + LETTERS, rng.randint(3, 10))
    return [(w, False) for w in words] + [(words[0], False)] + [(w, True) for w in words[1:]]


def pairs_row(rng: random.Random, *, reverse: bool) -> Row:
    """Two to seven "letter object" (or "object letter") pairs, then letters to be answered by their objects.

    A quarter of the rows pair containers and contents instead, so that beliefs can use what is learned here.
    """
    keys, things = (CONTAINERS, CONTENTS) if rng.random() < 0.25 else (LETTERS, OBJECTS)
    scene = entity_tracking.draw_scene(rng, letters=keys, objects=things)[: rng.randint(2, entity_tracking.BOXES)]
    row: Row = []
    for thing, letter in scene:
        row += plain(f"{thing} {letter}," if reverse else f"{letter} {thing},")
    return row + _queries(rng, scene, "{}")


def scene_row(rng: random.Random, *, order: str, query: str) -> Row:
    """A full scene and six queries of the given form ("Box {}" is the short one)."""
    while True:
        scene = entity_tracking.draw_scene(rng, letters=LETTERS, objects=OBJECTS)
        text = entity_tracking.describe(scene, order)
        row = plain(text) + _queries(rng, scene, query)
        first = next(i for i, (_, is_answer) in enumerate(row) if is_answer)
        letter = next(b for o, b in scene if o == row[first][0])
        if not held_out(f"{text} {FULL_QUERY.format(letter)}"):
            return row


FULL_QUERY = "Box {} contains the"
SHORT_QUERY = "Box {}"


def _queries(rng: random.Random, scene: entity_tracking.Scene, query: str) -> Row:
    row: Row = []
    for thing, letter in rng.sample(scene, min(QUERIES, len(scene))):
        row += plain(query.format(letter)) + plain(thing, answer=True) + plain(".")
    return row


def form_row(rng: random.Random, form: int) -> Row:
    """A row of one form of the chain: 0 repeated words, 1-2 pairs, 3-4 short queries, 5-6 entity tracking, 7 facts,
    8 owners' beliefs, 9 sights told again, 10 beliefs by sight, 11 beliefs."""
    if form == 0:
        return repeated_row(rng)
    if form <= 2:
        return pairs_row(rng, reverse=form == 2)
    if form >= 7:
        return BELIEF_FORMS[form - 7](rng)
    order = entity_tracking.ORDERS[form % 2 == 1]
    return scene_row(rng, order=order, query=SHORT_QUERY if form <= 4 else FULL_QUERY)


BELIEF_FORMS = (facts_row, owners_row, recalled_sights_row, sights_row, belief_row)


class Curriculum:
    """Chooses forms of the chain: the next one enters when the hardest so far is answered well.

    Forms already mastered stay in the mix with less weight; until it is mastered the newest gets about half of the rows.
    """

    FORMS = 12
    MASTERED = 0.9
    TASK_FORMS = (5, 6, 11)

    def __init__(self, stage: int = 1) -> None:
        self.stage = stage
        self.accuracy = [0.0] * self.FORMS

    def draw(self, rng: random.Random) -> tuple[int, Row]:
        """A form and a row of it."""
        weights = [2.0 if form in self.TASK_FORMS else 1.0 for form in range(self.stage + 1)]
        if self.accuracy[self.stage] < self.MASTERED:
            weights[-1] = self.stage + 1.0
        form = rng.choices(range(self.stage + 1), weights)[0]
        return form, form_row(rng, form)

    def record(self, form: int, share_correct: float) -> None:
        """Learn how well a row of `form` was answered (a running mean over about 60 rows), and move on when it is mastered."""
        self.accuracy[form] += (share_correct - self.accuracy[form]) / 60
        if form == self.stage < self.FORMS - 1 and self.accuracy[form] > self.MASTERED:
            self.stage += 1
