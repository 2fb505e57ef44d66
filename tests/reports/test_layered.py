"""Layouts with known answers: order without crossings, straight lanes, least squares under distances."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from circuitkd.reports.layered import GAP, LANE, Wire, arrange, isotonic


def test_isotonic_is_the_nearest_non_decreasing_sequence():
    assert isotonic([1.0, 2.0, 3.0], [1, 1, 1]) == [1.0, 2.0, 3.0]
    assert isotonic([3.0, 1.0, 2.0], [1, 1, 1]) == [2.0, 2.0, 2.0]
    assert isotonic([0.0, 4.0, 1.0, 9.0], [1, 1, 3, 1]) == [0.0, 1.75, 1.75, 9.0]
    assert isotonic([], []) == []


def test_boxes_are_ordered_so_that_wires_do_not_cross():
    # below a b, above c d; a is wired to d and b to c, so one of the rows must be turned around
    found = arrange([[70, 70], [70, 70]], [Wire(0, 0, 1, 1), Wire(0, 1, 1, 0)])
    (a, b), (c, d) = found.boxes
    assert (a < b) == (d < c)
    assert abs(a - b) == pytest.approx(70 + GAP)
    assert (a, b) == pytest.approx((d, c), abs=1e-6)


def test_a_wire_over_rows_has_a_straight_lane_beside_the_boxes():
    # a chain of three boxes, and a wire from the first to the last that must pass the one in the middle
    found = arrange([[70], [70], [70]], [Wire(0, 0, 1, 0), Wire(1, 0, 2, 0), Wire(0, 0, 2, 0)])
    assert found.lanes[:2] == ((), ())
    (lane,) = found.lanes[2]
    assert abs(lane - found.boxes[1][0]) >= (70 + LANE) / 2 + 0.6 * GAP - 1e-9
    long = arrange([[70]] * 5, [Wire(0, 0, 4, 0)]).lanes[0]
    assert len(long) == 3
    assert np.ptp(long) == pytest.approx(0.0, abs=1e-6)


def test_a_wire_with_free_ends_lies_where_there_is_room():
    found = arrange([[], [70, 70], []], [Wire(0, None, 2, None), Wire(0, None, 1, 0), Wire(0, None, 1, 1)])
    (lane,) = found.lanes[0]
    assert all(abs(lane - box) >= (70 + LANE) / 2 for box in found.boxes[1])


def test_ports_pull_the_box_below():
    right = arrange([[70], [70]], [Wire(0, 0, 1, 0, offset=20.0)])
    assert right.boxes[0][0] - right.boxes[1][0] == pytest.approx(20.0)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_overlaps_and_all_lies_inside(seed):
    rng = np.random.default_rng(seed)
    widths = [[70.0] * rng.integers(1, 5) for _ in range(6)]
    wires = []
    for _ in range(25):
        low, high = sorted(rng.choice(6, size=2, replace=False))
        ends = int(rng.integers(len(widths[low]))), int(rng.integers(len(widths[high])))
        wires.append(Wire(int(low), ends[0], int(high), ends[1]))
    found = arrange(widths, wires)
    for row, places in enumerate(found.boxes):
        items = [(x, 70.0) for x in places]
        items += [
            (lanes[row - w.lower_row - 1], LANE)
            for w, lanes in zip(wires, found.lanes, strict=True)
            if w.lower_row < row < w.upper_row
        ]
        items.sort()
        for (x, width), (next_x, next_width) in pairwise(items):
            assert next_x - x >= (width + next_width) / 2 - 1e-6
        assert items[0][0] - items[0][1] / 2 >= -1e-9
        assert items[-1][0] + items[-1][1] / 2 <= found.width + 1e-9
    assert found == arrange(widths, wires)


def test_an_empty_drawing():
    assert arrange([[], []], []).width == 0.0
