import numpy as np
import pytest

from circuitkd.components import Component, model_components
from circuitkd.roles.patching_result import ActivationPatching


def result(effects, *, clean=(3.0, 5.0), corrupted=(1.0, 1.0)):
    """Two layers of two heads, three positions."""
    effects = np.asarray(effects, dtype=float)
    return ActivationPatching(
        model="m", task="t", components=(Component("embed"), *model_components(2, 2)), positions=("a", "b", "end"),
        effects=effects, at_all=effects.sum(axis=1), blocks=np.zeros((2, 3)), blocks_at_all=np.zeros(2), qk=np.zeros(4),
        ov=np.zeros(4), clean=np.array(clean), corrupted=np.array(corrupted), examples=("0", "1"), left_out={},
    )  # fmt: skip


EFFECTS = np.array([[3, 0, 0], [1, 0, 2], [3, 0, 2], [0, 0, 4], [1, 0, -4], [0, 0, 1], [0, 3, 0]], dtype=float)


def test_recovery_is_a_share_of_the_gap():
    found = result(EFFECTS)
    assert found.gap == 3.0
    np.testing.assert_allclose(found.recovery(found.effects)[0], [1, 0, 0])
    np.testing.assert_allclose(found.recovery(found.at_all), np.array([3, 3, 5, 4, -3, 1, 3]) / 3)


def test_without_a_gap_there_is_no_recovery():
    assert np.isnan(result(EFFECTS, clean=(1.0, 1.0)).recovery(EFFECTS)).all()


def test_heads_are_read_against_their_layer():
    found = result(EFFECTS)
    assert [str(h) for h in found.heads] == ["L0H0", "L0H1", "L1H0", "L1H1"]
    np.testing.assert_array_equal(found.head_effects, EFFECTS[1:5])
    # Layer 0 at "a": 1 and 3, mean 2, deviation 1; layer 1 at "end": 4 and -4 cancel.
    np.testing.assert_allclose(found.multiples(found.head_effects)[:, 0], [0.5, 1.5, 0, 2])
    np.testing.assert_allclose(found.z_scores(found.head_effects)[:, 0], [-1, 1, -1, 1])
    assert np.isnan(found.multiples(found.head_effects)[:, 1]).all()
    assert np.isnan(found.multiples(found.head_effects)[2:, 2]).all()
    assert np.isnan(found.z_scores(found.head_effects)[:2, 2]).all()
    np.testing.assert_allclose(found.z_scores(found.head_effects)[2:, 2], [1, -1])


def test_the_table_has_all_positions_last():
    table = result(EFFECTS).to_pandas()
    last = table[table["component"] == "MLP1"]
    assert last["position"].tolist() == ["a", "b", "end", "all"]
    assert last["effect"].tolist() == [0, 3, 0, 3]
    assert last["recovery"].iloc[1] == pytest.approx(1.0)
