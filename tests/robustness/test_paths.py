"""Names from files never lead out of the output folder, and are folder names that every system allows."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitkd.artifacts import require_storable, save_run
from circuitkd.cli import runs
from circuitkd.cli.select import student_folders
from circuitkd.comparison.noise import NoiseCurve
from circuitkd.comparison.result import Comparison
from circuitkd.models.files import locate
from circuitkd.studies.run_folders import safe_name
from circuitkd.studies.study_file import jobs, read_study
from circuitkd.tasks.base import Example, Task
from circuitkd.tasks.jsonl import write_task
from circuitkd.tasks.registry import load_task
from small_runs import prompts

UP = "../../outside"


def everything(root):
    """Every path below a folder, with the content of files."""
    return {p.relative_to(root): p.read_bytes() if p.is_file() else None for p in root.rglob("*")}


@settings(max_examples=100)
@given(st.text(max_size=200) | st.sampled_from(["..", "a/../b", "/etc", "C:\\x", "con", "NUL.txt", "x" * 999]))
def test_a_safe_name_is_one_plain_part_of_a_path(text):
    name = safe_name(text)
    assert Path(name).name == name and not name.startswith((".", "-")) and not name.endswith(".")
    assert len(name.encode()) <= 81
    assert safe_name(name) == name
    assert safe_name(unicodedata.normalize("NFD", text)) == safe_name(unicodedata.normalize("NFC", text))


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("con", "_con"),
        ("Aux.jsonl", "_Aux.jsonl"),
        ("COM1", "_COM1"),
        ("console", "console"),
        ("\U00020000" * 99, "\U00020000" * 20),
        ("e\u0301", "\u00e9"),
        ("a" * 79 + ".b", "a" * 79),
        ("\udcff", "unnamed"),
    ],
)
def test_names_that_some_system_does_not_allow(name, safe):
    assert safe_name(name) == safe


def test_names_that_differ_in_capitals_get_folders_of_their_own(tmp_path):
    examples = (Example("1", "a", "b", " c", " d"),)
    assert runs.task_folders([Task(name, examples) for name in ("Task", "task", "TASK")]) == [
        "Task",
        "task-2",
        "TASK-3",
    ]
    students = [tmp_path / "a" / "One", tmp_path / "b" / "one"]
    for student in students:
        student.mkdir(parents=True)
    with pytest.raises(ValueError, match="a/One and .*b/one would share the folder name 'one': rename one of them"):
        student_folders([str(student) for student in students])


@pytest.mark.parametrize("name", ["selection", "Partial"])
def test_a_student_does_not_take_the_place_of_what_select_keeps(name):
    with pytest.raises(ValueError, match="the run itself and .* would share the folder name"):
        student_folders([name])


@pytest.mark.parametrize("name", ["a\udcff.jsonl", "a\0b"])
def test_names_that_no_result_can_hold_are_refused_at_once(name):
    for read in (require_storable, locate, load_task):
        with pytest.raises(ValueError, match="the name is not UTF-8 text: rename the file or folder"):
            read(name)


def test_hostile_names_in_a_task_lead_nowhere(run, models, tmp_path, monkeypatch):
    """File, ids, labels and templates with .. and absolute paths."""
    place = tmp_path / "a" / "b"
    place.mkdir(parents=True)
    hostile = [
        Example(f"{UP}{i}", e.clean, e.corrupted, e.answer, e.distractor, {"/etc/passwd": 0}, UP)
        for i, e in enumerate(prompts("numeral-sequence", 4))
    ]
    monkeypatch.chdir(place)
    write_task(Task("t", tuple(hostile)), place / "...jsonl")
    before = everything(tmp_path)
    found = run("compare", models / "big", models / "small", "--task", "...jsonl", "--no-random-null")
    assert found.code == 0
    made = {path for path in everything(tmp_path) if path not in before}
    assert made and all(path.is_relative_to("a/b/circuitkd-runs") for path in made)
    assert Comparison.load(place / "circuitkd-runs" / "big--small" / "unnamed").dropped == {}
    assert {p: c for p, c in everything(tmp_path).items() if p in before} == before


def test_an_index_that_names_folders_elsewhere_is_refused(run, tmp_path):
    (tmp_path / "index").mkdir()
    for name in ("../outside", "/etc", "a/../../outside"):
        (tmp_path / "index" / "index.json").write_text(json.dumps({"format": 1, "runs": [{"folder": name}]}))
        found = run("report", "index")
        assert found.code == 2
        assert "index.json is damaged: name the run folders below index one by one" in found.stderr


def test_links_in_a_run_folder_are_replaced_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in ("result.json", "manifest.json", "arrays.safetensors"):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / name).symlink_to(victim)
    save_run(tmp_path / "run", NoiseCurve((0.0,), (0,), *([[1.0]],) * 3), manifest={})
    assert victim.read_text() == "precious"
    assert not any(path.is_symlink() for path in (tmp_path / "run").iterdir())


@pytest.mark.parametrize("stem", ["..", "...", "con", "a b", "<img>"])
def test_a_task_file_in_a_study_gets_a_folder_of_the_study(tmp_path, stem):
    path = tmp_path / "study.yaml"
    record = {
        "title": "t",
        "pairs": [{"name": "p", "teacher": "gpt2", "student": "distilgpt2"}],
        "tasks": [{"name": f"{UP}/{stem}.jsonl"}],
        "analyses": [{"kind": "compare"}],
    }
    path.write_text(json.dumps(record))
    (job,) = jobs(read_study(path))
    assert job.folder == f"p/{safe_name(stem)}/compare"


@pytest.mark.parametrize("name", [UP, "/abs", "..", "a/b", "", ".hidden", "a\n"])
def test_names_in_a_study_are_no_paths(tmp_path, name):
    for where in ("pairs", "tasks"):
        record = {
            "title": "t",
            "pairs": [{"name": "p", "teacher": "gpt2", "student": "distilgpt2"}],
            "tasks": [{"name": "ioi"}],
            "analyses": [{"kind": "compare"}],
        }
        record[where][0]["name" if where == "pairs" else "label"] = name
        path = tmp_path / "study.yaml"
        path.write_text(json.dumps(record))
        with pytest.raises(ValueError, match=rf"study\.yaml: {where}\[0\]\.(name|label): "):
            read_study(path)
