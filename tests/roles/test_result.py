import hashlib
import json
from dataclasses import replace

import pytest
import torch

from circuitkd.analysis import CompareOptions, compare
from circuitkd.artifacts import to_json
from circuitkd.roles.describe import describe_roles
from circuitkd.roles.result import RolesResult
from equal_results import assert_same
from small_runs import model_for, task_of
from synthetic_comparison import synthetic
from synthetic_roles import roles_of


@pytest.mark.parametrize("name, task", [("gpt2", "numeral-sequence"), ("bert", "greater-than")])
def test_a_result_comes_back_whole(tmp_path, name, task):
    model, asked = model_for(name, torch.float32), task_of(task, n=12)
    comparison = compare(model, model, asked, options=CompareOptions(random_null=False))
    found = describe_roles(model, model, asked, comparison=comparison)
    folder = found.save(tmp_path / "run")
    assert_same(RolesResult.load(folder), found)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["data_sha256"] == asked.digest()
    assert manifest["torch"] == torch.__version__


def test_it_belongs_to_the_comparison_of_its_models_examples_and_ablation():
    comparison = synthetic()
    found = roles_of(comparison)
    assert found.belongs_to(comparison)
    assert not found.belongs_to(synthetic(seed=1))
    for key in ("teacher", "student", "data_sha256", "ablation"):
        assert not found.belongs_to(replace(comparison, manifest=comparison.manifest | {key: "another"}))
        assert not replace(found, manifest={k: v for k, v in found.manifest.items() if k != key}).belongs_to(comparison)


def test_a_folder_of_a_version_without_head_probes_still_loads(tmp_path):
    found = roles_of()
    path = found.save(tmp_path) / "result.json"
    record = {key: value for key, value in json.loads(path.read_text()).items() if key != "sha256"}
    for side in ("teacher", "student"):
        del record["result"][side]["head_probes"]
    path.write_text(to_json({"sha256": hashlib.sha256(to_json(record).encode()).hexdigest()} | record))
    older = RolesResult.load(tmp_path)
    assert older.teacher.head_probes is None and older.student.head_probes is None
    assert_same(older.teacher.probes, found.teacher.probes)


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is not a run folder"):
        RolesResult.load(tmp_path)
