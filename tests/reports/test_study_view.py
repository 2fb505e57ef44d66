"""A study as its page shows it."""

from __future__ import annotations

import pytest

from circuitkd.reports.study_view import grouped_failures, noise_panel, study_view
from circuitkd.studies.tables import study_tables
from synthetic_study import finished_run, noise


def test_tables_know_where_numbers_begin():
    run = finished_run()
    view = study_view(run, study_tables(run), links=[("a", "b/report.html")])
    left = {shown.table.name: shown.left for shown in view.tables}
    assert left["paper-table-1"] == 4 and left["alignment"] == 2 and left["distillation"] == 3 and left["fates"] == 7
    assert view.links == (("a", "b/report.html"),) and view.title == "Made up & <small>"
    assert [panel.title for panel in view.noise] == ["one, ioi"]
    assert view.tables[0].rows[0]["printed"] == "-1.0000"


def test_a_noise_curve_is_drawn_with_its_spread():
    panel = noise_panel("t", noise())
    mean, above, below = panel.lines
    assert [p.x for p in mean.points] == [0.0, 25.0, 100.0]
    assert [p.y for p in mean.points] == pytest.approx([80.0, 30.0, 10.0]) and not mean.is_reference
    assert above.points[1].value == pytest.approx(0.4) and below.points[1].value == pytest.approx(0.2)
    assert above.is_reference and below.is_reference
    assert [label for _, label in panel.ticks] == ["0", "0.5", "1", "1.5", "2"]
    assert mean.points[1].title == "alignment 0.300 at noise of std 0.5"


def test_failures_of_one_reason_are_told_once():
    run = finished_run(failing=("one/ioi/compare", "one/ioi/noise"))
    assert grouped_failures(run) == (("one/ioi/compare, one/ioi/noise", "the model is gated"),)
