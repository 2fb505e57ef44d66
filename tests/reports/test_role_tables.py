from __future__ import annotations

import json
from dataclasses import replace

import pytest

from circuitkd.reports import role_tables
from circuitkd.roles.fate_result import KINDS
from circuitkd.roles.role_definitions import ROLES
from synthetic_roles import WHY, bare


def test_every_fate_and_role_has_words():
    assert set(role_tables.FATE_WORDS) == set(KINDS)
    assert set(role_tables.ROLE_WORDS) == {role.name for role in ROLES}


def test_fates_are_ordered_by_influence(result):
    ordered = role_tables.ordered_fates(result.fates)
    assert sorted(map(id, ordered)) == sorted(map(id, result.fates.fates))
    influences = [f.teacher.influence for f in ordered]
    assert influences == sorted(influences, reverse=True)


def test_counts_of_what_matters_and_of_all(result):
    (first, important), (second, all_of_them) = role_tables.fate_counts(result.fates)
    assert first == f"{sum(f.teacher.influential for f in result.fates.fates)} that matter"
    assert second == "all 20"
    assert sum(all_of_them.values()) == 20 and 0 not in all_of_them.values()
    assert important == {k: n for k, n in result.fates.counts(influential=True).items() if n}


def test_fates_can_be_saved_as_a_table(result):
    table = json.loads(role_tables.fate_data(result.fates).json)
    assert len(table["columns"]) == len(set(table["columns"])) == result.fates.to_pandas().shape[1]
    assert table["columns"][:3] == ["teacher component", "fate", "most similar student component"]
    drops = [row[table["columns"].index("teacher drop (%)")] for row in table["rows"]]
    assert drops == [f.teacher.drop_percent for f in result.fates.fates]
    assert [row[0] for row in table["rows"]] == [str(f.teacher.component) for f in result.fates.fates]


def test_heads_of_a_role_are_the_best_first(result):
    rows = {row.role: row for row in role_tables.role_rows(result)}
    scores = result.teacher.scores
    column = scores.roles.index("induction")
    heads = rows["induction"].teacher
    assert {h.head for h in heads} == {h for h, has in zip(scores.heads, scores.found[:, column], strict=True) if has}
    assert [h.score for h in heads] == sorted((h.score for h in heads), reverse=True)
    assert heads[0].threshold == 0.3
    assert heads[0].share == scores.of(heads[0].head)["induction"]
    assert rows["previous token"].teacher == () and list(rows)[-1] == "previous token"


def test_a_role_that_one_model_was_not_asked_for(result):
    scores = result.student.scores
    fewer = replace(
        scores,
        roles=scores.roles[1:],
        **{name: getattr(scores, name)[..., 1:] for name in ("score", "found", "share", "threshold", "attention")},
    )
    changed = replace(result, student=replace(result.student, scores=fewer))
    rows = {row.role: row for row in role_tables.role_rows(changed)}
    assert rows["previous token"].student is None
    assert rows["induction"].student


def test_brittleness_leaves_out_roles_that_no_head_has(result):
    listed = role_tables.reliance_rows(result)
    assert "previous token" not in [t.role for t, _ in listed]
    assert all(t.role == s.role for t, s in listed)


def test_what_was_left_out_is_named_once_for_each_reason(result):
    assert role_tables.left_out_rows(result) == [("role mover, probe member i", WHY)]
    assert ("activation patching, teacher", 1, "clean has 8 tokens, corrupted 9") in role_tables.left_out_examples(
        result
    )
    assert [name for name, _, _ in role_tables.left_out_examples(bare(result))] == [
        "contributions, teacher",
        "contributions, student",
    ]


def test_cosines_of_the_planes(result):
    cosines = role_tables.mlp_cosines(result)
    plane = result.planes[1]
    at = result.mlps.teacher_mlps.index(plane.teacher), result.mlps.student_mlps.index(plane.student)
    first, others = cosines["MLP1"]
    assert first == result.mlps.by_position[(*at, 0)]
    assert others == pytest.approx(result.mlps.by_position[at][1:].mean())
    assert role_tables.mlp_cosines(bare(result)) == {}


def test_a_map_that_was_cut_says_so(result):
    assert role_tables.cut_rows(result.teacher.patching, 40) == ""
    assert role_tables.cut_rows(None, 1) == ""
    assert (
        role_tables.cut_rows(result.teacher.patching, 7) == "The 7 of 21 components with the largest effects are drawn."
    )
