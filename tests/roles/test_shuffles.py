import numpy as np

from circuitkd.roles.role_definitions import Slot
from circuitkd.roles.scenes import Scene
from circuitkd.roles.shuffles import count_shuffles, own_arcs, shuffled_arcs

SCENE = Scene(4, (0, 1, 2, 3), (), (), 3, frozenset({3}))
SLOTS = [Slot(((2, 0), (3, 0)), (((2, 1), (3, 1)), ((3, 2),))), Slot(((3, 1),), (((3, 0),), ((3, 2),)))]


def dense(sets):
    return sets.weights.toarray().reshape(-1, 4, 4)


def test_own_pairs_are_a_set_for_each_query():
    found = own_arcs(SLOTS, SCENE, is_causal=True)
    expected = np.zeros((2, 4, 4))
    expected[0, 2, 0] = expected[1, 3, 0] = expected[1, 3, 1] = 1.0
    np.testing.assert_array_equal(dense(found), expected)
    # Spread attention: 1 of 3 visible positions for query 2, 2 of 4 for query 3.
    np.testing.assert_allclose(found.spread, [1 / 3, 2 / 4])


def test_a_masked_model_sees_all_positions():
    np.testing.assert_allclose(own_arcs(SLOTS, SCENE, is_causal=False).spread, [1 / 4, 2 / 4])


def test_a_shuffle_is_the_mean_over_queries_of_the_sum_over_keys():
    slots = [Slot(((2, 0), (3, 0)), (((2, 1), (3, 1)),)), Slot(((3, 1),), (((3, 2),),))]
    sets = shuffled_arcs(slots, SCENE, named=frozenset(), draws=1, seed=0, is_causal=True)
    expected = np.zeros((4, 4))
    expected[2, 1] = expected[3, 1] = expected[3, 2] = 1 / 2
    np.testing.assert_array_equal(dense(sets)[0], expected)
    np.testing.assert_allclose(sets.spread, [(1 / 3 + 2 / 4) / 2])


def test_shuffles_choose_one_of_the_others_in_every_slot():
    sets = shuffled_arcs(SLOTS, SCENE, named=frozenset(), draws=200, seed=1, is_causal=True)
    found = {tuple(map(tuple, np.argwhere(draw))) for draw in dense(sets)}
    assert found == {
        ((2, 1), (3, 0), (3, 1)), ((2, 1), (3, 1), (3, 2)), ((3, 0), (3, 2)), ((3, 2),),
    }  # fmt: skip


def test_a_pair_that_was_chosen_twice_counts_once():
    sets = shuffled_arcs(SLOTS, SCENE, named=frozenset(), draws=200, seed=1, is_causal=True)
    single = [draw for draw in dense(sets) if np.count_nonzero(draw) == 1]
    assert single
    assert all(draw[3, 2] == 1.0 for draw in single)


def test_named_pairs_are_left_out():
    named = frozenset({(3, 2), (3, 1)})
    sets = shuffled_arcs(SLOTS, SCENE, named=named, draws=50, seed=1, is_causal=True)
    for draw in dense(sets):
        assert set(map(tuple, np.argwhere(draw))) == {(2, 1), (3, 0)}
    assert count_shuffles(SLOTS, named=named) == 1


def test_without_a_choice_there_is_no_shuffle():
    slots = [Slot(((3, 0),), (((3, 1),),))]
    assert shuffled_arcs(slots, SCENE, named=frozenset({(3, 1)}), draws=5, seed=0, is_causal=True) is None


def test_shuffles_are_repeatable_and_depend_on_the_seed():
    def draws(seed):
        return dense(shuffled_arcs(SLOTS, SCENE, named=frozenset(), draws=40, seed=seed, is_causal=True))

    np.testing.assert_array_equal(draws(0), draws(0))
    assert (draws(0) != draws(1)).any()


def test_shuffles_are_counted():
    assert count_shuffles(SLOTS, named=frozenset()) == 4
    assert count_shuffles([], named=frozenset()) == 0
