"""Splits share no prompt; rows hold the right tokens and positions; batches pad on the right."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from circuitkd.distill.data import (
    IGNORED,
    answer_positions,
    bind_pair,
    check_tokenizers,
    collate,
    real_tokens,
    rows_of,
    split,
)
from circuitkd.interventions.capture import make_batch
from circuitkd.tasks.registry import load_task
from distill_cases import shared_pair
from small_runs import model_for, task_of
from tiny_models import tiny


def test_parts_have_their_shares_and_no_prompt_in_common():
    task = load_task("ioi", 50, seed=3)
    # Every third prompt occurs twice, under another id.
    task = replace(task, examples=task.examples + tuple(replace(e, id=f"{e.id}-again") for e in task.examples[::3]))
    parts = split(task, shares=(0.5, 0.25, 0.25), seed=1)
    sides = [parts.train, parts.validation, parts.test]
    assert sorted(e.id for s in sides for e in s.examples) == sorted(e.id for e in task.examples)
    prompts = [{e.clean for e in s.examples} for s in sides]
    assert not (prompts[0] & prompts[1] or prompts[0] & prompts[2] or prompts[1] & prompts[2])
    assert [abs(len(s) - share * len(task)) <= 2 for s, share in zip(sides, (0.5, 0.25, 0.25), strict=True)] == [
        True
    ] * 3
    assert split(task, shares=(0.5, 0.25, 0.25), seed=1) == parts
    assert split(task, shares=(0.5, 0.25, 0.25), seed=2) != parts


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.5, 0.5, 0.5), (1.2, -0.1, -0.1)])
def test_wrong_shares(shares):
    with pytest.raises(ValueError, match="shares must be three positive numbers that add up to 1"):
        split(load_task("ioi", 9), shares=shares)


def test_too_few_examples_to_split():
    with pytest.raises(
        ValueError, match="5 examples with 5 different prompts leave 3, 1, 1 for training, validation and"
    ):
        split(load_task("ioi", 5))


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_a_batch_is_that_of_the_sweep(name):
    bound = shared_pair(name).bound[1]
    batch = collate([rows_of(bound)[i] for i in range(len(bound))])
    expected = make_batch(bound, range(len(bound)))
    assert torch.equal(batch["input_ids"], expected.tokens)
    assert torch.equal(batch["lengths"], expected.lengths)
    assert torch.equal(answer_positions(batch), expected.positions)
    for row, e in enumerate(bound.examples):
        assert [t for t in batch["labels"][row].tolist() if t != IGNORED] == [e.answers[0]]
        for column, ids in (("answers", e.answers), ("distractors", e.distractors)):
            assert tuple(t for t in batch[column][row].tolist() if t != IGNORED) == ids
        assert real_tokens(batch)[row].tolist() == [i < len(e.clean) for i in range(expected.tokens.shape[1])]


def test_sets_of_answers_keep_all():
    model = model_for("gpt2")
    bound = task_of("greater-than", "ioi", n=2).bind(model)
    batch = collate([rows_of(bound)[i] for i in range(4)])
    assert [sorted(t for t in row if t != IGNORED) for row in batch["answers"].tolist()] == [
        sorted(e.answers) for e in bound.examples
    ]
    assert len(bound.examples[0].answers) > 1


def test_tokenizers_that_differ_are_refused_with_both_sizes():
    teacher, student = model_for("gpt2"), tiny("gpt2")
    sizes = rf"\({len(teacher.tokenizer)} and {len(student.tokenizer)} tokens\)"
    with pytest.raises(
        ValueError, match=f"the tokenizers of tiny-gpt2 and tiny-gpt2 differ {sizes}: circuit distillation"
    ):
        bind_pair(task_of(), teacher, student=student)
    bare = [replace(m, tokenizer=None) for m in (teacher, student)]
    with pytest.raises(ValueError, match=rf"differ \({teacher.vocab_size} and {student.vocab_size} tokens\)"):
        check_tokenizers(*bare)
    check_tokenizers(bare[0], replace(teacher, tokenizer=None))


def test_models_of_different_kinds_are_refused():
    with pytest.raises(
        ValueError, match="read different tokens in example numeral-sequence-0: circuit distillation needs"
    ):
        bind_pair(task_of(), model_for("bert"), student=model_for("gpt2"))


def test_only_examples_that_both_can_take():
    found = bind_pair(task_of(n=2), model_for("gpt2", n_positions=18), student=model_for("gpt2"))
    ids = ["ioi-0", "ioi-1"]
    assert [[e.id for e in b.examples] for b in found] == [ids, ids]


def test_a_prompt_of_one_token_is_refused():
    bound = shared_pair().bound[1]
    short = replace(bound.examples[0], clean=bound.examples[0].clean[:1], answer_position=0)
    with pytest.raises(ValueError, match="the prompt of example numeral-sequence-0 is a single token"):
        rows_of(replace(bound, examples=(short,)))
