from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest

from circuitkd.reports.drill_down import drill_down
from synthetic_roles import bare


@pytest.fixture(scope="module")
def parts(comparison, result):
    return json.loads(json.dumps(drill_down(comparison, result), allow_nan=False))


def unpacked(matrix):
    whole = np.frombuffer(base64.b64decode(matrix["int16"]), "<i2").reshape(matrix["shape"])
    return whole * matrix["scale"]


def test_effects_of_every_component_on_every_example(parts, comparison):
    for side, sweep in (("teacher", comparison.teacher_sweep), ("student", comparison.student_sweep)):
        found = parts[side]
        assert found["names"] == [str(c) for c in sweep.components]
        np.testing.assert_allclose(unpacked(found["effects"]), sweep.effects, atol=2e-4)
        np.testing.assert_allclose(found["influence"], sweep.influence(), rtol=1e-3)
        np.testing.assert_allclose(found["retained"], sweep.retained_percent, rtol=1e-3)
        assert found["estimated"] == []
    assert parts["examples"] == list(comparison.teacher_sweep.examples)


def test_pairs_are_those_of_the_alignment(parts, comparison):
    pair = comparison.alignment.pairs[2]
    assert parts["pairs"][2]["teacher"] == str(pair.teacher)
    assert parts["pairs"][2]["student"] == str(pair.student)
    assert parts["pairs"][2]["contribution"] == pytest.approx(pair.contribution, rel=1e-3)


def test_roles_with_their_thresholds(parts, result):
    found, scores = parts["teacher"]["roles"], result.teacher.scores
    np.testing.assert_allclose(unpacked(found["score"]), scores.score, atol=1e-4)
    assert found["threshold"] == [0.3] * len(scores.roles)
    assert np.array_equal(np.array(found["found"], dtype=bool), scores.found)


def test_patching_rows_end_with_all_positions(parts, result):
    found, patching = parts["student"]["patching"], result.student.patching
    recovery = unpacked(found["recovery"])
    np.testing.assert_allclose(recovery[:, :-1], patching.effects / 4, atol=1e-4)
    np.testing.assert_allclose(recovery[:, -1], patching.at_all / 4, atol=1e-4)
    np.testing.assert_allclose(unpacked(found["halves"])[:, 1], patching.ov / 4, atol=1e-4)
    assert found["positions"][:3] == ["(0)", "and", "(2)"]


def test_fates_and_tests_of_outputs(parts, result):
    fate = result.fates.fates[0]
    assert parts["fates"][str(fate.teacher.component)]["reason"] == fate.reason
    assert [test["asked"] for test in parts["teacher"]["ov"]] == ["weights", "prompts"]
    assert parts["teacher"]["attribution"]["MLP0"] == pytest.approx(
        result.teacher.attribution.mean[result.teacher.attribution.components.index(fate_mlp(result))], rel=1e-3
    )


def test_probes_of_heads_and_of_the_residual_stream(parts, result):
    found, model = parts["student"]["probes"], result.student
    assert found["targets"] == list(model.head_probes.targets) and found["chance"] == [0.1, 0.5]
    assert found["heads"]["names"] == found["heads"]["sources"] == [str(h) for h in model.head_probes.heads]
    for part, probes in ((found["heads"], model.head_probes), (found["stream"], model.probes)):
        np.testing.assert_allclose(unpacked(part["score"]), probes.scores, atol=1e-4)
        np.testing.assert_allclose(unpacked(part["control"]), probes.control, atol=1e-4)
        np.testing.assert_allclose(unpacked(part["spread"]), probes.control_std, atol=1e-4)


def test_a_result_without_head_probes_has_those_of_the_stream(comparison, result):
    older = replace(result, teacher=replace(result.teacher, head_probes=None))
    found = drill_down(comparison, older)["teacher"]["probes"]
    assert found["heads"] is None and found["stream"]["score"]["shape"] == [2, 4]


def fate_mlp(result):
    return next(c for c in result.teacher.attribution.components if str(c) == "MLP0")


def test_it_works_without_roles(comparison, result):
    alone = drill_down(comparison, None)
    assert alone["fates"] == {}
    assert "roles" not in alone["teacher"] and alone["student"]["names"]
    few = drill_down(comparison, bare(result))
    assert few["teacher"]["patching"] is None and few["teacher"]["probes"] is None
    assert [test["asked"] for test in few["teacher"]["ov"]] == ["prompts"]


def test_estimated_effects_are_named(comparison):
    sweep = comparison.teacher_sweep
    screened = replace(comparison, teacher_sweep=replace(sweep, estimated=sweep.components[:2]))
    assert drill_down(screened, None)["teacher"]["estimated"] == ["L0H0", "L0H1"]
