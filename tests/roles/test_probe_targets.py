"""What probes are asked for on the built-in tasks, and what is left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from circuitkd.roles.probe_targets import PAIRS, find_targets
from circuitkd.tasks.base import Task
from small_runs import model_for, prompts, task_of
from tiny_models import SPECS

MEMBERS = tuple(f"member {k}" for k in range(1, 5))


def targets_of(task, name="gpt2"):
    bound = task.bind(model_for(name), aligned=False)
    found, left_out = find_targets(bound)
    return bound, {t.name: t for t in found}, left_out


@pytest.mark.parametrize("name", ["gpt2", "bert", "llama"])
def test_targets_of_a_sequence(name):
    task = task_of("numeral-sequence", n=4)
    bound, found, left_out = targets_of(task, name)
    assert not left_out
    sequence = (*MEMBERS, "whole list", "previous member", "next member", "seen before")
    assert tuple(found) == sequence
    spell = model_for(name).tokenizer.convert_tokens_to_ids
    for i, example in enumerate(task.examples):
        given = [spell(w.rstrip(".")) for w in example.corrupted.split() if w.rstrip(".").isdigit()]
        assert len(given) == 4
        for k in range(4):
            assert found[f"member {k + 1}"].labels[i] == {given[k]}
        assert found["whole list"].labels[i] == set(given)
        assert found["next member"].labels[i] == {spell(example.answer.strip())}
        rows = [p.example for p in found["previous member"].places]
        previous = [label for row, label in zip(rows, found["previous member"].labels, strict=True) if row == i]
        assert previous == [{g} for g in given[:3]]
    for i, example in enumerate(bound.examples):
        at_members = [example.positions[f"member_{k}"][0] for k in (2, 3, 4)]
        assert [p.position for p in found["previous member"].places if p.example == i] == at_members
        assert (found["member 2"].places[i].prompts, found["next member"].places[i].prompts) == ("corrupted", "clean")
        assert found["whole list"].places[i].position == example.corrupted_answer_position
        assert found["next member"].places[i].position == example.answer_position
    assert found["whole list"].kind == "labels" and found["member 1"].kind == "classes"


@pytest.mark.parametrize("name", sorted(SPECS))
def test_seen_before_is_whether_the_token_occurred_earlier(name):
    bound, found, _ = targets_of(task_of("ioi", "numeral-sequence", n=8), name)
    target, at = found["seen before"], Counter()
    assert target.kind == "labels"
    assert len(set(target.places)) == len(target.places)
    for place, label in zip(target.places, target.labels, strict=True):
        ids = getattr(bound.examples[place.example], place.prompts)
        assert (ids[place.position] in ids[: place.position]) == (label == {1})
        at[len(ids), place.position, bool(label)] += 1
    assert all(at[length, position, not seen] == count for (length, position, seen), count in at.items())
    subject = bound.examples[0].positions["S2"][0]
    assert at[len(bound.examples[0].clean), subject, True] == 8


def test_tokens_seen_before_are_drawn_from_the_seed_and_not_too_many():
    bound = task_of("ioi", n=PAIRS + 10).bind(model_for("gpt2"))
    one, again, other = (find_targets(bound, seed=seed)[0][-1] for seed in (0, 0, 1))
    assert len(one.places) == 2 * PAIRS
    assert one == again != other


def test_a_task_without_members_has_the_answer_and_tokens_seen_before():
    _, found, left_out = targets_of(task_of("ioi"))
    assert list(found) == ["answer", "seen before"]
    assert left_out == dict.fromkeys(
        ("member i", "whole list", "previous member"), "needs the labels member_1, member_2, ..."
    )


def test_prompts_that_never_differ_in_what_they_repeat_have_no_tokens_seen_before():
    _, found, left_out = targets_of(task_of("numeral-sequence", n=1))
    assert "seen before" not in found
    assert left_out == {
        "seen before": "needs prompts of one length, of which some repeat a token where others have a new one"
    }


def test_sets_of_answers_are_left_out():
    _, found, left_out = targets_of(task_of("greater-than"))
    assert list(found) == ["seen before"]
    assert left_out["answer"] == "needs prompts with a single answer"


def test_corrupted_prompts_that_change_more_than_the_members_are_not_asked_for_members():
    numerals = [replace(e, corrupted=e.clean.replace(" in ", " at ")) for e in prompts("numeral-sequence")]
    _, found, left_out = targets_of(Task("t", tuple(numerals), origin="generated"))
    assert list(found) == ["next member", "seen before"]
    why = "needs corrupted prompts that differ from the clean ones in the members alone"
    assert left_out == dict.fromkeys((*MEMBERS, "whole list", "previous member"), why)


def test_prompts_of_unequal_length_and_with_fewer_members():
    long, short = prompts("numeral-sequence", n=2)
    cut = replace(short, labels={k: v for k, v in short.labels.items() if k != "member_4"})
    other = replace(long, id="other", corrupted=short.clean + " 3 .")
    bound, found, _ = targets_of(Task("t", (long, cut, other, *prompts("ioi", n=1)), origin="generated"))
    assert {len(e.clean) for e in bound.examples} == {len(bound.examples[0].clean), len(bound.examples[3].clean)}
    assert [p.example for p in found["member 1"].places] == [0]
    # without the label of the fourth member, the prompts differ in more than the members
    assert [p.example for p in found["member 4"].places] == [0]
    assert [p.example for p in found["next member"].places] == [0, 1, 2, 3]
