"""The command on a study of tiny models: tables, files, exit codes."""

from __future__ import annotations

import pytest

from circuitkd.cli.study import bare, terminal_table
from circuitkd.comparison.performance import Estimate
from small_study import QUICK
from synthetic_study import finished_run


@pytest.fixture
def file(models):
    path = models / "study.yaml"
    path.write_text(QUICK)
    return path


def test_a_study_prints_its_tables_and_says_where_they_are(run, file, tmp_path):
    found = run("study", file)
    assert found.code == 0, found.stderr
    root = tmp_path / "circuitkd-runs" / "studies" / "study"
    assert "tiny, numerals" in found.stdout and "Alignment of a disturbed student" in found.stdout
    assert "Definitions of alignment: circuitkd-runs/studies/study/tables/variants.md (wider than" in found.stdout
    assert "report:     circuitkd-runs/studies/study/report.html" in found.stdout
    assert "2 jobs finished (0 of them before), 0 failed" in found.stderr
    assert (root / "report.html").exists() and (root / "tables" / "noise.tex").exists()
    again = run("study", file, "--json")
    assert "2 jobs finished (2 of them before), 0 failed" in again.stderr
    assert [t["name"] for t in again.json["tables"]][:2] == ["alignment", "performance"]
    assert again.json["failures"] == {}


def test_a_failed_job_gives_another_exit_code(run, file, tmp_path):
    file.write_text(QUICK.replace("n: 16", "n: 1"))
    found = run("study", file, "--output-dir", "out")
    assert found.code == 1
    assert "0 jobs finished (0 of them before), 2 failed" in found.stderr
    assert "warning: tiny/numerals/compare, tiny/numerals/noise: a comparison needs at least two" in found.stderr
    assert (tmp_path / "out" / "report.html").exists()


def test_a_bad_file_is_told_in_one_message(run, file, tmp_path):
    file.write_text(QUICK.replace("seeds: 1", "seads: 1"))
    found = run("study", file, "--output-dir", "out")
    assert found.code == 2 and found.stdout == ""
    assert found.stderr == f"error: {file}: analyses[1].options.seads: unknown key: did you mean 'seeds'?\n"
    assert not (tmp_path / "out").exists()


def test_cells_on_the_terminal():
    assert bare(Estimate(0.5, 0.25, 0.75), 2) == "0.50"
    assert bare(Estimate(float("nan"), 0.25, 0.75), 2) == "[0.25, 0.75]"
    assert [bare(x, 1) for x in (float("nan"), 1.25, 3, "a [b")] == ["–", "1.2", "3", "a [b"]


def test_pair_and_task_share_a_column():
    from circuitkd.studies.tables import study_tables

    table = next(t for t in study_tables(finished_run()) if t.name == "robustness")
    made = terminal_table(table)
    assert [str(c.header) for c in made.columns][:3] == ["pair, task", "teacher", "student"]
    assert str(next(iter(made.columns[0].cells))) == "one, ioi"
