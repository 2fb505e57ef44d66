"""Binding: what an example becomes, what is dropped and counted, what is refused and how."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import SHOWN, Unbindable, bind, bind_both, bind_example
from circuitkd.tasks.registry import TASKS, load_task
from stand_ins import bert_like, example, gpt2_like, llama_3_like, word_level
from tiny_models import tiny

PARIS = example("The capital of France is", "The capital of Italy is", " Paris", " Rome", labels={"country": 3})


def words(model, ids):
    return model.tokenizer.convert_ids_to_tokens(list(ids))


def test_a_causal_example_token_by_token():
    model = llama_3_like()
    bound = bind_example(replace(PARIS, template="capitals"), model, bos=None, aligned=True)
    assert words(model, bound.clean) == ["<bos>", "The", "Ġcapital", "Ġof", "ĠFrance", "Ġis"]
    assert words(model, bound.corrupted) == ["<bos>", "The", "Ġcapital", "Ġof", "ĠItaly", "Ġis"]
    assert (words(model, bound.answers), words(model, bound.distractors)) == (["ĠParis"], ["ĠRome"])
    assert (bound.answer_position, bound.corrupted_answer_position) == (5, 5)
    assert bound.positions == {"country": (4,), "end": (5,)}
    assert (bound.id, bound.template, bound.text) == ("0", "capitals", "The capital of France is")
    assert bound.moved_space is False


def test_a_masked_example_token_by_token():
    model = bert_like()
    bound = bind_example(PARIS, model, bos=None, aligned=True)
    assert words(model, bound.clean) == [
        "[CLS]",
        "the",
        "capital",
        "of",
        "france",
        "is",
        "[MASK]",
        ".",
        "[SEP]",
    ]
    assert (bound.answer_position, bound.positions["end"]) == (6, (6,))
    assert (words(model, bound.answers), words(model, bound.distractors)) == (["paris"], ["rome"])


def test_a_moved_space_is_in_both_prompts_and_recorded():
    model = llama_3_like()
    bound = bind_example(example("It is in the box", "It is in the park", " 5", " 4"), model, bos=None, aligned=True)
    assert words(model, bound.clean)[-2:] == ["Ġbox", "Ġ"]
    assert words(model, bound.corrupted)[-2:] == ["Ġpark", "Ġ"]
    assert (bound.moved_space, bound.answer_position, bound.text) == (True, 6, "It is in the box ")
    assert words(model, bound.answers) == ["5"]


def test_prompts_of_unequal_length_need_another_ablation():
    unequal = replace(PARIS, corrupted="It is")
    with pytest.raises(Unbindable, match="clean has 5 tokens and corrupted 2: make them equal, or use the ablation"):
        bind_example(unequal, gpt2_like(), bos=None, aligned=True)
    bound = bind_example(unequal, gpt2_like(), bos=None, aligned=False)
    assert (bound.answer_position, bound.corrupted_answer_position) == (4, 1)


def test_a_prompt_longer_than_the_context_is_refused():
    with pytest.raises(Unbindable, match="the prompt has 5 tokens, the model's context is 4: shorten it"):
        bind_example(PARIS, replace(gpt2_like(), max_positions=4), bos=None, aligned=True)
    with pytest.raises(Unbindable, match="the prompt has 6 tokens, the model's context is 5"):
        bind_example(PARIS, replace(gpt2_like(), max_positions=5), bos=True, aligned=True)
    assert len(bind_example(PARIS, replace(gpt2_like(), max_positions=5), bos=None, aligned=True).clean) == 5


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused():
    model, marks = gpt2_like(), replace(PARIS, answer="!", distractor="?")
    bound = bind_example(marks, model, bos=None, aligned=True)
    largest = max(*bound.clean, *bound.corrupted)
    assert largest > max(*bound.answers, *bound.distractors)
    with pytest.raises(Unbindable, match=rf"the prompt has token {largest}, the model's vocabulary has {largest}"):
        bind_example(marks, replace(model, vocab_size=largest), bos=None, aligned=True)


def test_answer_and_distractor_that_share_a_token_are_refused():
    same = "answer and distractor are the same token: choose a distractor that differs in its first token"
    with pytest.raises(Unbindable, match=same):
        bind_example(replace(PARIS, distractor=" paris"), bert_like(), bos=None, aligned=True)
    shared = replace(PARIS, answer=" Parisian", distractor=" Paris")
    with pytest.raises(Unbindable, match=same):
        bind_example(shared, gpt2_like(), bos=None, aligned=True, first_token=True)


@pytest.mark.parametrize("model", [gpt2_like(), bert_like()])
@pytest.mark.parametrize("change", [{"answer": ()}, {"distractor": ()}])
def test_an_example_without_answer_or_distractor_is_refused(model, change):
    with pytest.raises(Unbindable, match="there is no answer or no distractor: give at least one of each"):
        bind_example(replace(PARIS, **change), model, bos=None, aligned=True)


def test_a_set_holds_every_token_once():
    cased = replace(PARIS, answer=(" Paris", " paris", " PARIS"))
    assert words(bert_like(), bind_example(cased, bert_like(), bos=None, aligned=True).answers) == ["paris"]


def test_first_tokens_come_from_the_tasks_setting():
    task = Task("t", (replace(PARIS, answer=" Parisian", distractor=" Romes"),))
    with pytest.raises(ValueError, match="or for causal models set first_token=True"):
        bind(task, gpt2_like())
    bound = bind(replace(task, first_token=True), gpt2_like()).examples[0]
    assert (words(gpt2_like(), bound.answers), words(gpt2_like(), bound.distractors)) == (
        ["ĠParis"],
        ["ĠRome"],
    )


def test_a_bound_task_carries_where_it_comes_from():
    task = Task("t", (PARIS, replace(PARIS, id="1")), ablation="mean", bos=True)
    bound = bind(task, gpt2_like())
    assert (bound.name, bound.model, bound.ablation, bound.bos) == ("t", "stand-in", "mean", True)
    assert bound.digest == task.digest()
    assert (len(bound), bound.dropped, bound.warnings) == (2, {}, ())
    assert words(gpt2_like(), bound.examples[0].clean)[0] == "<|end|>"


def test_selecting_keeps_the_order_asked_for():
    task = Task("t", tuple(replace(PARIS, id=i) for i in "abc"))
    assert [e.id for e in bind(task, gpt2_like()).select(["c", "a"]).examples] == ["c", "a"]


def test_a_bad_example_of_a_generated_task_is_dropped_and_counted():
    task = Task("t", (replace(PARIS, id="bad", answer=" zebra"), PARIS), origin="generated")
    bound = bind(task, gpt2_like())
    assert [e.id for e in bound.examples] == ["0"]
    assert list(bound.dropped) == ["bad"]
    assert bound.dropped["bad"].startswith("' zebra' is not a single token")
    assert bound.warnings[0].startswith("1 examples do not fit stand-in and were dropped (first: ' zebra' is not")


def test_a_generated_task_of_which_nothing_is_left_is_refused():
    with pytest.raises(ValueError, match="task 't' does not fit stand-in: 1 of 1 examples are bad"):
        bind(Task("t", (replace(PARIS, answer=" zebra"),), origin="generated"), gpt2_like())


def test_every_bad_line_of_a_file_is_named_at_once():
    bad = [
        replace(PARIS, id="a", answer=" zebra", line=3),
        PARIS,
        replace(PARIS, id="b", corrupted="It", line=9),
    ]
    with pytest.raises(ValueError, match="2 of 3 examples are bad") as caught:
        bind(Task("mine", tuple(bad)), gpt2_like())
    lines = str(caught.value).splitlines()
    assert lines[1].startswith("  line 3 (id a): ' zebra' is not a single token")
    assert lines[2].startswith("  line 9 (id b): clean has 5 tokens and corrupted 1")
    assert len(lines) == 3


def test_no_more_than_twenty_bad_lines_are_shown():
    bad = tuple(replace(PARIS, id=f"{i}", answer=" zebra") for i in range(SHOWN + 3))
    with pytest.raises(ValueError, match="23 of 23 examples are bad") as caught:
        bind(Task("mine", bad), gpt2_like())
    assert len(str(caught.value).splitlines()) == SHOWN + 2
    assert str(caught.value).endswith("... and 3 more")


def test_ids_used_twice_are_refused():
    with pytest.raises(ValueError, match=r"task 't' uses 1 ids more than once \(first: '0'\): give every example"):
        bind(Task("t", (PARIS, PARIS)), gpt2_like())


def test_cautions_are_counted_over_the_task():
    task = Task("t", (replace(PARIS, id="a", corrupted="The capital of Paris is"), replace(PARIS, id="b")))
    assert bind(task, gpt2_like()).warnings == (
        "the answer occurs in the corrupted prompt (1 of 2 examples, first: example a)",
    )


def test_asking_for_a_bos_that_there_is_not_warns():
    bound = bind(Task("t", (PARIS,), bos=True), word_level())
    assert bound.warnings == ("the task asks for a BOS token, and this tokenizer has none: prompts begin as they are",)


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("name", TASKS)
def test_every_built_in_task_fits_the_bundled_tokenizer(name, is_causal):
    model = word_level(is_causal=is_causal)
    bound = bind(load_task(name, n=40, seed=1), model)
    assert len(bound) == 40
    assert bound.warnings == ()
    for original, one in zip(load_task(name, n=40, seed=1).examples, bound.examples, strict=True):
        read = model.tokenizer.decode([one.answers[0]])
        assert read == original.answers[0].strip()
        assert one.clean[one.answer_position] == (one.clean[-1] if is_causal else model.tokenizer.mask_token_id)
        assert one.positions["end"] == (one.answer_position,)


@pytest.mark.parametrize("is_causal", [True, False])
def test_labels_of_the_built_in_tasks_point_at_the_same_words_in_tokens(is_causal):
    model = word_level(is_causal=is_causal)
    for name in ("ioi", "entity-tracking", "belief-tracking", "numeral-sequence"):
        task = load_task(name, n=10, seed=2)
        for original, one in zip(task.examples, bind(task, model).examples, strict=True):
            spelled = words(model, one.clean)
            for label, index in original.labels.items():
                if label != "end":
                    assert spelled[one.positions[label][0]] == original.clean.split()[index].rstrip(".,")


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "bert"])
def test_a_task_binds_to_real_models_of_each_kind(architecture):
    model = tiny(architecture)
    names = example("When Anna and Tom went to the park , Tom gave a ball to", labels={"S2": 9})
    task = Task(
        "t",
        (
            replace(
                names,
                corrupted="When Mark and John went to the park , Lucy gave a ball to",
                answer=" Anna",
                distractor=" Tom",
            ),
        ),
    )
    bound = bind(task, model)
    one = bound.examples[0]
    assert model.tokenizer.convert_ids_to_tokens([one.clean[i] for i in one.positions["S2"]]) == ["Tom"]
    assert model.tokenizer.decode(list(one.answers)) == "Anna"
    assert len(one.clean) == 14 + 2 * (not model.is_causal)
    assert bound.model == f"tiny-{architecture}"


def test_greater_than_binds_its_sets():
    bound = bind(load_task("greater-than", n=20, seed=3), word_level())
    for one in bound.examples:
        assert len(one.answers) + len(one.distractors) == 100
        assert max(Counter(one.answers + one.distractors).values()) == 1


def test_two_models_keep_the_examples_that_both_can_take():
    examples = (*(replace(PARIS, id=str(i)) for i in range(3)), replace(PARIS, id="bad", answer=" zebra"))
    teacher, student = gpt2_like(), llama_3_like()
    bound = bind_both(Task("t", examples, origin="generated"), teacher, student=student, aligned=True)
    assert [[e.id for e in side.examples] for side in bound] == [["0", "1", "2"]] * 2
    assert [list(side.dropped) for side in bound] == [["bad"]] * 2
    with pytest.raises(ValueError, match="a comparison needs at least two examples, and .* can both take 1 of 't'"):
        bind_both(Task("t", examples[2:], origin="generated"), teacher, student=student, aligned=True)
