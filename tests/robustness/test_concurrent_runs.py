"""One process at a time in a run folder: the second is refused, and a killed one leaves nothing locked."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import textwrap
import threading

import pytest
import typer

from circuitkd.artifacts import write_atomically
from circuitkd.cli import app
from circuitkd.studies.run_folders import HOLDER, LOCK, claimed

HOLD = """
import sys, time
from pathlib import Path
from circuitkd.studies.run_folders import claimed

with claimed(Path(sys.argv[1])):
    (Path(sys.argv[1]) / ".half.tmp").write_text("x")
    print("holding", flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def held_elsewhere(folder):
    """Another process that works in the folder until it is killed."""
    command = [sys.executable, "-c", textwrap.dedent(HOLD), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "holding\n"
            yield other
        finally:
            other.kill()


def test_the_second_process_is_refused_until_the_first_is_killed(tmp_path):
    folder = tmp_path / "run"
    with held_elsewhere(folder) as other:
        message = f"run is in use by process {other.pid} on {platform.node()}: wait for it to end, or choose another"
        with pytest.raises(ValueError, match=message), claimed(folder):
            raise AssertionError
        (folder / HOLDER).unlink()
        with pytest.raises(ValueError, match="is in use by another process: wait"), claimed(folder):
            raise AssertionError
        with claimed(tmp_path / "another"):
            pass
        other.kill()
        other.wait()
        assert (folder / ".half.tmp").exists()
        with claimed(folder):
            assert str(os.getpid()) in (folder / HOLDER).read_text()
            assert not (folder / ".half.tmp").exists()
    assert list(folder.iterdir()) == []


COMMANDS = {
    "demo": (),
    "compare": ("MODEL", "MODEL", "--task", "ioi"),
    "select": ("MODEL", "MODEL", "--task", "ioi"),
    "circuit": ("MODEL", "--task", "ioi"),
    "roles": ("MODEL", "MODEL", "--task", "ioi"),
    "distill": ("MODEL", "MODEL", "--task", "ioi"),
    "study": ("study.yaml",),
}


def test_every_command_with_an_output_folder_is_there():
    commands = typer.main.get_command(app).commands
    takers = {name for name, c in commands.items() if any("--output-dir" in p.opts for p in c.params)}
    assert takers == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_refused_before_it_loads_a_model(run, models, tmp_path, monkeypatch, command):
    def loaded(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("circuitkd.models.loading.load", loaded)
    monkeypatch.setattr("circuitkd.studies.running.load", loaded)
    (tmp_path / "study.yaml").write_text(
        f"title: t\npairs: [{{name: p, teacher: {models / 'big'}, student: {models / 'small'}}}]\n"
        "tasks: [{name: ioi, n: 4}]\nanalyses: [{kind: compare}]\n"
    )
    arguments = [models / "big" if a == "MODEL" else a for a in COMMANDS[command]]
    # A lock of this process by another object stands for one of another process.
    with claimed(tmp_path / "out"):
        found = run(command, *arguments, "--output-dir", "out")
    assert found.code == 2
    assert "error: out is in use by process" in found.stderr
    assert found.stdout == ""


def test_a_folder_is_free_again_however_the_run_ended(tmp_path):
    for error in (ValueError("x"), KeyboardInterrupt(), OSError(28, "full")):
        with pytest.raises(type(error)), claimed(tmp_path):
            raise error
    with claimed(tmp_path):
        assert (tmp_path / LOCK).exists()
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "victim")
    with pytest.raises(ValueError, match="cannot write to .*run: "), claimed(tmp_path / "run"):
        raise AssertionError
    assert (tmp_path / "victim").read_text() == "precious"


def test_threads_that_write_one_file_do_not_meet(tmp_path):
    failures = []

    def write(letter):
        for _ in range(30):
            try:
                write_atomically(tmp_path / "file", letter * 1000)
                if len(set((tmp_path / "file").read_bytes())) != 1:
                    failures.append(letter)
            except OSError as error:
                failures.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
