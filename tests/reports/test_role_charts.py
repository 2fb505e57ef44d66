from __future__ import annotations

from dataclasses import replace

import pytest

from circuitkd.reports.role_charts import SHOWN, attribution_strips, lens_panels, probe_panels
from synthetic_comparison import synthetic
from synthetic_roles import bare, roles_of


def value(panel, point):
    return panel.axis.low + point.y / 100 * (panel.axis.high - panel.axis.low)


def test_probes_have_a_chart_for_each_target_with_the_control(result):
    answer, seen = probe_panels(result)
    assert (answer.title, seen.title) == ("Answer", "Seen before")
    assert answer.unit == "depth; balanced accuracy" and seen.unit == "depth; AUROC"
    assert [(line.role, line.is_reference) for line in answer.lines] == [
        ("teacher", False),
        ("teacher", True),
        ("student", False),
        ("student", True),
    ]
    teacher, control = answer.lines[:2]
    probes = result.teacher.probes
    assert [p.x for p in teacher.points] == [0, 25, 50, 75, 100]
    shown = [value(answer, p) for p in teacher.points]
    assert shown == pytest.approx([probes.embedding[0], *probes.scores[0]], abs=1e-3)
    assert [value(answer, p) for p in control.points] == pytest.approx([0.25] * 4)
    assert control.points[0].title == "teacher, shuffled labels, layer 0: 0.25 (± 0.05 over shuffles)"
    assert answer.lines[2].points[1].title == f"student, layer 0: {result.student.probes.scores[0, 0]:.2f}"


def test_a_target_of_one_model_alone_and_no_probes_at_all(result):
    assert probe_panels(bare(result)) == []
    student = replace(result.student, probes=None)
    assert [line.role for line in probe_panels(replace(result, student=student))[0].lines] == ["teacher"] * 2


def test_the_lens_shows_shares_ranks_and_probabilities(result):
    top, mean = lens_panels(result)
    lens = result.teacher.lens
    points = top.lines[0].points
    assert [value(top, p) for p in points] == pytest.approx(lens.top_share.tolist(), abs=1e-3)
    assert points[-1].title.startswith(f"teacher, layer 3: {lens.top_share[3]:.2f} (median rank ")
    assert [value(mean, p) for p in mean.lines[1].points] == pytest.approx(
        result.student.lens.probability.mean(axis=1).tolist(), abs=1e-3
    )


def test_attribution_adds_up_to_the_logit_difference(result):
    teacher, student = attribution_strips(result)
    assert teacher.axis == student.axis
    for strip, side in ((teacher, result.teacher), (student, result.student)):
        total, *parts = strip.marks
        assert total.value == pytest.approx(side.attribution.total.mean())
        assert sum(m.value for m in parts) == pytest.approx(total.value)
    names = [m.label for m in teacher.marks]
    assert names[-2:] == [f"the other {21 - SHOWN}", "biases and constants"]
    assert [m.is_component for m in teacher.marks if m.label == "embedding"] in ([], [False])
    first = teacher.marks[1]
    assert first.is_component and first.role == "teacher"
    places = [round(2 * teacher.axis.at(v)) for v in first.rug]
    assert len(places) == len(set(places)) > 1
    assert set(first.rug) <= set(result.teacher.attribution.values[_row(result, first.label)].tolist())


def _row(result, name):
    return [str(c) for c in result.teacher.attribution.components].index(name)


def test_one_component_more_than_shown_is_shown_too():
    small = roles_of(synthetic(teacher_layers=2, student_layers=1))  # 11 with the embedding
    labels = [m.label for m in attribution_strips(small)[0].marks]
    assert len(labels) == 13 and not any(label.startswith("the other") for label in labels)
