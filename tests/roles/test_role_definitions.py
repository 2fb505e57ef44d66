from circuitkd.roles.role_definitions import (
    ROLES,
    duplicate_token,
    end_to_earlier_members,
    end_to_subject,
    first_token,
    induction,
    mover,
    name_mover,
    numeral_detection,
    previous_token,
    s_inhibition,
    similar_member,
    successor,
)
from circuitkd.roles.scenes import Scene

# "a b 1 c b 2 b 3": positions 0..7, b at 1, 4 and 6, members at 2, 5 and 7; the answer is read at 8.
SCENE = Scene(9, (0, 1, 2, 3, 1, 5, 1, 7, 8), (2, 5, 7), (("IO", 0), ("S1", 3), ("S2", 4)), 8, frozenset({2, 5, 7, 8}))
PLAIN = Scene(5, (0, 1, 2, 3, 4), (), (), 4, frozenset({4}))


def arcs(slots):
    return {arc for slot in slots for arc in slot.arcs}


def others(slots):
    return [set(slot.others) for slot in slots]


def test_previous_token():
    assert arcs(previous_token(PLAIN)) == {(2, 1), (3, 2), (4, 3)}
    assert others(previous_token(PLAIN)) == [{((3, 1), (4, 2)), ((4, 1),)}]


def test_first_token():
    assert arcs(first_token(PLAIN)) == {(2, 0), (3, 0), (4, 0)}
    assert others(first_token(PLAIN)) == [{((2, 1), (3, 1), (4, 1)), ((3, 2), (4, 2))}]


def test_duplicate_token():
    assert arcs(duplicate_token(SCENE)) == {(4, 1), (6, 1), (6, 4)}
    (choices,) = others(duplicate_token(SCENE))
    assert choices == {
        ((4, 0), (6, 0)), ((4, 2), (6, 2)), ((4, 3), (6, 3)), ((6, 5),),
    }  # fmt: skip


def test_induction():
    assert arcs(induction(SCENE)) == {(4, 2), (6, 2), (6, 5)}
    (choices,) = others(induction(SCENE))
    assert choices == {((4, 1), (6, 1)), ((4, 3), (6, 3)), ((6, 4),)}


def test_induction_never_names_a_position_for_itself():
    twice = Scene(3, (0, 0, 2), (), (), 2, frozenset({2}))
    assert arcs(induction(twice)) == set()
    assert arcs(duplicate_token(twice)) == {(1, 0)}


def test_numeral_detection():
    assert arcs(numeral_detection(SCENE)) == {(5, 2), (7, 2), (7, 5)}
    assert others(numeral_detection(SCENE))[0] == {
        ((5, 3), (7, 3)), ((5, 1), (5, 4), (7, 1), (7, 4), (7, 6)),
    }  # fmt: skip


def test_similar_member_is_both():
    assert arcs(similar_member(SCENE)) == arcs(numeral_detection(SCENE)) | arcs(duplicate_token(SCENE))
    assert similar_member(PLAIN) == []


def test_roles_of_the_answer_position():
    assert arcs(mover(SCENE)) == {(8, 2), (8, 5), (8, 7)}
    assert arcs(end_to_earlier_members(SCENE)) == {(8, 2), (8, 5)}
    assert arcs(successor(SCENE)) == {(8, 7)}
    assert arcs(name_mover(SCENE)) == {(8, 0)}
    assert arcs(end_to_subject(SCENE)) == {(8, 3), (8, 4)}
    assert arcs(s_inhibition(SCENE)) == {(8, 4)}
    assert others(successor(SCENE)) == [{((8, 3),), ((8, 1), (8, 4), (8, 6))}]


def test_keys_after_the_query_never_count():
    early = Scene(6, (0, 1, 2, 3, 4, 5), (1, 4), (), 2, frozenset({1, 2, 4}))
    assert arcs(mover(early)) == {(2, 1)}
    assert arcs(successor(early)) == set()


def test_one_member_is_no_sequence_to_move():
    single = Scene(4, (0, 1, 2, 3), (1,), (), 3, frozenset({1, 3}))
    assert mover(single) == []
    assert arcs(successor(single)) == {(3, 1)}


def test_alternatives_are_other_keys_of_the_same_queries():
    for role in ROLES:
        for slot in role.slots(SCENE):
            assert slot.arcs
            queries = {q for q, _ in slot.arcs}
            assert all(other and {q for q, _ in other} <= queries for other in slot.others)
            assert set(slot.arcs) not in [set(other) for other in slot.others]


def test_names_are_unique_and_cover_each_other():
    names = [role.name for role in ROLES]
    assert len(set(names)) == len(names) == 10
    assert {c for role in ROLES for c in role.covers} <= set(names)
