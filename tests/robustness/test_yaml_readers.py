"""Study files, `--config` and cards on damaged bytes and odd values: what they say, or one clear ValueError. Bombs and
tags of Python are refused."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import typer
import yaml
from hypothesis import given, settings

from circuitkd.cli import app
from circuitkd.cli.config import _key, defaults
from circuitkd.comparison.model_card import push, updated_card
from circuitkd.studies.study_file import Study, jobs, read_study
from damage import damaged, read_or_refuse, reshaped
from synthetic_comparison import synthetic

ROOT = Path(__file__).parents[2]
COMPARE = {_key(p): p for p in typer.main.get_command(app).commands["compare"].params if p.name != "config"}
STUDY = """
title: Tiny models
pairs:
  - {name: tiny, teacher: big, student: small}
tasks:
  - {name: ioi, label: names, n: 16}
analyses:
  - {kind: compare, options: {preset: released-notebook}}
  - {kind: noise, tasks: [names], options: {steps: 2, seeds: 2}}
printed:
  - {source: Table 1, pair: tiny, task: names, quantity: alignment, value: 0.9, low: 0.8, high: 1.0}
"""
CONFIG = "teacher: gpt2\nstudent: distilgpt2\ntask: [ioi, greater-than]\nn: 50\nno-random-null: true\n"
CARD = "---\nlicense: mit\nmodel-index:\n- name: x\n  results: []\n---\n# A model\n\nIts own words.\n"
COMPARISON = synthetic(teacher_layers=2, student_layers=1, heads=2, examples=4)
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
REFUSED = {
    "bomb": ("title: [x]\n" + BOMB, r"write out \*a in line 3: aliases are not read"),
    "cycle": ("title: &a [*a]\n", "aliases are not read"),
    "merge": ("a: &a {b: 1}\ntitle:\n  <<: *a\n", "aliases are not read"),
    "object": ("title: !!python/object/apply:os.system [touch x]\n", "could not determine a constructor for the tag"),
    "name": ("title: !!python/name:os.system\n", "could not determine a constructor for the tag"),
    "own tag": ("title: !run x\n", "could not determine a constructor"),
    "misfit": ("title: !!bool x\n", "has a tag that does not fit: KeyError"),
    "twice": ("title: a\ntitle: b\n", "the key 'title' stands twice in the mapping that begins in line 1"),
    "two documents": ("title: a\n---\ntitle: b\n", "found another document in line 2"),
    "half a character": ('title: "\\ud800"\n', "surrogates not allowed"),
    "deep": ("title: " + "[" * 5000, "is nested too deeply"),
    "null byte": ("title: \0\n", "special characters are not allowed"),
    "huge number": ("title: " + "9" * 5000 + "\n", "4300"),
    "empty": ("", "holds no mapping of keys"),
    "list": ("- a\n", "holds no mapping of keys"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("yaml-readers")


def config(path):
    return defaults(path, COMPARE)


def study_again(path):
    """A study that was read has jobs, and its dump is the same study."""
    study = read_study(path)
    assert jobs(study)
    assert Study.model_validate(study.model_dump(mode="json")) == study
    return study


@pytest.mark.parametrize("read", [read_study, config], ids=["study", "config"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_plain_data_is_refused(tmp_path, monkeypatch, read, name):
    monkeypatch.chdir(tmp_path)
    text, message = REFUSED[name]
    path = tmp_path / "mine.yaml"
    path.write_bytes(text.encode())
    started = time.process_time()
    with pytest.raises(ValueError, match=rf"mine\.yaml: .*{message}"):
        read(path)
    assert time.process_time() - started < 10
    assert [p.name for p in tmp_path.iterdir()] == ["mine.yaml"]


@settings(max_examples=40)
@given(content=damaged(STUDY.encode()))
def test_a_damaged_study_is_read_or_refused(place, content):
    read_or_refuse(study_again, place / "mine.yaml", content)


@settings(max_examples=40)
@given(value=reshaped(yaml.safe_load(STUDY)))
def test_a_study_of_odd_values_is_read_or_refused(place, value):
    read_or_refuse(study_again, place / "mine.yaml", yaml.safe_dump(value).encode())


@settings(max_examples=40)
@given(content=damaged(CONFIG.encode()) | reshaped(yaml.safe_load(CONFIG)).map(lambda v: yaml.safe_dump(v).encode()))
def test_a_damaged_config_is_read_or_refused(place, content):
    found = read_or_refuse(config, place / "mine.yaml", content) or {}
    assert set(found) <= {p.name for p in COMPARE.values()}
    assert all(isinstance(v, str | bool | list) for v in found.values())


@settings(max_examples=40)
@given(content=damaged(CARD.encode()))
def test_a_damaged_card_is_edited_or_left_as_it_was(place, content):
    path = place / "README.md"
    found = read_or_refuse(lambda p: push(COMPARISON, p), path, content)
    if found is None:
        assert path.read_bytes() == content
    else:
        once = path.read_bytes()
        push(COMPARISON, path)
        assert path.read_bytes() == once


def test_a_bomb_in_a_card_is_refused():
    started = time.process_time()
    with pytest.raises(ValueError, match=r"it has aliases \(\*name\): write out what they stand for"):
        updated_card(f"---\n{BOMB}---\n", COMPARISON)
    assert time.process_time() - started < 10


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda p: p.name)
def test_line_ends_and_byte_order_marks_do_not_matter(tmp_path, path):
    plain, other = tmp_path / "plain.yaml", tmp_path / "other.yaml"
    plain.write_bytes(path.read_bytes())
    other.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_study(other) == read_study(plain)
