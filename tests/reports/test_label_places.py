from __future__ import annotations

import numpy as np
import pytest

from circuitkd.reports.label_places import DOT, LINE, PLACES, place_labels


def test_a_name_alone_stands_to_the_right():
    assert place_labels(np.array([[10.0, 10.0]]), ["word"]) == ["middle right"]
    assert place_labels(np.zeros((0, 2)), []) == []


def test_names_move_away_from_points_and_from_each_other():
    crowded = np.array([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]])
    found = place_labels(crowded, ["first", "second", "third"])
    assert found[0] == "middle left"  # the second point lies to its right
    assert found[1] == "middle right" and found[2] == "middle right"


def test_a_name_without_a_place_is_left_out():
    found = place_labels(np.zeros((30, 2)), ["word"] * 30)
    shown = [place for place in found if place]
    assert len(shown) == len(set(shown)) < len(found)
    assert set(shown) <= set(PLACES)


@pytest.mark.parametrize("seed", range(3))
def test_no_two_names_meet(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 300, (40, 2))
    found = place_labels(points, ["a word"] * 40)
    middles = []
    for (x, y), place in zip(points, found, strict=True):
        if place:
            dx, dy = PLACES[place]
            middles.append(
                (x + (dx + 0.5) * 36.6 + (DOT if dx == 0 else -DOT if dx == -1 else 0), y + (dy + 0.5) * LINE)
            )
    near = [
        (a, b)
        for i, a in enumerate(middles)
        for b in middles[:i]
        if abs(a[0] - b[0]) < 36 and abs(a[1] - b[1]) < LINE - 2 * DOT
    ]
    assert near == []
    assert len(middles) > 20
