"""Figures place every number at its component and leave colours to the page."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest

from circuitkd.comparison.robustness import drops
from circuitkd.reports import figures
from synthetic_comparison import synthetic


def matrix(packed):
    whole = np.frombuffer(base64.b64decode(packed["int16"]), "<i2").reshape(packed["shape"])
    return whole * packed["scale"]


def test_everything_is_plain_json(comparison):
    text = json.dumps(figures.comparison_figures(comparison), allow_nan=False)
    assert set(json.loads(text)) == {"influence-teacher", "influence-student", "drops", "similarity"}


def test_influence_has_every_component_at_its_place(comparison):
    sweep = comparison.teacher_sweep
    trace = figures.influence(sweep)["data"][0]
    heads = comparison.teacher.n_heads
    for i, component in enumerate(sweep.components):
        row, column = component.layer, heads + 1 if component.head is None else component.head
        assert trace["text"][row][column] == str(component)
        assert trace["z"][row][column] == pytest.approx(sweep.influence()[i], rel=1e-3, abs=1e-12)
        effect, retained = trace["customdata"][row][column]
        assert effect == pytest.approx(sweep.drops[i], rel=1e-3)
        assert retained == pytest.approx(sweep.retained_percent[i], rel=1e-3)
    assert [row[heads] for row in trace["z"]] == [None] * comparison.teacher.n_layers


def test_both_influence_maps_have_one_scale_from_0_to_1(comparison):
    made = figures.comparison_figures(comparison)
    for name in ("influence-teacher", "influence-student"):
        scale = made[name]["layout"]["coloraxis"]
        assert (scale["cmin"], scale["cmax"]) == (0, 1)
        assert made[name]["layout"]["meta"]["heads"] == 4


def test_similarity_has_every_measure_under_its_type(comparison):
    made = figures.similarities(comparison)
    s = comparison.similarity
    assert [(m["kind"], m["measure"], m["used"]) for m in made] == [
        ("head", s.head_measure, True),
        ("mlp", s.mlp_measure, True),
        ("mlp", "mlp subspace overlap", False),
        ("mlp", "mlp cka", False),
        ("head", "head cka", False),
    ]
    values = [s.head, s.mlp, s.others["mlp subspace overlap"], s.others["mlp cka"], s.others["head cka"]]
    for entry, expected in zip(made, values, strict=True):
        np.testing.assert_allclose(matrix(entry["figure"]["data"][0]["z"]), expected, atol=2e-5)


def test_a_measure_that_was_used_is_not_listed_twice(comparison):
    s = comparison.similarity
    twice = replace(comparison, similarity=replace(s, others={"mlp eigenvectors": s.mlp.copy(), "other": s.head / 2}))
    assert [(m["kind"], m["measure"]) for m in figures.similarities(twice)[2:]] == [("head", "other")]


def test_a_type_that_the_models_lack_has_no_matrix(comparison):
    empty = replace(comparison.similarity, mlp=np.zeros((0, 0)), others={})
    assert [m["kind"] for m in figures.similarities(replace(comparison, similarity=empty))] == ["head"]


def test_matched_cells_are_marked(comparison):
    heads, mlps = figures.similarities(comparison)[:2]
    for entry in (heads, mlps):
        cells, marks = entry["figure"]["data"]
        pairs = [p for p in comparison.alignment.pairs if p.teacher.kind == entry["kind"]]
        assert list(zip(marks["y"], marks["x"], strict=True)) == [(str(p.teacher), str(p.student)) for p in pairs]
        assert marks["meta"] == {"role": "matched"}
        assert set(marks["y"]) <= set(cells["y"])
        assert set(marks["x"]) <= set(cells["x"])


def test_many_components_are_labelled_by_layer():
    made = figures.similarities(synthetic(teacher_layers=8, student_layers=4))
    layout = made[0]["figure"]["layout"]
    assert list(layout["yaxis"]["ticktext"]) == [f"L{layer}" for layer in range(8)]
    assert list(layout["yaxis"]["tickvals"]) == [f"L{layer}H2" for layer in range(8)]
    assert list(layout["xaxis"]["ticktext"])[:2] == ["L0H0", "L0H1"]
    assert [shape["y0"] for shape in layout["shapes"] if shape["y0"] == shape["y1"]] == [
        4 * i - 0.5 for i in range(1, 8)
    ]


def test_drops_are_shares_of_all_components(comparison):
    for trace, sweep in zip(
        figures.ablation_drops(comparison)["data"],
        (comparison.teacher_sweep, comparison.student_sweep),
        strict=True,
    ):
        values = drops(sweep.retained_percent)
        assert sum(trace["y"]) == pytest.approx(100, abs=0.1)
        assert trace["y"][0] == pytest.approx(100 * (values < 5).mean(), rel=1e-3)
        assert [row[1] for row in trace["customdata"]][-1] == (values >= 95).sum()
        assert trace["customdata"][1] == ["5 to 10", int(((values >= 5) & (values < 10)).sum()), len(values)]
    assert [trace["meta"]["role"] for trace in figures.ablation_drops(comparison)["data"]] == ["teacher", "student"]


def test_a_drop_of_everything_is_in_the_last_bin(comparison):
    effects = comparison.student_sweep.effects.copy()
    effects[0] = 2 * comparison.student_sweep.base
    broken = replace(comparison, student_sweep=replace(comparison.student_sweep, effects=effects))
    assert figures.ablation_drops(broken)["data"][1]["customdata"][-1][:2] == ["95 to 100", 1]


def test_plotly_is_the_installed_one():
    assert "plotly.js v" in figures.plotly_js()[:200]
