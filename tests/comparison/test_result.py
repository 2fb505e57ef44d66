"""A comparison on disk and as a table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from circuitkd.artifacts import read_manifest, save_run
from circuitkd.comparison.noise import NoiseCurve
from circuitkd.comparison.result import Comparison, Slope
from equal_results import assert_same
from synthetic_comparison import synthetic


@pytest.fixture(scope="module")
def comparison():
    return synthetic()


def test_saved_and_loaded(comparison, tmp_path):
    assert_same(Comparison.load(comparison.save(tmp_path / "run")), comparison)
    assert read_manifest(tmp_path / "run") == comparison.manifest


def test_nan_comes_back(comparison, tmp_path):
    effects = comparison.student_sweep.effects.copy()
    effects[2, 1] = np.nan
    holey = replace(
        comparison,
        student_sweep=replace(comparison.student_sweep, effects=effects, forward_equivalents=float("nan")),
        variants={"a": float("nan"), "b": 0.5},
    )
    assert_same(Comparison.load(holey.save(tmp_path)), holey)


def test_a_comparison_without_the_options(comparison, tmp_path):
    null = replace(comparison.alignment.null, random_score=None, random_similarity=None, random_agreement=None)
    bare = replace(
        comparison,
        alignment=replace(comparison.alignment, null=null, head=None),
        robustness=replace(comparison.robustness, slope=None),
        patterns=(),
        dropped={"array": "an id like any other"},
        warnings=(),
    )
    assert_same(Comparison.load(bare.save(tmp_path)), bare)


@pytest.mark.parametrize("name", ["result.json", "arrays.safetensors", "manifest.json"])
def test_without_a_file_there_is_no_comparison(comparison, tmp_path, name):
    comparison.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=f"no finished result|is damaged .*{name}|has no {name}"):
        Comparison.load(tmp_path)


def test_another_result_is_no_comparison(tmp_path):
    curve = NoiseCurve((0.0,), (0,), *np.ones((3, 1, 1)))
    save_run(tmp_path, curve, manifest={})
    with pytest.raises(ValueError, match="it holds a NoiseCurve of format 1, not a Comparison of 1"):
        Comparison.load(tmp_path)


def test_a_table_of_pairs(comparison):
    table = comparison.to_pandas()
    assert list(table.columns[:5]) == ["teacher", "student", "kind", "weight", "similarity"]
    assert len(table) == len(comparison.alignment.pairs)
    first = comparison.alignment.pairs[0]
    assert (table.teacher[0], table.student[0]) == (str(first.teacher), str(first.student))
    assert table.contribution.mean() == pytest.approx(comparison.alignment.score)
    np.testing.assert_allclose(table.contribution, table.similarity * table.agreement)
    assert set(table.kind) == {"head", "mlp"}
    sweep = comparison.student_sweep
    for _, row in table.iterrows():
        index = [str(c) for c in sweep.components].index(row.student)
        assert row.student_effect_logits == sweep.effects[index].mean()
        lost = 100 * sweep.effects[index].mean() / sweep.base.mean()
        assert row.student_drop_percent == pytest.approx(min(max(lost, 0), 100))
    assert table.teacher_drop_percent.mean() == pytest.approx(comparison.robustness.teacher.mean_drop)


def test_slopes_per_tenth():
    assert Slope(0.4, 20.0, (10.0, 35.0)).per_tenth == (2.0, 1.0, 3.5)
