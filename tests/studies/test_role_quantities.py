"""Quantities of roles and their validation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from circuitkd.studies.role_quantities import ROLE_QUANTITIES
from synthetic_roles import bare, roles_of


@pytest.fixture(scope="module")
def result():
    return roles_of()


def read(name, result, of):
    return ROLE_QUANTITIES[name].read(result, of).value


def test_ov(result):
    ov = result.teacher.ov
    head = str(ov.heads[3])
    assert read("teacher-successor", result, head) == pytest.approx(100 * ov.successor[3])
    assert read("teacher-copy", result, head) == pytest.approx(100 * ov.copy[3])
    assert read("student-successor", result, "mean") == pytest.approx(100 * result.student.ov.successor.mean())
    with pytest.raises(ValueError, match="there is no head 'L9H9'"):
        read("teacher-copy", result, "L9H9")


def test_attention(result):
    scores = result.student.scores
    assert read("student-attention", result, f"{scores.heads[1]} as induction") == scores.attention[1, 3]
    with pytest.raises(ValueError, match="there is no role 'inducton': did you mean 'induction'"):
        read("student-attention", result, f"{scores.heads[1]} as inducton")


def test_probes(result):
    probes = result.teacher.probes
    target = probes.targets[0]
    assert read("teacher-probe", result, f"{target}, layer 1") == pytest.approx(100 * probes.scores[0, 1])
    with pytest.raises(ValueError, match="there is no probe target 'nothing': there are"):
        read("teacher-probe", result, "nothing, layer 1")
    with pytest.raises(ValueError, match="there is no layer '99'"):
        read("teacher-probe", result, f"{target}, layer 99")
    members = [i for i, t in enumerate(probes.targets) if t.startswith("member ")]
    if members:
        mean = 100 * probes.scores[members, 1].mean()
        assert read("teacher-probe", result, "member, layer 1") == pytest.approx(mean)


def test_head_probes(result):
    probes = result.student.head_probes
    row, head = probes.targets.index("seen before"), probes.heads[3]
    assert read("student-head-probe", result, f"seen before, {head}") == pytest.approx(100 * probes.scores[row, 3])
    mean = 100 * probes.scores[row].mean()
    assert read("student-head-probe", result, "seen before, mean") == pytest.approx(mean)
    members = replace(probes, targets=("member 1", "member 2"))
    both = replace(result, student=replace(result.student, head_probes=members))
    average = 100 * probes.scores[:, 3].mean()
    assert read("student-head-probe", both, f"member,{head}") == pytest.approx(average)


@pytest.mark.parametrize(
    ("of", "message"),
    [
        ("answer", "'answer' names no head: write it as in 'next member, L9H1', or 'next member, mean'"),
        ("nothing, L0H1", "there is no probe target 'nothing': there are answer, seen before"),
        ("answer, L9H9", "there is no head 'L9H9'"),
        ("answer, layer 1", "unknown component ' layer 1'"),
        ("answer, MLP1", "there is no head 'MLP1'"),
    ],
)
def test_what_a_head_probe_is_of(result, of, message):
    with pytest.raises(ValueError, match=message):
        read("teacher-head-probe", result, of)


def test_patching(result):
    patching = result.teacher.patching
    assert read("teacher-block-patching", result, "layer 1") == patching.blocks_at_all[1]
    head = str(patching.heads[2])
    assert read("teacher-ov-patching", result, head) == patching.ov[2]
    same = [h.layer == patching.heads[2].layer for h in patching.heads]
    z = (patching.ov[2] - patching.ov[same].mean()) / patching.ov[same].std()
    assert read("teacher-ov-z-score", result, head) == pytest.approx(z)


def test_mlps(result):
    assert read("mlp-cosine", result, "MLP2->MLP1") == result.mlps.cosine[2, 1]
    assert read("mlp-cosine-first-token", result, "MLP2->MLP1") == result.mlps.by_position[2, 1, 0]
    others = np.mean(result.mlps.by_position[2, 1, 1:])
    assert read("mlp-cosine-other-tokens", result, "MLP2->MLP1") == pytest.approx(others)


@pytest.mark.parametrize(
    ("name", "of", "message"),
    [
        ("teacher-successor", "mean", "the OV test was left out"),
        ("teacher-probe", "x, layer 1", "probes were left out"),
        ("teacher-head-probe", "x, L0H0", "probes of heads were left out, or a version without them made this result"),
        ("teacher-ov-patching", "L0H0", "activation patching was left out"),
        ("mlp-cosine", "MLP2->MLP1", "MLP cosines were left out"),
    ],
)
def test_what_was_left_out(result, name, of, message):
    with pytest.raises(ValueError, match=message):
        read(name, bare(result), of)
