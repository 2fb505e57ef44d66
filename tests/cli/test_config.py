"""`--config`: what a file says is what would be typed, and what is typed wins."""

from __future__ import annotations

import json

import pytest
import typer

from circuitkd.cli import app


@pytest.fixture
def write(tmp_path):
    """Write `run.yaml` in the folder of the command."""

    def text(content):
        (tmp_path / "run.yaml").write_text(content)
        return "run.yaml"

    return text


def leaves(command):
    below = getattr(command, "commands", None)
    return [command] if below is None else [leaf for c in below.values() for leaf in leaves(c)]


def test_every_command_takes_it_once():
    commands = leaves(typer.main.get_command(app))
    assert len(commands) >= 14
    for command in commands:
        assert [flag for p in command.params for flag in p.opts].count("--config") == 1


def test_help_names_it(run):
    assert "--config" in run("compare", "--help").stdout
    assert "--config" in run("tasks", "show", "--help").stdout


def test_a_file_is_what_would_be_typed(run, write, models):
    typed = run(
        *("compare", models / "big", models / "small", "--task", "ioi", "--task", "numeral-sequence", "--n", 4),
        *("--matching", "hungarian", "--no-random-null", "--json", "--output-dir", "typed"),
    )
    write(
        f"teacher: {models / 'big'}\nstudent: {models / 'small'}\ntask: [ioi, numeral-sequence]\nn: 4\n"
        "matching: hungarian\nno-random-null: true\njson: true\nnoise: false\noutput-dir: read\ntop:\n"
    )
    read = run("compare", "--config", "run.yaml")
    assert typed.code == read.code == 0
    assert [c["task"] for c in read.json] == ["ioi", "numeral-sequence"]
    assert [c["alignment"] for c in read.json] == [c["alignment"] for c in typed.json]
    assert "hungarian" in json.dumps(read.json[0]["alignment"]["definition"])


def test_what_is_typed_wins_and_replaces_lists(run, write, models):
    write(
        f"teacher: none\nstudent: {models / 'small'}\ntask: [ioi, greater-than]\nn: 50\nno-random-null: true\n"
        "json: true\n"
    )
    found = run("compare", "--config", "run.yaml", models / "big", "--task", "numeral-sequence", "--n", 3)
    assert found.code == 0
    assert found.json["task"] == "numeral-sequence"
    assert len(found.json["teacher_sweep"]["base"]) == 3
    assert found.json["teacher"]["name"] == str(models / "big")
    assert found.json["student"]["name"] == str(models / "small")


def test_several_arguments_and_a_single_value_for_a_list(run, write, models):
    write(
        f"teacher: {models / 'big'}\nstudents:\n  - {models / 'small'}\n  - {models / 'other'}\n"
        "task: numeral-sequence\nn: 4\njson: true\n"
    )
    found = run("select", "--config", "run.yaml")
    assert found.code == 0
    assert {c["name"] for c in found.json["candidates"]} == {str(models / "small"), str(models / "other")}
    only = run("select", "--config", "run.yaml", models / "big", models / "other", "--output-dir", "one")
    assert [c["name"] for c in only.json["candidates"]] == [str(models / "other")]


def test_a_command_below_a_group(run, write):
    write("name: ioi\nn: 2\nseed: 3\n")
    assert (
        run("tasks", "show", "--config", "run.yaml").stdout == run("tasks", "show", "ioi", "--n", 2, "--seed", 3).stdout
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("taks: ioi\nteachr: a\n", "run.yaml: unknown key 'taks': did you mean 'task'?; unknown key 'teachr': did you"),
        ("head_similarity: cka\n", "unknown key 'head_similarity': did you mean 'head-similarity'?"),
        ("--task: ioi\n", "unknown key '--task': did you mean 'task'?"),
        ("config: other.yaml\n", "unknown key 'config': "),
        ("1: ioi\n", "unknown key 1: known are teacher, student, task, n,"),
        ("noise: 3\n", "run.yaml: noise is a switch: write true or false, not 3"),
        ("json: 'yes'\n", "run.yaml: json is a switch: write true or false, not 'yes'"),
        ("n: [4, 5]\n", "run.yaml: n takes one text or number, not [4, 5]"),
        ("teacher: true\n", "run.yaml: teacher takes one text or number, not True (a text that YAML reads otherwise"),
        ("task: [ioi, [qa]]\n", "run.yaml: task takes texts or numbers, not ['qa']"),
        ("task: {name: ioi}\n", "run.yaml: task takes texts or numbers, not {'name': 'ioi'}"),
        ("- ioi\n", "run.yaml: holds no mapping of keys: write teacher, student, task, n,"),
        ("", "run.yaml: holds no mapping of keys"),
        ("task: ioi\ntask: greater-than\n", "run.yaml: the key 'task' stands twice"),
        ("task: [ioi\n", "run.yaml: is not valid YAML: "),
        (
            "task: !!python/object/apply:os.getcwd []\n",
            "run.yaml: is not valid YAML: could not determine a constructor",
        ),
        ("teacher: a\nstudent: b\ntask: ioi\nn: few\n", "Invalid value for '--n': "),
        ("task: ioi\nstudent: b\n", "Missing argument 'TEACHER'"),
        ("teacher: a\nstudent: b\n", "Missing option '--task'"),
    ],
)
def test_what_a_file_may_not_say(run, write, content, message):
    found = run("compare", "--config", write(content))
    assert (found.code, found.stdout) == (2, "")
    assert message in " ".join(found.stderr.split())


def test_a_file_that_is_not_there(run):
    found = run("compare", "--config", "none.yaml")
    assert found.code == 2
    assert "cannot read none.yaml: No such file" in found.stderr
