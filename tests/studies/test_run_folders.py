"""What makes a result another request's; saving, refusing, cleaning up. The commands' side is in tests/cli/test_runs.py."""

from __future__ import annotations

import pytest

from circuitkd.studies.run_folders import clear, differences, identity_of, require_own, save_finished
from circuitkd.tasks.registry import load_task
from synthetic_study import noise


def test_identity_and_differences(tmp_path):
    first, second = (identity_of(("a", "b"), load_task("ioi", n), options="x") for n in (3, 4))
    assert first | {"examples": second["examples"]} == second
    assert differences(tmp_path, first) == []
    save_finished(tmp_path, noise(), identity=first)
    assert differences(tmp_path, first) == [] and differences(tmp_path, second) == ["examples"]
    require_own(tmp_path, first)
    with pytest.raises(ValueError, match=r"holds the finished result of another run \(it differs in examples\)"):
        require_own(tmp_path, second)


def test_only_pieces_are_cleared(tmp_path):
    (tmp_path / "run-1").mkdir()
    (tmp_path / "run-1" / "result.json").write_text("")
    (tmp_path / "a.safetensors").write_text("")
    (tmp_path / "mine.txt").write_text("")
    clear(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
