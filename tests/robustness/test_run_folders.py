"""Run folders of every kind of result: what is saved comes back; whatever happens to a file, nothing wrong is loaded."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import types
import typing
from collections.abc import Mapping
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from circuitkd.artifacts import load_run, read_manifest, save_run, to_json
from circuitkd.circuit_analysis import CircuitComparison, Curves
from circuitkd.circuits.circuit import Circuit
from circuitkd.circuits.discovery import ThresholdSweep
from circuitkd.circuits.entity_groups import EntityGroups
from circuitkd.cli import runs
from circuitkd.comparison.noise import NoiseCurve
from circuitkd.comparison.result import Comparison
from circuitkd.components import Component, Edge
from circuitkd.distill.experiment_result import DistillationRun, ExperimentResult
from circuitkd.distill.search import Candidate
from circuitkd.roles.result import RolesResult
from circuitkd.selection import Selection
from circuitkd.studies.distillation import Distillation
from circuitkd.studies.job_kinds import StudyCircuits
from damage import clear_refusal, damaged, read_or_refuse, reshaped
from equal_results import assert_same

KINDS = (
    Comparison,
    Circuit,
    CircuitComparison,
    ThresholdSweep,
    Curves,
    EntityGroups,
    NoiseCurve,
    RolesResult,
    ExperimentResult,
    DistillationRun,
    Candidate,
    Selection,
    StudyCircuits,
    Distillation,
)
FILES = ("result.json", "arrays.safetensors", "manifest.json")
PLAIN: dict[Any, tuple[Any, ...]] = {
    str: ("", "é \u2028", "</script>", "x" * 90),
    int: (0, -3, 10**20),
    float: (0.1 + 0.2, 1e300, 3, 5e-324),
    bool: (True, False),
    type(None): (None,),
    Component: tuple(map(Component.parse, ("L0H1", "MLP3", "L2KV0", "embed", "logits"))),
    Edge: tuple(map(Edge.parse, ("L0H1->L1H0<q>", "embed->logits"))),
}


def made(kind: Any, rng: Random) -> Any:
    """A value of a type that can be stored: any plain values, two of whatever may be there several times."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind in PLAIN or origin is typing.Literal:
        return rng.choice(PLAIN.get(kind, inner))
    if origin in (typing.Union, types.UnionType):
        return made(rng.choice(inner), rng)
    if np.ndarray in (kind, origin):
        values = np.random.default_rng(rng.randrange(99)).normal(size=(2, 3))
        return values.astype(typing.get_args(inner[1])[0])
    if origin in (tuple, list):
        several = inner[:1] * 2 if origin is list or inner[-1] is Ellipsis else inner
        return origin(made(one, rng) for one in several)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {made(inner[0], rng): made(inner[1], rng) for _ in range(2)}
    hints = typing.get_type_hints(kind)
    return kind(**{field.name: made(hints[field.name], rng) for field in dataclasses.fields(kind)})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("run-folders")


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def whole(kind, place):
    """A run folder of this kind, with arrays."""
    return save_run(place / kind.__name__, made(kind, Random(0)), manifest={"seed": 1})


@pytest.mark.parametrize("seed", range(4))
def test_a_result_comes_back_equal(kind, place, seed):
    result = made(kind, Random(seed))
    assert_same(load_run(save_run(place / "any", result, manifest={}), kind), result)


def test_a_file_of_its_own_that_changed_is_refused(kind, whole, place):
    @settings(max_examples=8)
    @given(st.data())
    def change(data):
        shutil.copytree(whole, place / "changed", dirs_exist_ok=True)
        path = place / "changed" / data.draw(st.sampled_from(FILES))
        content = data.draw(damaged(path.read_bytes()))
        assume(content != path.read_bytes())
        try:
            same = path.name == "result.json" and json.loads(content) == json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            same = False
        assume(not same)  # white space between the values of a JSON file means nothing
        assert read_or_refuse(lambda p: load_run(p.parent, kind), path, content) is None

    change()
    assert_same(load_run(whole, kind), load_run(whole, kind))


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_told(kind, whole, place, name):
    shutil.copytree(whole, place / "without", dirs_exist_ok=True)
    (place / "without" / name).unlink()
    with pytest.raises(ValueError, match="run the command again"):
        load_run(place / "without", kind)


def test_another_kind_and_a_newer_format_are_told(kind, whole, place):
    other = KINDS[KINDS.index(kind) - 1]
    with pytest.raises(ValueError, match=f"it holds a {kind.__name__} of format 1, not a {other.__name__} of 1"):
        load_run(whole, other)
    newer = shutil.copytree(whole, place / "newer", dirs_exist_ok=True)
    seal(newer, lambda record: record | {"format": 2})
    with pytest.raises(ValueError, match=f"it holds a {kind.__name__} of format 2, not a {kind.__name__} of 1"):
        load_run(newer, kind)


def seal(folder, change):
    """Change the record in result.json and give it the digest that belongs to it."""
    path = folder / "result.json"
    record = change({k: v for k, v in json.loads(path.read_text()).items() if k != "sha256"})
    digest = hashlib.sha256(to_json(record).encode()).hexdigest()
    path.write_text(to_json({"sha256": digest} | record))


def test_a_forged_result_is_read_or_refused(kind, whole, place):
    """With a digest that fits, types and shapes still have to."""
    original = json.loads((whole / "result.json").read_text())["result"]

    @settings(max_examples=8)
    @given(reshaped(original))
    def forge(changed):
        folder = shutil.copytree(whole, place / "forged", dirs_exist_ok=True)
        try:
            seal(folder, lambda record: record | {"result": changed})
        except UnicodeEncodeError:
            assume(False)
        with clear_refusal(folder / "result.json"):
            found = load_run(folder, kind)
            assert_same(load_run(save_run(place / "again", found, manifest={}), kind), found)

    forge()


@settings(max_examples=40)
@given(content=damaged(to_json({"seed": 1, "request": '{"a": "b"}'}).encode()))
def test_a_damaged_manifest_is_read_or_refused(place, content):
    (place / "run").mkdir(exist_ok=True)
    found = read_or_refuse(lambda p: read_manifest(p.parent), place / "run" / "manifest.json", content)
    assert found is None or isinstance(found, dict)
    (place / "run" / "result.json").write_text("{}")
    assert set(runs.differences(place / "run", {"a": "b"})) <= {"a"}


@settings(max_examples=40)
@given(content=damaged(to_json({"format": 1, "runs": [{"folder": "a/b", "task": "t"}]}).encode()))
def test_a_damaged_index_is_read_or_refused(place, content):
    (place / "index").mkdir(exist_ok=True)
    read_or_refuse(lambda p: runs.run_folders(p.parent), place / "index" / "index.json", content)
    shutil.copy(place / "index" / "index.json", place / "index" / "result.json")
    assert isinstance(runs.kind_of(place / "index"), str)
    (place / "index" / "result.json").unlink()
