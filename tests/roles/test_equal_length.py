import pytest

from circuitkd.roles.equal_length import equal_length
from circuitkd.tasks.base import Example, Task
from small_runs import model_for

ODD = [
    Example("a", "Lamp found in 3", "Boat found in 5", " 4", " 5", {"member_1": 3, "lamp": 0}),
    Example("b", "Lamp found in 4", "Boat found in 5 and", " 4", " 5", {"member_1": 3, "lamp": 0}),
    Example("c", "Tree found in 4", "Boat found in 5", " 4", " 5", {"member_1": 3}),
    Example("d", "Lamp found in the box", "Boat found in the box", " 4", " 5"),
    Example("e", "Lamp found", "Boat found", " 4", " 5"),
]
TASK = Task("odd", tuple(ODD), origin="generated")


def test_the_most_frequent_length_is_kept_and_the_others_are_named():
    found = equal_length(model_for("gpt2"), TASK)
    assert [e.id for e in found.task.examples] == ["a", "b", "c"]
    assert found.left_out == {"d": "has 5 tokens, not 4", "e": "has 2 tokens, not 4"}


def test_a_position_is_named_by_label_then_token_then_number():
    assert equal_length(model_for("gpt2"), TASK).positions == ("0", "found", "in", "end")
    labelled = Task("two", tuple(ODD[:2]), origin="generated")
    # The last position is both a member and the end; labels are taken in alphabetical order.
    assert equal_length(model_for("gpt2"), labelled).positions == ("lamp", "found", "in", "end")
    assert equal_length(model_for("bert"), labelled).positions == ("lamp", "found", "in", "member_1", "end", ".")


def test_pairs_must_have_one_length():
    found = equal_length(model_for("gpt2"), TASK, paired=True)
    assert [e.id for e in found.task.examples] == ["a", "c"]
    assert found.left_out["b"] == "clean has 4 tokens, corrupted 5"


def test_pairs_must_be_read_at_one_position():
    moved = Example("m", "Lamp {mask} in the", "Boat in the {mask}", " found", " lost")
    task = Task("masks", (moved, ODD[0], ODD[2]), origin="generated")
    found = equal_length(model_for("bert"), task, paired=True)
    assert found.left_out == {"m": "clean and corrupted are read at different positions"}


def test_among_equally_frequent_lengths_the_shorter_one_is_taken():
    task = Task("two", (ODD[3], ODD[0]), origin="generated")
    assert [e.id for e in equal_length(model_for("gpt2"), task).task.examples] == ["a"]


def test_no_usable_pair_is_an_error():
    task = Task("one", (ODD[1],), origin="generated")
    with pytest.raises(
        ValueError, match="'one': no clean and corrupted prompt have equal token counts.*make them equal"
    ):
        equal_length(model_for("gpt2"), task, paired=True)
