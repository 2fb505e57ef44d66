"""Run folders: what is saved comes back, and what is not whole is refused."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from circuitkd.artifacts import (
    decode,
    encode,
    load_run,
    plain,
    read_json,
    read_manifest,
    save_run,
    to_json,
    write_atomically,
    write_together,
)
from circuitkd.components import Component, Edge
from equal_results import assert_same

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a result."""

    name: str
    values: Floats
    score: float


@dataclass(frozen=True, eq=False)
class Whole:
    """One field of every kind that can be stored."""

    parts: tuple[Part, ...]
    pair: tuple[int, float]
    flag: bool
    kind: Literal["a", "b"]
    maybe: float | None
    part: Part | None
    component: Component
    edges: tuple[Edge, ...]
    by_name: dict[str, Floats]
    reasons: dict[str, str]
    by_layer: Mapping[int, tuple[Component, ...]]
    by_component: dict[Component, float]
    listed: list[Part]
    label: int | tuple[int, ...]
    choice: str | Part
    counts: NDArray[np.intp]
    scalar: NDArray[np.float64]
    nothing: Floats


VALUES = np.array([[1.0, np.nan], [np.inf, -0.0]])
WHOLE = Whole(
    parts=(Part("one", VALUES, math.nan), Part("two", VALUES.T, 1e-300)),
    pair=(3, 0.1 + 0.2),
    flag=True,
    kind="b",
    maybe=None,
    part=Part("three", VALUES[:, ::-1], 2.0),
    component=Component("head", 9, 6),
    edges=(Edge.parse("L0H1->L2H3<q>"), Edge.parse("MLP0->logits")),
    by_name={"a.b": VALUES, "a": VALUES + 1, "array": VALUES + 2},
    reasons={"array": "an id like any other"},
    by_layer={0: (), 11: (Component("mlp", 11),)},
    by_component={Component("kv", 1, 0): 0.5},
    listed=[Part("four", VALUES, 4.0)],
    label=(1, 2),
    choice=Part("five", VALUES, 5.0),
    counts=np.array([2, 3]),
    scalar=np.array(7.0),
    nothing=np.zeros((0, 3)),
)


@pytest.fixture
def run(tmp_path):
    return save_run(tmp_path / "runs" / "one", WHOLE, manifest={"seed": 1, "bad": math.inf})


def test_a_result_comes_back(run):
    assert sorted(p.name for p in run.iterdir()) == ["arrays.safetensors", "manifest.json", "result.json"]
    assert_same(load_run(run, Whole), WHOLE)
    assert read_manifest(run) == {"seed": 1, "bad": None}


@pytest.mark.parametrize("change", [{"label": 3}, {"choice": "text"}, {"part": None}, {"maybe": 0.5}])
def test_the_other_members_of_unions_come_back(tmp_path, change):
    changed = dataclasses.replace(WHOLE, **change)
    assert_same(load_run(save_run(tmp_path, changed, manifest={}), Whole), changed)


def test_numbers_of_numpy_are_stored_as_numbers(tmp_path):
    part = Part("x", VALUES, np.float64(0.1))
    assert load_run(save_run(tmp_path, part, manifest={}), Part).score == 0.1
    kept = {}
    assert encode(np.int64(3), keep=kept.setdefault) == 3
    assert kept == {}


def test_an_older_result_is_replaced(run):
    other = dataclasses.replace(WHOLE, pair=(4, 1.0))
    save_run(run, other, manifest={"seed": 2})
    assert load_run(run, Whole).pair == (4, 1.0)
    assert read_manifest(run) == {"seed": 2}


def test_plain_values_hold_the_arrays():
    found = plain(dataclasses.replace(WHOLE, by_name={}, reasons={"array": "result.parts.0.values"}))
    assert found["parts"][1]["values"][0] == [1.0, math.inf]
    assert found["component"] == "L9H6"
    assert found["edges"] == ["L0H1->L2H3<q>", "MLP0->logits"]
    assert found["reasons"] == {"array": "result.parts.0.values"}
    assert json.loads(to_json(found))["parts"][1]["values"][0] == [1.0, None]


def test_json_has_no_nan():
    assert json.loads(to_json({"a": [math.nan, (1.5, -math.inf)], "ü": "é"})) == {"a": [None, [1.5, None]], "ü": "é"}


def test_decoding_is_the_inverse_of_encoding():
    arrays = {}
    record = encode(WHOLE, keep=lambda path, array: {"array": arrays.setdefault(path, array) is array and path})
    assert len(arrays) == 11
    assert decode(Whole, json.loads(to_json(record)), arrays=arrays).pair == WHOLE.pair


DAMAGED = "is damaged or not a result of this version: .*{}.*; run the command again"


def edited(path, function):
    record = json.loads(path.read_text())
    function(record)
    path.write_text(to_json(record))


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda r: r["result"]["pair"].__setitem__(1, 0.5), "result.json was changed after it was written"),
        (lambda r: r["result"].pop("flag"), "result.json was changed after it was written"),
        (lambda r: r.update(arrays_sha256="0" * 64), "result.json was changed after it was written"),
        (lambda r: r.update(kind="Circuit"), "it holds a Circuit of format 1, not a Whole of 1"),
        (lambda r: r.update(format=9), "it holds a Whole of format 9, not a Whole of 1"),
        (lambda r: r.pop("sha256"), "'sha256'"),
        (lambda r: r.pop("format"), "'format'"),
    ],
)
def test_an_edited_result_is_refused(run, function, message):
    edited(run / "result.json", function)
    with pytest.raises(ValueError, match=DAMAGED.format(message)):
        load_run(run, Whole)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"3", b"\xff\xfe", b'{"format": 1}'])
def test_a_broken_result_is_refused(run, content):
    (run / "result.json").write_bytes(content)
    with pytest.raises(ValueError, match=DAMAGED.format("")):
        load_run(run, Whole)


@pytest.mark.parametrize("cut", [0, 1, 40, -1])
def test_truncated_arrays_are_refused(run, cut):
    path = run / "arrays.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=DAMAGED.format("arrays.safetensors does not belong to result.json")):
        load_run(run, Whole)


def test_the_arrays_of_another_run_are_refused(run, tmp_path):
    other = save_run(tmp_path / "two", dataclasses.replace(WHOLE, scalar=np.array(8.0)), manifest={})
    (run / "arrays.safetensors").write_bytes((other / "arrays.safetensors").read_bytes())
    with pytest.raises(ValueError, match=DAMAGED.format("arrays.safetensors does not belong to result.json")):
        load_run(run, Whole)


def test_the_manifest_of_another_run_is_refused(run, tmp_path):
    """An overwriting save that was killed between two of its files, with equal arrays."""
    other = save_run(tmp_path / "two", WHOLE, manifest={"seed": 2})
    (run / "manifest.json").write_bytes((other / "manifest.json").read_bytes())
    with pytest.raises(ValueError, match=DAMAGED.format("manifest.json does not belong to result.json")):
        load_run(run, Whole)


def test_missing_arrays_are_refused(run):
    (run / "arrays.safetensors").unlink()
    with pytest.raises(ValueError, match=DAMAGED.format("No such file")):
        load_run(run, Whole)


def test_another_kind_of_result_is_refused(tmp_path):
    save_run(tmp_path, WHOLE.part, manifest={})
    with pytest.raises(ValueError, match=DAMAGED.format("it holds a Part of format 1, not a Whole of 1")):
        load_run(tmp_path, Whole)


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_a_folder_without_a_result_is_refused(tmp_path, folder):
    with pytest.raises(ValueError, match=r"holds no finished result \(no result.json\): run the command again"):
        load_run(tmp_path / folder, Whole)


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is not a run folder: it has no manifest.json"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"3", b"\xff"])
def test_a_broken_manifest_is_refused(run, content):
    (run / "manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest.json is damaged: .*; run the command again"):
        read_manifest(run)


def full(*_):
    raise OSError(28, "No space left on device")


class FullAfter:
    """A disk that takes so many files."""

    def __init__(self, files):
        self.left = files

    def __call__(self, descriptor):
        self.left -= 1
        if self.left < 0:
            full()


@pytest.mark.parametrize("files", [0, 1, 2])
def test_a_full_disk_leaves_no_result_and_no_litter(tmp_path, monkeypatch, files):
    monkeypatch.setattr(os, "fsync", FullAfter(files))
    message = "cannot write the run folder .*: No space left on device; free some space or choose another --out"
    with pytest.raises(ValueError, match=message):
        save_run(tmp_path / "new", WHOLE, manifest={})
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("files", [0, 1, 2])
def test_a_full_disk_leaves_the_older_result(run, monkeypatch, files):
    monkeypatch.setattr(os, "fsync", FullAfter(files))
    with pytest.raises(ValueError, match="No space left on device"):
        save_run(run, dataclasses.replace(WHOLE, scalar=np.array(8.0)), manifest={})
    assert_same(load_run(run, Whole), WHOLE)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    def denied(self, *_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ValueError, match="cannot write the run folder .*: Permission denied; free some space"):
        save_run(tmp_path, WHOLE, manifest={})


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write the run folder .*file/run: Not a directory; free"):
        save_run(tmp_path / "file" / "run", WHOLE, manifest={})


def test_an_interrupt_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_files_are_renamed_in_the_order_given(tmp_path, monkeypatch):
    seen, replace = [], Path.replace

    def note(self, target):
        seen.append(Path(target).name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", note)
    save_run(tmp_path, WHOLE, manifest={})
    assert seen == ["arrays.safetensors", "manifest.json", "result.json"]
    write_together({tmp_path / "b": b"1", tmp_path / "a": b"2"})
    assert seen[3:] == ["b", "a"]
    assert (tmp_path / "a").read_bytes() == b"2"


@dataclass(frozen=True)
class Grown:
    """A result to which a later version added a field with a default."""

    score: float
    added: Floats | None = None


@dataclass(frozen=True)
class Shrunk:
    """The same before it was added, under the same name on disk."""

    score: float


Shrunk.__name__ = "Grown"


def test_a_field_that_an_earlier_version_did_not_know_takes_its_default(tmp_path):
    save_run(tmp_path, Shrunk(0.5), manifest={})
    assert load_run(tmp_path, Grown) == Grown(0.5, None)


def test_a_field_without_a_default_must_be_there():
    with pytest.raises(KeyError):
        decode(Grown, {"added": None}, arrays={})


@pytest.mark.parametrize(
    "content, message",
    [
        (b"{", "Expecting property name"),
        (b"\xff", "codec can't decode"),
        (b"[" * 20_000, "is nested too deeply"),
        (b'{"a": {"b": 1, "b": 2}}', "has the key 'b' more than once"),
        (b'["\\ud800"]', "holds half a surrogate pair, which is no character"),
    ],
)
def test_json_that_cannot_be_understood_whole_is_refused(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "file")


def test_json_with_a_byte_order_mark_and_whole_pairs_is_read(tmp_path):
    (tmp_path / "file").write_bytes(b'\xef\xbb\xbf["\\ud83d\\ude00", 1e300]')
    assert read_json(tmp_path / "file") == ["\U0001f600", 1e300]
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        read_json(tmp_path)


@pytest.mark.parametrize(
    "kind, value", [(str, 3), (int, 1.5), (int, True), (float, "1"), (float, math.inf), (bool, 1), (Literal["a"], "b")]
)
def test_a_value_of_another_type_is_refused(kind, value):
    with pytest.raises(ValueError, match="is no "):
        decode(kind, value, arrays={})
    with pytest.raises(ValueError, match="is no "):
        decode(tuple[kind, ...], [value], arrays={})
