"""Places and numbers of an experiment's figures."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from circuitkd.reports import experiment_figures as figures
from synthetic_experiment import ALL_CE, CKA_ONLY, MAP, MAPPED, UNTRAINED, experiment, plain


def value(panel, place):
    return panel.axis.low + place / 100 * (panel.axis.high - panel.axis.low)


def test_dots_stand_at_the_values_of_their_seeds():
    full = figures.accuracy_panels(plain())[0]
    row = next(r for r in full.rows if r.label == ALL_CE)
    assert [value(full, at) for at, _ in row.dots] == pytest.approx([70, 75, 80], abs=0.02)
    assert value(full, row.mean) == pytest.approx(75, abs=0.02)
    assert row.dots[2][1] == "seed 2: 80.0" and row.text == "75.0"
    assert [r.is_main for r in full.rows] == [r.label == MAPPED for r in full.rows]
    assert full.reference == (100.0, "the teacher: 100.0")


def test_a_run_without_a_value_has_no_dot():
    made = experiment({UNTRAINED: (9, 9), ALL_CE: (9, 9)}, {ALL_CE: (12.0, float("nan"))})
    row = figures.closeness_panels(made)[1].rows[1]
    assert len(row.dots) == 1 and row.text == "n/a"


def test_the_tables_of_panels_stand_side_by_side():
    panels = figures.closeness_panels(plain())
    data = json.loads(figures.joined(panels).json)
    assert data["columns"][:3] == ["condition", "seed", "alignment (0 to 1)"]
    assert data["rows"][3][:3] == [ALL_CE, 0, 0.45] and data["rows"][3][3] == 20.0


def test_losses_have_a_line_for_each_seed_and_one_for_their_mean():
    found = figures.loss_panels(plain())
    assert [p.panel.title for p in found] == [c for c in plain().conditions if c != UNTRAINED]
    lines = found[0].panel.lines
    assert [line.role for line in lines] == ["seed"] * 3 + ["mean"]
    assert [p.value for p in lines[3].points] == pytest.approx([3.1, 2.1, 1.1])
    assert [p.x for p in lines[0].points] == pytest.approx([33.33, 66.67, 100])
    assert json.loads(found[0].table.json)["rows"][4] == [1, 2, 2.1]


def test_task_losses_share_an_axis():
    found = figures.task_loss_panels(plain())
    assert [p.panel.title for p in found] == [c for c in plain().conditions if c not in (UNTRAINED, CKA_ONLY)]
    assert [p.value for p in found[1].panel.lines[3].points] == pytest.approx([2.1, 1.1, 0.6])
    assert json.loads(found[0].table.json)["columns"] == ["seed", "step", "task loss"]
    higher = replace(plain().runs[-1], task_losses=np.array([9.0, 8.0, 7.0]))
    made = replace(plain(), runs=(*plain().runs[:-1], higher))
    axes = {p.panel.axis for p in figures.task_loss_panels(made)}
    assert len(axes) == 1 and axes.pop().high >= 9


def test_the_map_of_heads():
    found = figures.map_diagram(MAP)
    assert [name for name, _ in found.students] == ["L0H1", "L1H0", "L1H3"]
    assert [name for name, _ in found.teachers] == ["L0H0", "L2H1"]
    tops = dict(found.teachers)
    assert [link.teacher for link in found.links] == [tops["L0H0"], tops["L2H1"], tops["L0H0"]]
    assert found.links[1].title == "L1H0 is trained towards L2H1: impacts 0.200 and 0.300, distance 0.100"
    assert np.ptp([y for _, y in found.students]) < found.height
    assert json.loads(found.table.json)["rows"][2] == ["L1H3", "L0H0", 0.4, 0.7, 0.3]
