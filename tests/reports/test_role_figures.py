"""The figures hold the result's values, and plotly cannot read markup in a token."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from circuitkd.reports import role_figures as module
from circuitkd.reports.role_figures import role_figures, strongest_rows
from synthetic_comparison import synthetic
from synthetic_roles import bare, roles_of


@pytest.fixture(scope="module")
def figures(result):
    return json.loads(json.dumps(role_figures(result), allow_nan=False))


def numbers(rows):
    return np.array([[np.nan if cell is None else cell for cell in row] for row in rows])


def test_patching_by_position_has_recoveries_and_effects(result, figures):
    patching = result.teacher.patching
    trace = figures["patching-teacher"]["positions"]["data"][0]
    assert trace["y"] == [str(c) for c in patching.components]
    shown = numbers(trace["z"])
    np.testing.assert_allclose(shown[:, :-2], patching.effects / 4, rtol=1e-3)
    np.testing.assert_allclose(shown[:, -1], patching.at_all / 4, rtol=1e-3)
    assert np.isnan(shown[:, -2]).all()
    assert trace["customdata"][3][2] == ["(2)", pytest.approx(patching.effects[3, 2], rel=1e-3)]


def test_patching_splits_heads(result, figures):
    patching = result.student.patching
    trace = figures["patching-student"]["split"]["data"][0]
    assert trace["y"] == [str(h) for h in patching.heads]
    expected = np.stack([patching.at_all[1 : 1 + len(patching.heads)], patching.qk, patching.ov], axis=1) / 4
    np.testing.assert_allclose(numbers(trace["z"]), expected, rtol=1e-3)


def test_both_models_share_their_colours(figures):
    for name in ("patching", "contributions"):
        for view in figures[f"{name}-teacher"]:
            axes = [figures[f"{name}-{side}"][view]["layout"]["coloraxis"] for side in ("teacher", "student")]
            assert axes[0]["cmin"] == axes[1]["cmin"] and axes[0]["cmax"] == axes[1]["cmax"]
            assert axes[0]["cmin"] == (0 if view == "size" else -axes[0]["cmax"])


def test_a_map_with_many_rows_keeps_the_strongest(result, monkeypatch):
    patching = result.teacher.patching
    monkeypatch.setattr(module, "ROWS", 3)
    rows = strongest_rows(patching)
    size = np.maximum(np.abs(patching.effects).max(axis=1), np.abs(patching.at_all))
    assert rows == sorted(np.argsort(-size)[:3].tolist())
    trace = module.patched_positions(patching, reach=1.0)["data"][0]
    assert trace["y"] == [str(patching.components[i]) for i in rows]
    heads = strongest_rows(patching, heads=True)
    assert len(module.patched_halves(patching, reach=1.0)["data"][0]["y"]) == len(heads) == 3


def test_contributions_go_layer_by_layer(result, figures):
    found = result.student.contributions
    logits = figures["contributions-student"]["logits"]["data"][0]
    assert logits["y"] == ["embedding", "attn 0", "MLP0", "attn 1", "MLP1"]
    expected = np.stack([found.start, *(found.logits[p, i] for i in (0, 1) for p in (0, 1))])
    np.testing.assert_allclose(numbers(logits["z"]), expected, rtol=1e-3)
    size = figures["contributions-student"]["size"]["data"][0]
    assert size["y"][0] == "attn 0"
    np.testing.assert_allclose(numbers(size["z"])[1], found.size[1, 0], rtol=1e-3)


def test_a_shared_plane_joins_the_same_words(result, figures):
    plane = result.planes[0]
    links, teacher, student = figures["planes"]["MLP0"]["data"]
    np.testing.assert_allclose(teacher["x"], plane.teacher_points[:, 0], rtol=1e-3)
    np.testing.assert_allclose(student["y"], plane.student_points[:, 1], rtol=1e-3)
    assert links["x"][:3] == [teacher["x"][0], student["x"][0], None]
    assert teacher["customdata"][:3] == ["(0)", "and", "(2)"]
    shown = [text for trace in (teacher, student) for text in trace["text"] if text]
    assert len(shown) >= 8
    layout = figures["planes"]["MLP0"]["layout"]
    assert layout["xaxis"]["title"]["text"] == "axis 1: 60 % of the variance"
    low, high = layout["xaxis"]["range"]
    assert low < min(teacher["x"] + student["x"]) and high > max(teacher["x"] + student["x"])


def test_planes_of_unequal_widths_stand_beside_each_other(result):
    apart = replace(result.planes[0], is_shared=False, explained=np.array([[0.5, 0.2], [0.7, 0.1]]))
    spec = module.plane(apart)
    teacher, student = spec["data"]
    assert (teacher["xaxis"], student["xaxis"]) == ("x", "x2")
    assert spec["layout"]["xaxis2"]["domain"] == (0.54, 1.0)
    assert spec["layout"]["yaxis2"]["anchor"] == "x2"
    assert spec["layout"]["xaxis2"]["title"]["text"] == "axis 1: 70 % of the variance"


def test_robustness_names_what_was_ablated_last(result, figures):
    teacher, student = figures["robustness"]["data"]
    found = result.brittleness.teacher
    np.testing.assert_allclose(teacher["y"], found.retained, rtol=1e-3)
    assert teacher["customdata"] == ["", *map(str, found.order)]
    assert student["meta"] == {"role": "student"}


def test_tokens_are_no_markup(figures):
    """plotly draws <b>, <a href> and others in text as markup."""
    axis = figures["patching-teacher"]["positions"]["layout"]["xaxis"]
    assert axis["ticktext"][:8] == ["(0)", "and", "(2)", "IO", "(4)", "S2", "&lt;s&gt;", "end"]
    hostile = roles_of(synthetic(), places=("<a href='x'>&", *"bcdefgh"))
    plane = role_figures(hostile)["planes"]["MLP0"]["data"][1]
    assert plane["customdata"][0] == "&lt;a href='x'&gt;&amp;"


def test_what_is_not_there_is_not_drawn(result):
    figures = role_figures(bare(result))
    assert set(figures) == {"robustness", "contributions-teacher", "contributions-student"}
    assert "head-probes-student" in role_figures(result)
    one = replace(result, student=replace(result.student, patching=None))
    assert "patching-teacher" in role_figures(one) and "patching-student" not in role_figures(one)
