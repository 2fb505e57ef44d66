"""Several students beside each other: groups, values, references, and sentences that claim no more than they may."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from circuitkd.comparison.kept import kept_components
from circuitkd.comparison.performance import Estimate
from circuitkd.reports import sides
from synthetic_comparison import synthetic


def student(comparison, name):
    return replace(comparison, student=replace(comparison.student, name=name))


@pytest.fixture(scope="module")
def two(comparison):
    """One teacher with two students: the second has other effects."""
    effects = comparison.student_sweep.effects[::-1].copy()
    sweep = replace(comparison.student_sweep, effects=effects)
    return [student(comparison, "first"), student(replace(comparison, student_sweep=sweep), "second")]


def test_only_students_of_one_teacher_and_task_are_grouped(two):
    other = synthetic("another", seed=3)
    (found,) = sides.groups([two[0], other, two[1]])
    assert [(c.label, c.target) for c in found.columns] == [("first", 0), ("second", 2)]
    assert (found.teacher, found.task, found.examples) == ("tiny-teacher", "ioi", 12)
    assert sides.groups([two[0], other]) == ()


def test_students_of_one_name_are_numbered(two):
    (found,) = sides.groups([two[0], two[0]])
    assert [c.label for c in found.columns] == ["first (1)", "first (2)"]


def test_rows_hold_the_values_and_share_an_axis(two):
    (found,) = sides.groups(two)
    rows = {row.label: row for row in found.rows}
    assert list(rows) == ["Alignment A", "Influential components kept", "Logit difference", "Mean drop", "Slope"]
    a = two[1].alignment
    cell = rows["Alignment A"].cells[1]
    assert (cell.mark.value, cell.mark.interval, cell.band) == (a.score, a.interval, a.null.shuffled_interval)
    assert cell.reference == a.null.random_score == 0.61
    kept = kept_components(two[0])
    cell = rows["Influential components kept"].cells[0]
    assert (cell.mark.value, cell.mark.text) == (kept.count, f"{kept.count} of {len(kept.components)}")
    assert cell.reference == kept.expected
    drop = rows["Mean drop"]
    assert [c.mark.value for c in drop.cells] == [c.robustness.student.mean_drop for c in two]
    assert drop.reference_role == "teacher" and drop.cells[0].reference == two[0].robustness.teacher.mean_drop
    for row in found.rows:
        values = [v for c in row.cells for v in (c.mark.value, *(c.mark.interval or ()))]
        assert row.axis.low <= min(values) and max(values) <= row.axis.high


def test_what_is_not_known_is_left_out(two):
    null = replace(two[0].alignment.null, random_largest=None, random_score=None)
    bare = [replace(c, alignment=replace(c.alignment, null=null)) for c in two]
    bare = [replace(c, robustness=replace(c.robustness, slope=None)) for c in bare]
    (found,) = sides.groups(bare)
    assert [row.label for row in found.rows] == ["Alignment A", "Logit difference", "Mean drop"]
    assert "untrained" not in found.rows[0].legend
    assert {place.state for row in found.components for place in row.places} == {""}
    one = replace(two[0], robustness=replace(two[0].robustness, slope=None))
    slope = sides.groups([one, two[1]])[0].rows[-1]
    assert slope.cells[0].mark.text == "none" and math.isnan(slope.cells[0].mark.value)


def test_components_are_the_teachers_most_influential(two):
    (found,) = sides.groups(two)
    influence = two[0].teacher_sweep.influence()
    expected = np.sort(influence[influence >= 0.1])[::-1][: sides.COMPONENTS]
    assert [row.influence for row in found.components] == pytest.approx(expected)
    assert found.left_out == int((influence >= 0.1).sum()) - len(expected)
    of_student = dict(zip(two[1].student_sweep.components, two[1].student_sweep.influence(), strict=True))
    for row in found.components:
        assert row.places[1].influence == of_student[row.places[1].pair.student]
    states = [row.places[0].state for row in found.components]
    kept = kept_components(two[0]).components
    assert [state == "kept" for state in states] == [c.is_kept for c in kept[: len(states)]]


def test_sentences(comparison):
    kept = kept_components(comparison)
    told = sides.sentence(comparison, kept)
    assert told.startswith(f"Keeps {kept.count} of {len(kept.components)} (")

    def with_slope(low, high):
        slope = replace(comparison.robustness.slope, interval=(low, high))
        return sides.sentence(replace(comparison, robustness=replace(comparison.robustness, slope=slope)), kept)

    assert with_slope(1.0, 2.0).endswith("; more fragile.")
    assert with_slope(-2.0, -1.0).endswith("; less fragile.")
    assert with_slope(-1.0, 1.0).endswith("; no difference in fragility shown.")
    weak = replace(comparison.performance, student=Estimate(0.4, -0.1, 0.9))
    assert "Not shown to do the task" in sides.sentence(replace(comparison, performance=weak), kept)
    null = replace(comparison.alignment.null, shuffled_share_at_least=0.2)
    unsure = replace(comparison, alignment=replace(comparison.alignment, null=null))
    assert sides.sentence(unsure, None).startswith("Influences are not shown to agree more than by chance; ")


def test_the_overview_of_several_tasks(comparison):
    other = synthetic("months-sequence", seed=4)
    told = sides.overview_sentence([comparison, other])
    found = [(kept_components(c), c.task) for c in (comparison, other)]
    least, most = sorted(found, key=lambda each: each[0].count / len(each[0].components))
    assert f"from {least[0].count} of {len(least[0].components)} on {least[1]} to {most[0].count} of" in told
    assert told.endswith("It is shown to be more fragile on none of the 2 tasks that it is shown to do.")
    assert sides.overview_sentence([comparison]) == ""
    assert sides.overview_sentence([comparison, student(other, "another")]) == ""


def test_the_table_has_every_value(two):
    (found,) = sides.groups(two)
    data = json.loads(found.table.json)
    assert len(data["rows"]) == 2 * (len(found.rows) + len(found.components))
    assert data["rows"][0][:3] == ["first", "Alignment A (0 to 1)", two[0].alignment.score]
    assert all(len(row) == len(data["columns"]) for row in data["rows"])
