import random

import pytest

from circuitkd.tasks import belief_tracking, entity_tracking
from circuitkd.zoo import curriculum
from circuitkd.zoo.vocabulary import vocabulary


def text(row):
    return " ".join(word for word, _ in row)


def answers(row):
    return [(i, word) for i, (word, is_answer) in enumerate(row) if is_answer]


@pytest.mark.parametrize("form", range(curriculum.Curriculum.FORMS))
def test_every_form_uses_known_words_and_fits_the_context(form):
    rng = random.Random(form)
    for _ in range(50):
        row = curriculum.form_row(rng, form)
        assert all(word in vocabulary() for word, _ in row)
        assert len(row) <= 128 and answers(row)


def test_repeated_row_answers_with_what_came_before():
    row = curriculum.repeated_row(random.Random(0))
    words = [word for word, _ in row]
    half = len(words) // 2
    assert words[:half] == words[half:]
    assert [is_answer for _, is_answer in row] == [False] * (half + 1) + [True] * (half - 1)


@pytest.mark.parametrize("reverse", [False, True])
def test_pairs_are_answered_by_their_partners(reverse):
    rng = random.Random(3)
    for _ in range(20):
        row = curriculum.pairs_row(rng, reverse=reverse)
        words = [word for word, _ in row]
        for place, answer in answers(row):
            key = words[place - 1]
            first = words.index(key)
            assert words[first - 1 if reverse else first + 1] == answer


@pytest.mark.parametrize("order", entity_tracking.ORDERS)
def test_scene_rows_ask_six_boxes_and_never_a_held_out_prompt(order):
    rng = random.Random(1)
    for _ in range(30):
        row = curriculum.scene_row(rng, order=order, query=curriculum.FULL_QUERY)
        assert len(answers(row)) == 6
        words = text(row)
        scene, first = words.split(" . Box ", 1)
        letter = first.split()[0]
        for place, answer in answers(row)[:1]:
            assert row[place - 3][0] == letter and answer in scene


def test_held_out_prompts_are_an_eighth_and_skipped():
    rng = random.Random(0)
    shares = [curriculum.held_out(f"prompt {i}") for i in range(8000)]
    assert 0.11 < sum(shares) / len(shares) < 0.14
    prompts = set()
    for seed in range(300):
        for example in belief_tracking.belief_tracking(1, seed):
            prompts.add(example.clean)
    assert any(curriculum.held_out(p) for p in prompts)
    for _ in range(200):
        row = curriculum.short_row(rng)
        place, _ = answers(row)[0]
        assert place == len(row) - 2


def test_short_rows_show_both_orders_of_names():
    rng = random.Random(5)
    rows = [text(curriculum.short_row(rng)) for _ in range(400)]
    people = [r for r in rows if " and " in r and "year" not in r]
    repeated_first = [r.split(" and ")[0].split()[-1] == r.split(" . ")[1].split()[0] for r in people]
    assert 0.3 < sum(repeated_first) / len(repeated_first) < 0.7


def fillings(words):
    """(name, container, content) of the sentences "NAME fills the C with X .", where they are whole."""
    starts = [i for i, word in enumerate(words) if word == "with"]
    return [(words[i - 4], words[i - 1], words[i + 1]) for i in starts]


def test_facts_are_answered_by_what_was_filled_in():
    rng = random.Random(2)
    for _ in range(20):
        row = curriculum.facts_row(rng)
        words = [word for word, _ in row]
        holds = {container: content for _, container, content in fillings(words)}
        assert [holds[words[place - 2]] for place, _ in answers(row)] == [content for _, content in answers(row)]
        assert len(answers(row)) == len(holds)


def test_owners_know_what_they_filled_in_and_nothing_else():
    rng = random.Random(6)
    for _ in range(20):
        row = curriculum.owners_row(rng)
        words = [word for word, _ in row]
        filled = fillings(words)
        known = {(name, container): content for name, container, content in filled}
        found = answers(row)
        assert len(found) == 6 and [answer for _, answer in found[1::2]] == [belief_tracking.UNKNOWN] * 3
        for place, answer in found:
            assert known.get((words[place - 5], words[place - 2]), belief_tracking.UNKNOWN) == answer


def test_sights_are_asked_as_they_were_told():
    rng = random.Random(7)
    for _ in range(20):
        row = curriculum.recalled_sights_row(rng)
        words = [word for word, _ in row]
        sentences = [tuple(words[i : i + 4]) for i in range(0, len(words), 5)]
        half = len(sentences) // 2
        assert sorted(sentences[:half]) == sorted(sentences[half:]) and 2 <= half <= 8
        assert [place for place, _ in answers(row)] == [5 * i + 1 for i in range(half, 2 * half)]


def test_beliefs_by_sight_hang_on_the_sight_of_the_one_who_is_asked():
    rng = random.Random(8)
    for _ in range(20):
        row = curriculum.sights_row(rng)
        words = [word for word, _ in row]
        holds = {words[i - 1]: words[i + 1] for i, word in enumerate(words) if word == "contains" and i < 10}
        sees = {words[i - 2]: words[i - 1] == "can" for i, word in enumerate(words) if word == "see"}
        assert len(answers(row)) == 4 and len(holds) == len(sees) == 2
        for place, answer in answers(row):
            expected = holds[words[place - 2]] if sees[words[place - 5]] else belief_tracking.UNKNOWN
            assert answer == expected


def test_belief_rows_ask_four_questions():
    rng = random.Random(4)
    rows = [curriculum.belief_row(rng) for _ in range(30)]
    assert all(len(answers(r)) == 4 and text(r).count("believes") == 4 for r in rows)
    assert any(word == belief_tracking.UNKNOWN for r in rows for _, word in answers(r))


def test_a_mastered_form_brings_the_next_one():
    course = curriculum.Curriculum()
    assert course.stage == 1
    for _ in range(400):
        course.record(1, 1.0)
    assert course.stage == 2
    for _ in range(400):
        course.record(0, 1.0)
    assert course.stage == 2, "only the newest form counts"
    drawn = [course.draw(random.Random(i))[0] for i in range(300)]
    assert set(drawn) == {0, 1, 2} and drawn.count(2) > 140
    course.accuracy[2] = 0.95
    drawn = [course.draw(random.Random(i))[0] for i in range(300)]
    assert drawn.count(2) < 140
