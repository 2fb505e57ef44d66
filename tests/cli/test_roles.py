"""The command on tiny models: its files, its tables, and what it refuses."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from circuitkd.cli import roles
from circuitkd.roles.fate_result import KINDS
from circuitkd.roles.result import RolesResult


@pytest.fixture(scope="module")
def made(tmp_path_factory, models):
    """One finished run, made once: its folder and what was printed."""
    from typer.testing import CliRunner

    from circuitkd.cli import app

    folder = tmp_path_factory.mktemp("roles")
    arguments = ["roles", models / "big", models / "small", "--task", "ioi", "--n", 12, "--output-dir", folder]
    return folder, CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def test_it_prints_the_summary_and_keeps_every_table(made):
    folder, found = made
    assert found.exit_code == 0
    result = RolesResult.load(folder)
    assert " ".join(result.fates.summary.split()) in " ".join(found.stdout.split())
    with (folder / "fates.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["teacher"] for r in rows] == [str(f.teacher.component) for f in result.fates.fates]
    assert {r["fate"] for r in rows} <= set(KINDS)
    for row in rows:
        assert f"{row['teacher']} " in found.stdout and row["fate"] in found.stdout
    with (folder / "roles.csv").open() as file:
        assert {r["side"] for r in csv.DictReader(file)} == {"teacher", "student"}
    with (folder / "robustness.csv").open() as file:
        assert next(csv.DictReader(file))["retained_percent"] == "100.0"
    assert (folder / "comparison" / "result.json").exists() and (folder / "brittleness.csv").exists()


def test_the_run_folder_has_a_report_of_comparison_and_roles(made, run, tmp_path):
    folder, found = made
    assert found.stdout.endswith(f"run folder: {folder}\nreport:     {folder / 'report.html'}\n")
    page = (folder / "report.html").read_text()
    assert 'id="c0-roles"' in page and 'id="c0-similarity"' in page
    for named in (folder, folder / "comparison"):
        written = run("report", named, "--output", tmp_path / "again.html")
        assert written.code == 0
        assert 'id="c0-roles"' in (tmp_path / "again.html").read_text()


def test_compare_keeps_roles_beside_the_comparison(run, models):
    arguments = ("compare", models / "big", models / "small", "--task", "ioi", "--n", 12, "--no-random-null")
    plain = run(*arguments, "--output-dir", "out", "--json")
    assert "roles" not in plain.json and 'id="c0-roles"' not in Path("out/report.html").read_text()
    found = run(*arguments, "--output-dir", "out", "--roles")
    assert found.code == 0
    kept = RolesResult.load("out/roles")
    assert " ".join(kept.fates.summary.split()) in " ".join(found.stdout.split())
    assert 'id="c0-roles"' in Path("out/report.html").read_text()
    assert not Path("out/roles/partial").exists()
    again = run(*arguments, "--output-dir", "out", "--roles", "--json")
    assert again.stderr.count("it holds this result already") == 2
    assert again.json["roles"]["fates"]["summary"] == kept.fates.summary
    assert run("report", "out").code == 0
    assert 'id="c0-roles"' in Path("out/report.html").read_text()
    Path("out/roles/result.json").write_text("{")
    damaged = run("report", "out")
    assert damaged.code == 0 and "roles left out of the report: " in damaged.stderr
    assert 'id="c0-roles"' not in Path("out/report.html").read_text()


def test_what_the_task_has_no_labels_for_is_named_once(made):
    _, found = made
    lines = [line for line in found.stderr.splitlines() if "member_1" in line]
    assert any(line.startswith("left out: role numeral detection") for line in lines)
    assert len(lines) == len(set(lines))


def test_a_finished_run_is_taken_as_it_is_and_another_refused(run, made, models):
    folder, first = made
    arguments = ("roles", models / "big", models / "small", "--task", "ioi", "--output-dir", folder)
    again = run(*arguments, "--n", 12, "--json")
    assert again.code == 0 and "it holds this result already" in again.stderr
    assert " ".join(again.json["fates"]["summary"].split()) in " ".join(first.stdout.split())
    other = run(*arguments, "--n", 14)
    assert other.code != 0 and "differs in examples" in other.stderr


def test_heads_are_listed_best_first(made):
    scores = RolesResult.load(made[0]).teacher.scores
    role = scores.roles[0]
    assert roles.heads_of(scores, "no such role") == "left out"
    found = np.zeros_like(scores.found)
    score = scores.score.copy()
    score[:, 0] = np.arange(len(scores.heads))
    everywhere = found.copy()
    everywhere[:, 0] = True
    assert roles.heads_of(replace(scores, found=found), role) == "–"
    listed = roles.heads_of(replace(scores, found=everywhere, score=score, share=np.ones_like(score)), role)
    last = scores.heads[-1]
    assert listed.startswith(f"{last} 100%, ") and listed.endswith(f"+ {len(scores.heads) - roles.HEADS}")
