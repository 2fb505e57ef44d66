from __future__ import annotations

import json
from dataclasses import replace

import pytest

from circuitkd.cli import runs
from circuitkd.comparison.noise import NoiseCurve
from circuitkd.comparison.result import Comparison
from circuitkd.tasks.base import Example, Task
from synthetic_comparison import synthetic

IDENTITY = {"teacher": "abc", "examples": "123"}


def saved(folder, **changes):
    """A finished comparison of the request IDENTITY."""
    made = synthetic(examples=4)
    facts = {runs.REQUEST: json.dumps(IDENTITY | changes)}
    made = replace(made, manifest=made.manifest | facts)
    made.save(folder)
    return made


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("EleutherAI--pythia-160m", "EleutherAI--pythia-160m"),
        ("../../etc/passwd", "etc-passwd"),
        ("..", "unnamed"),
        (".hidden", "hidden"),
        ("a b/c\\d\0e\nf", "a-b-c-d-e-f"),
        ("", "unnamed"),
        ("x" * 300, "x" * 80),
    ],
)
def test_safe_names(name, safe):
    assert runs.safe_name(name) == safe


def test_folders_of_models(tmp_path, monkeypatch):
    (tmp_path / "out" / "student").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert runs.model_folder("out/student/") == "student"
    assert runs.model_folder("./out/../out/student") == "student"
    assert runs.model_folder("zoo:gpt2-teacher") == "gpt2-teacher"
    assert runs.model_folder("EleutherAI/pythia-160m") == "EleutherAI--pythia-160m"
    monkeypatch.chdir(tmp_path / "out" / "student")
    assert runs.model_folder(".") == "student"


def test_folders_of_tasks_differ():
    examples = (Example("1", "a", "b", " c", " d"),)
    tasks = [Task(name, examples) for name in ("x", "y", "x", "x", "../y")]
    assert runs.task_folders(tasks) == ["x", "y", "x-2", "x-3", "y-2"]


def test_a_finished_result_is_taken(tmp_path, capsys):
    made = saved(tmp_path / "run")
    found = runs.finished(tmp_path / "run", Comparison, IDENTITY)
    assert found.alignment.score == made.alignment.score
    assert capsys.readouterr().err == f"taken from {tmp_path / 'run'}: it holds this result already\n"


def test_no_result_and_one_to_be_replaced(tmp_path):
    assert runs.finished(tmp_path, Comparison, IDENTITY) is None
    saved(tmp_path, teacher="other")
    assert runs.finished(tmp_path, Comparison, IDENTITY, overwrite=True) is None


def test_the_result_of_another_run_is_refused(tmp_path):
    saved(tmp_path, teacher="other")
    with pytest.raises(ValueError, match=r"finished result of another run \(it differs in teacher\): choose another"):
        runs.finished(tmp_path, Comparison, IDENTITY)
    saved(tmp_path, teacher="other", examples="?")
    with pytest.raises(ValueError, match=r"differs in teacher, examples\).* or replace it with --overwrite"):
        runs.finished(tmp_path, Comparison, IDENTITY)
    (tmp_path / "manifest.json").unlink()
    assert runs.differences(tmp_path, IDENTITY) == ["teacher", "examples"]


def test_a_damaged_result_is_computed_again(tmp_path, capsys):
    saved(tmp_path)
    (tmp_path / "arrays.safetensors").write_bytes(b"x")
    assert runs.finished(tmp_path, Comparison, IDENTITY) is None
    assert capsys.readouterr().err == f"the result in {tmp_path} is damaged; computing it again\n"


def test_keep_computes_once(tmp_path, capsys):
    import numpy as np

    counted = []

    def compute():
        counted.append(1)
        values = np.array([[0.5]])
        return NoiseCurve((0.0,), (1,), values, values, values)

    first = runs.keep(tmp_path / "noise", NoiseCurve, IDENTITY, compute=compute)
    again = runs.keep(tmp_path / "noise", NoiseCurve, IDENTITY, compute=compute)
    assert (len(counted), first.mean[0], again.mean[0]) == (1, 0.5, 0.5)
    with pytest.raises(ValueError, match="it differs in examples"):
        runs.keep(tmp_path / "noise", NoiseCurve, IDENTITY | {"examples": "9"}, compute=compute)
    runs.keep(tmp_path / "noise", NoiseCurve, IDENTITY | {"examples": "9"}, compute=compute, overwrite=True)
    assert len(counted) == 2


def test_only_finished_pieces_are_cleared(tmp_path):
    for name in ("a.safetensors", "b.safetensors", "notes.txt"):
        (tmp_path / name).write_text("")
    runs.clear(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "notes.txt").unlink()
    runs.clear(tmp_path)
    assert not tmp_path.exists()
    runs.clear(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    message = r"cannot write to .*: Not a directory; free some space or choose another"
    with pytest.raises(ValueError, match=message), runs.claimed(tmp_path / "file" / "run"):
        raise AssertionError
    with runs.claimed(tmp_path / "a" / "b") as folder:
        assert folder == tmp_path / "a" / "b"
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_an_index_names_the_runs(tmp_path):
    made = saved(tmp_path / "pair" / "ioi")
    runs.save_index(tmp_path, [(tmp_path / "pair" / "ioi", made)])
    row = json.loads((tmp_path / "index.json").read_text())["runs"][0]
    assert (row["folder"], row["task"], row["alignment"]) == ("pair/ioi", "ioi", made.alignment.score)
    assert runs.run_folders(tmp_path) == [tmp_path / "pair" / "ioi"]
    assert runs.run_folders(tmp_path / "pair" / "ioi") == [tmp_path / "pair" / "ioi"]


def test_an_index_that_cannot_be_written(tmp_path):
    (tmp_path / "index.json").mkdir()
    with pytest.raises(ValueError, match=r"cannot write .*index\.json: .*; free some space"):
        runs.save_index(tmp_path, [])


def test_what_is_no_run_folder(tmp_path):
    with pytest.raises(ValueError, match="is not a run folder: it holds neither result.json nor index.json"):
        runs.run_folders(tmp_path)
    for text in ("[", "{}", '{"runs": 1}'):
        (tmp_path / "index.json").write_text(text)
        with pytest.raises(ValueError, match=r"index\.json is damaged: name the run folders below .* one by one"):
            runs.run_folders(tmp_path)
