"""Results as rows: what is in each table, and printed values beside ours."""

from __future__ import annotations

import math

import pytest

from circuitkd.comparison.performance import Estimate
from circuitkd.studies.tables import study_tables
from synthetic_study import TEXT, finished_run


@pytest.fixture(scope="module")
def run():
    return finished_run()


@pytest.fixture(scope="module")
def tables(run):
    return {table.name: table for table in study_tables(run)}


def test_every_kind_has_its_tables(tables):
    assert list(tables) == [
        "paper-table-1",
        *("alignment", "performance", "robustness", "variants", "circuits", "thresholds", "roles", "fates"),
        *("noise", "distillation"),
    ]
    for table in tables.values():
        assert {len(row) for row in table.rows} == {len(table.columns)}
        assert all(row[0] == "one" for row in table.rows)


def test_printed_values_stand_beside_ours(run, tables):
    table, c = tables["paper-table-1"], run.results["one/ioi/compare"]
    ours = Estimate(c.alignment.score, *c.alignment.interval)
    first, second, third, fourth = table.rows
    assert first[:5] == ("one", "ioi", "alignment", "", ours) and first[5].value == -1.0 and first[6] == "no"
    assert second[2] == "teacher-drop of L0H9" and math.isnan(second[4].value) and second[6] == ""
    assert "one on ioi: L0H9 is not among" in table.note
    assert third[6] == "yes" and (third[5].low, third[5].high) == (0.0, 1.0)  # a range that ours touches
    assert fourth[4].value == c.variants["l1+nearest"] and fourth[6] == ""  # no interval of ours


def test_comparisons(run, tables):
    c = run.results["one/ioi/compare"]
    (row,) = tables["performance"].rows
    assert row[2:4] == (c.performance.n, c.performance.teacher) and row[7] == 100 * c.teacher_sweep.accuracy.mean()
    (row,) = tables["robustness"].rows
    assert row[2] == Estimate(c.robustness.teacher.mean_drop, *c.robustness.teacher.interval)
    (row,) = tables["variants"].rows
    assert dict(zip(tables["variants"].columns[2:], row[2:], strict=True)) == c.variants


def test_circuits_roles_and_noise(run, tables):
    circuits, roles = run.results["one/ioi/circuits"], run.results["one/ioi/roles"]
    teacher, student = tables["circuits"].rows
    assert teacher[2:4] == ("teacher", len(circuits.found.teacher.components)) and student[2] == "student"
    (at,) = tables["thresholds"].rows
    assert at[3] == "0.2" and at[8] == 100 * circuits.teacher_thresholds.circuits[0].retained
    assert [row[2] for row in tables["roles"].rows] == [r.role for r in roles.brittleness.teacher.reliances]
    assert {row[4] for row in tables["roles"].rows if row[3] == "none"} <= {""}
    counts = roles.fates.counts()["preserved"], roles.fates.counts(influential=True)["preserved"]
    assert tables["fates"].rows[0][2] == f"{counts[0]} ({counts[1]})"
    assert [row[2:4] for row in tables["noise"].rows] == [("0", 0.8), ("0.5", pytest.approx(0.3)), ("2", 0.1)]


def test_distillation_has_the_teacher_last(tables):
    rows = tables["distillation"].rows
    assert [row[2] for row in rows][:2] == ["untrained", "all parameters, CE"] and rows[-1][2] == "teacher"
    assert rows[0][3].value == 0.5 and rows[-1][4].value == 0.75 and rows[-1][7] == "" and rows[2][7] == "–"


def test_what_failed_leaves_its_rows_out():
    run = finished_run(failing=("one/ioi/compare", "one/ioi/circuits"))
    tables = {table.name: table for table in study_tables(run)}
    assert not {"alignment", "circuits", "thresholds"} & set(tables) and "roles" in tables
    assert all(math.isnan(row[4].value) for row in tables["paper-table-1"].rows)
    assert "compare of one on ioi failed" in tables["paper-table-1"].note


def test_models_without_a_circuit():
    from dataclasses import replace

    run = finished_run(TEXT.split("printed")[0])
    circuits = run.results["one/ioi/circuits"]
    run.results["one/ioi/circuits"] = replace(circuits, found=replace(circuits.found, student=None))
    table = next(t for t in study_tables(run) if t.name == "circuits")
    assert table.rows[1] == ("one", "ioi", "student", "none", "", "", "", "", "", "")
