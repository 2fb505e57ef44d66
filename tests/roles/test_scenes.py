import pytest

from circuitkd.roles.scenes import members_of, scene_of, scenes
from circuitkd.tasks.binding import BoundExample
from circuitkd.tasks.registry import load_task
from small_runs import model_for


def bound(tokens, *, end=None, **positions):
    places = {name: (p,) if isinstance(p, int) else p for name, p in positions.items()}
    end = len(tokens) - 1 if end is None else end
    return BoundExample("a", tuple(tokens), tuple(tokens), (1,), (2,), end, end, places | {"end": (end,)}, "t", "")


def test_a_scene_says_where_things_are():
    scene = scene_of(bound([7, 5, 7, 9, 5, 8], member_2=3, member_1=1, IO=4, S1=0, other=(2, 5)))
    assert scene.tokens == (0, 1, 0, 3, 1, 5)
    assert scene.mentions == {0: (0, 2), 1: (1, 4), 3: (3,), 5: (5,)}
    assert scene.members == (1, 3)
    assert scene.names == (("IO", 4), ("S1", 0))
    assert scene.end == 5
    assert scene.unlabelled == ()


def test_the_first_position_is_never_unlabelled():
    assert scene_of(bound([1, 2, 3, 4], member_1=2)).unlabelled == (1,)


def test_members_are_ordered_by_their_number():
    example = bound(range(14), member_10=12, member_2=3, member_1=5, member_x=1, a_member_1=2)
    assert members_of(example) == (5, 3, 12)


def test_a_member_of_several_positions_does_not_count():
    assert members_of(bound(range(5), member_1=(1, 2), member_2=3)) == (3,)


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_prompts_of_one_form_share_a_scene(name):
    task = load_task("ioi", n=12).bind(model_for(name))
    found = scenes(task)
    assert sorted(row for rows in found.values() for row in rows) == list(range(12))
    for scene, rows in found.items():
        for row in rows:
            example = task.examples[row]
            assert dict(scene.names)["IO"] == example.positions["IO"][0]
            assert scene.n_pos == len(example.clean)
    # Names stand in two orders, and some openings repeat "to".
    assert {dict(s.names)["IO"] for s in found} == {2, 4}


def test_a_number_sequence_has_one_scene():
    found = scenes(load_task("numeral-sequence", n=10).bind(model_for("gpt2")))
    (scene,) = found
    assert scene.members == (3, 8, 13, 18)
    assert scene.mentions[2] == (2, 7, 12, 17, 22)
