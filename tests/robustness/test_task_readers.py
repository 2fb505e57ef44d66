"""Task files and importers on damaged bytes and odd values: a task, or one clear ValueError that names the file."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from circuitkd.tasks.base import Task
from circuitkd.tasks.importers import import_task
from circuitkd.tasks.jsonl import read_task, write_task
from circuitkd.tasks.registry import load_task
from damage import as_json, damaged, read_or_refuse, reshaped

ROW = {"id": "a", "clean": "The cat sat on the", "corrupted": "The dog lay on the"}
ROW |= {"answer": " mat", "distractor": [" log"], "labels": {"subject": 1, "verbs": [2]}, "template": "animals"}
SEQUENCE = {"id": "s", "text": "1 2 3", "corr": " 4", "incorr": " 9", "members": ["1", "2", "3"]}
NAMES = {
    "id": 1,
    "text": "When Mary and John ate John gave it to",
    "corrupted": "When Mary and John ate Tom gave it to",
}
NAMES |= {"corr": " Mary", "incorr": " John"}
COLUMNS = {"clean": "clean", "corrupted": "corrupted", "answer": "answer", "distractor": "distractor"}
WORDS_CSV = "clean,corrupted,correct,incorrect\nA cat, A dog, x, y\nB cat,B dog, z, w\n"
YEARS_CSV = "clean,corrupted,correct_idx\nThe war lasted from 1741 to 17,The war lasted from 1701 to 17,41\n"
QA_KIND = "\"{'topic': 'x', 'answer_type': 'Person', 'urls': []}\""
QA_CSV = f"metadata,problem,answer\n{QA_KIND},Who?,Ada Lovelace\n{QA_KIND},Who else?,Alan Turing\n"


def lines(*rows):
    return b"".join(as_json(row) + b"\n" for row in rows)


TASK_FILE = lines(ROW, ROW | {"id": "b"})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("task-readers")


def check_task(task: Task | None, place) -> None:
    """A task that was read can be hashed, written and read again."""
    if task is None:
        return
    assert len(task.digest()) == 64
    again = read_task(write_task(task, place / "again.jsonl"))
    assert again.digest() == task.digest()


@settings(max_examples=80)
@given(content=damaged(TASK_FILE))
def test_a_damaged_task_file_is_read_or_refused(place, content):
    check_task(read_or_refuse(read_task, place / "mine.jsonl", content), place)


@settings(max_examples=50)
@given(row=reshaped(ROW))
def test_a_row_of_odd_values_is_read_or_refused(place, row):
    check_task(read_or_refuse(load_task, place / "mine.jsonl", lines(row)), place)


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_byte_order_marks_do_not_matter(tmp_path, ends, mark):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(mark + TASK_FILE.replace(b"\n", ends))
    assert [e.id for e in read_task(path).examples] == ["a", "b"]
    assert read_task(path).examples[0].distractor == (" log",)


def imported(kind, **options):
    return lambda path: import_task(kind, [path], **options).task


READERS = {
    "lan.jsonl": (lines(SEQUENCE), lambda p: import_task("lan", [p, p.with_name("pairs.jsonl")]).task),
    "ioi.jsonl": (lines(NAMES, NAMES | {"id": "2"}), imported("ioi")),
    "words.csv": (WORDS_CSV.encode(), imported("eap-ig")),
    "years.csv": (YEARS_CSV.encode(), imported("eap-ig")),
    "qa.csv": (QA_CSV.encode(), imported("simple-qa")),
    "table.csv": (b"clean,corrupted,answer,distractor\na,b, c, d\n", imported("dataset", **COLUMNS)),
    "table.json": (as_json([{k: ROW[k] for k in COLUMNS}]), imported("dataset", **COLUMNS)),
    "table.jsonl": (TASK_FILE, imported("dataset", **COLUMNS)),
}


@pytest.mark.parametrize("name", READERS)
def test_other_peoples_files_are_read_or_refused(place, name):
    good, read = READERS[name]
    (place / "pairs.jsonl").write_bytes(lines({"pair": "s", "text": "7 2 3"}))
    assert read_or_refuse(read, place / name, good) is not None

    @settings(max_examples=25)
    @given(content=damaged(good))
    def fuzz(content):
        task = read_or_refuse(read, place / name, content)
        assert task is None or len(task.digest()) == 64

    fuzz()
