from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from circuitkd.components import Component
from circuitkd.reports.rows import SKIPPED, stacked
from synthetic_circuit import random_circuit, shape_of


def circuit(names, groups="", **shape):
    made = random_circuit(shape_of(**shape))
    components = tuple(Component.parse(name) for name in names.split())
    rows, height = stacked(replace(made, components=components, edges=()), {Component.parse(g) for g in groups.split()})
    return rows, height


def names(rows):
    return [" ".join(map(str, row.members)) for row in rows]


def test_layers_upward_heads_below_their_mlp():
    rows, height = circuit("L0H1 L0H3 MLP0 L2H0 MLP3")
    assert names(rows) == ["embed", "L0H1 L0H3", "MLP0", "L2H0", "MLP3", "logits"]
    assert [row.layer for row in rows] == [None, 0, 0, 2, 3, None]
    tops = [row.top for row in rows]
    assert tops == sorted(tops, reverse=True)
    assert tops[-1] == 0.0
    assert tops[0] + rows[0].height == height


def test_skipped_layers_are_named_and_have_room():
    rows, _ = circuit("L2H0 L5H1", layers=8)
    assert [row.skipped for row in rows] == ["0–1: none", "3–4: none", "6–7: none", ""]
    for lower, upper in pairwise(rows):
        assert upper.top + upper.height < lower.note < lower.top
        assert lower.top - (upper.top + upper.height) >= SKIPPED
    rows, _ = circuit("L0H0 L2H0", layers=3)
    assert [row.skipped for row in rows] == ["", "1: none", "", ""]
    assert [row.skipped for row in circuit("", layers=3)[0]] == ["0–2: none", ""]


def test_parallel_blocks_have_one_row():
    assert names(circuit("L0H1 MLP0 MLP1", residual="parallel")[0]) == ["embed", "L0H1 MLP0", "MLP1", "logits"]


def test_groups_stand_below_the_heads():
    rows, _ = circuit("L1H0 L1H3 MLP1", "L1KV0 L1KV1", kv_heads=2)
    assert names(rows) == ["embed", "L1KV0 L1KV1", "L1H0 L1H3", "MLP1", "logits"]


def test_a_layers_band_holds_all_its_rows():
    rows, _ = circuit("L0H1 MLP0 L1H1")
    bands = [row.band for row in rows]
    assert [band is not None for band in bands] == [False, True, False, True, False]
    top, height = bands[1]
    assert top < rows[2].top
    assert top + height > rows[1].top + rows[1].height
    assert bands[3][0] + bands[3][1] < top
