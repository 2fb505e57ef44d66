import json

import pytest
import torch

from circuitkd.analysis import CompareOptions, compare
from circuitkd.roles.describe import describe_roles
from circuitkd.roles.result import RolesResult
from equal_results import assert_same
from small_runs import model_for, task_of


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


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is not a run folder"):
        RolesResult.load(tmp_path)
