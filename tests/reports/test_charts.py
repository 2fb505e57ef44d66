from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from circuitkd.reports.charts import curve_panels, threshold_panels
from circuitkd.reports.role_charts import probe_panels


def test_a_sweep_of_thresholds(findings):
    sweep = findings.thresholds
    panels = {panel.title: panel for panel in threshold_panels(sweep)}
    assert list(panels) == ["Nodes", "Edges", "Shares", "Same nodes as at 20 %"]
    nodes = panels["Nodes"]
    assert [p.x for p in nodes.lines[0].points] == [0, 25, 50, 75, 100]
    counts = [len(c.components) for c in sweep.circuits]
    shown = [nodes.axis.low + p.y / 100 * (nodes.axis.high - nodes.axis.low) for p in nodes.lines[0].points]
    np.testing.assert_allclose(shown, counts, atol=0.01 * max(counts))
    assert nodes.lines[0].points[2].title == f"nodes {counts[2]} at 20 %"
    assert [line.name for line in panels["Shares"].lines] == ["faithfulness", "completeness"]
    assert nodes.ticks[-1] == (100, "30 %")
    same = panels["Same nodes as at 20 %"]
    assert same.lines[0].points[2].y == same.axis.at(1.0)


def test_a_single_threshold_and_missing_values(findings):
    sweep = findings.thresholds
    lost = replace(sweep.circuits[0].evaluation, faithfulness=float("nan"))
    one = replace(
        sweep, thresholds=(0.2,), circuits=(replace(sweep.circuits[0], evaluation=lost),), jaccard=np.ones((1, 1))
    )
    panels = threshold_panels(one)
    assert [p.x for p in panels[0].lines[0].points] == [50.0]
    assert [len(line.points) for line in panels[2].lines] == [0, 1]


def test_curves_stand_on_a_logarithmic_axis(findings):
    curves = findings.curves
    nodes, edges = curve_panels([curves.nodes, curves.edges])
    assert (nodes.title, edges.title) == ("The best nodes", "The best edges")
    points = nodes.lines[0].points
    assert (points[0].x, points[-1].x) == (0.0, 100.0)
    assert points[3].x == pytest.approx(100 / 3, abs=0.01)  # 1 % is a third of the way from 0.1 % to 100 %
    assert points[3].title == "faithfulness 0.333 at 1 %"


def test_a_panels_numbers(findings):
    nodes = threshold_panels(findings.thresholds)[0]
    assert nodes.table.columns == ("series", "threshold: share that may be lost", "nodes")
    counts = [len(c.components) for c in findings.thresholds.circuits]
    assert [row[2] for row in nodes.table.rows] == counts
    assert nodes.table.rows[2][:2] == ("nodes", 0.2)


def test_a_panels_notes_are_a_column_of_their_own(result):
    panel = probe_panels(result)[0]
    assert panel.table.columns == ("series", "layer", "answer (balanced accuracy)", "note")
    series = [row[0] for row in panel.table.rows]
    assert set(series) == {"teacher", "student", "teacher, shuffled labels", "student, shuffled labels"}
    assert panel.table.rows[0][1:] == ("embedding", result.teacher.probes.embedding[0], "")
    note = next(row[3] for row in panel.table.rows if row[0] == "student, shuffled labels")
    assert note == "± 0.05 over shuffles"
