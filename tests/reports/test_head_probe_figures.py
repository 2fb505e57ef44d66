"""Figures of head probes hold the result's scores, and equal colours are equal scores."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from circuitkd.components import Component
from circuitkd.reports import head_probe_figures as module
from circuitkd.reports.head_probe_figures import head_probe_figures, head_scores, probed_targets
from synthetic_roles import bare, roles_of


@pytest.fixture(scope="module")
def result():
    return roles_of()


@pytest.fixture(scope="module")
def figures(result):
    return json.loads(json.dumps(head_probe_figures(result), allow_nan=False))


def test_a_view_for_each_target_has_layers_by_heads(result, figures):
    assert set(figures) == {"head-probes-teacher", "head-probes-student"}
    assert list(figures["head-probes-teacher"]) == list(probed_targets(result)) == ["answer", "seen before"]
    probes = result.student.head_probes
    trace = figures["head-probes-student"]["seen before"]["data"][0]
    np.testing.assert_allclose(trace["z"], probes.scores[1].reshape(2, 4), atol=5e-4)
    assert trace["text"][1] == ["L1H0", "L1H1", "L1H2", "L1H3"]
    assert trace["customdata"][1][3] == [0.25, 0.05]
    assert "values of" not in trace["hovertemplate"]


def test_chance_and_shuffled_labels_are_said(figures):
    layout = figures["head-probes-teacher"]["answer"]["layout"]
    assert layout["xaxis"]["title"]["text"] == "head<br>balanced accuracy, chance 0.10, shuffled labels 0.25"
    assert layout["coloraxis"]["colorbar"]["ticktext"] == ["chance", "0.25", "0.5", "0.75", "1"]
    assert layout["coloraxis"]["colorbar"]["tickvals"] == [0.1, 0.25, 0.5, 0.75, 1]
    binary = figures["head-probes-teacher"]["seen before"]["layout"]["coloraxis"]
    assert (binary["cmin"], binary["colorbar"]["ticktext"]) == (0.5, ["chance", "0.75", "1"])


def test_both_models_share_their_colours(result):
    probes = replace(result.student.head_probes, chance=np.array([0.05, 0.5]))
    figures = head_probe_figures(replace(result, student=replace(result.student, head_probes=probes)))
    lows = [figures[f"head-probes-{side}"]["answer"]["layout"]["coloraxis"]["cmin"] for side in ("teacher", "student")]
    assert lows == [0.05, 0.05]


def test_a_target_that_one_model_was_not_asked_for_is_empty_there(result):
    probes = result.student.head_probes
    fewer = replace(
        probes,
        targets=probes.targets[1:],
        measures=probes.measures[1:],
        **{name: getattr(probes, name)[1:] for name in ("scores", "control", "control_std", "chance")},
    )
    figures = head_probe_figures(replace(result, student=replace(result.student, head_probes=fewer)))
    empty = figures["head-probes-student"]["answer"]
    assert {value for row in empty["data"][0]["z"] for value in row} == {None}
    assert empty["layout"]["xaxis"]["title"]["text"] == "head<br>not asked of this model"
    shown = figures["head-probes-student"]["seen before"]["data"][0]["z"]
    np.testing.assert_allclose(shown, probes.scores[1].reshape(2, 4), atol=5e-4)


def test_shared_values_are_named(result):
    probes = result.teacher.head_probes
    groups = tuple(Component("kv", h.layer, h.head // 2) for h in probes.heads)
    spec = head_scores(replace(probes, sources=groups), "answer", cell=20, low=0.1)
    assert spec["data"][0]["customdata"][2][3] == [0.25, 0.05, "L2KV1"]
    assert spec["layout"]["meta"]["columns"] == ["shuffled labels", "their deviation", "values of"]
    assert "values of %{customdata[2]}" in spec["data"][0]["hovertemplate"]


def test_numbers_stand_in_wide_cells_alone(result, monkeypatch):
    probes = result.teacher.head_probes
    assert "texttemplate" in head_scores(probes, "answer", cell=20, low=0.1)["data"][0]
    monkeypatch.setattr(module, "NUMBERS", 3)
    assert "texttemplate" not in head_scores(probes, "answer", cell=20, low=0.1)["data"][0]


def test_models_that_were_not_probed_have_no_figure(result):
    assert head_probe_figures(bare(result)) == {} and probed_targets(bare(result)) == ()
    alone = replace(result, student=replace(result.student, head_probes=None))
    assert list(head_probe_figures(alone)) == ["head-probes-teacher"]
