"""Which measure is taken, and that it is the one it says."""

from __future__ import annotations

import numpy as np
import pytest

from circuitkd.accumulators import Gram
from circuitkd.comparison import pair_similarity as module
from circuitkd.comparison.cka import cka
from circuitkd.comparison.measure import Measured
from circuitkd.comparison.notebook_preset import notebook_mlp_similarity
from circuitkd.comparison.pair_similarity import (
    NOTEBOOK_FIELDS,
    Measures,
    check_widths,
    fields_for,
    notebook_similarity,
    pair_similarity,
)
from circuitkd.comparison.similarity import leading_directions, rank_cosine, subspace_overlap
from small_runs import model_for


def gram(rows):
    made = Gram()
    made.update(rows)
    return made.result()


def measured(rng, *, heads=3, mlps=2, d_head=4, d_model=6, points=40):
    """Random measurements of prompts of three and of five tokens."""
    outputs = [rng.normal(size=(50, d_model)) @ rng.normal(size=(d_model, d_model)) for _ in range(mlps)]
    return Measured(
        (d_model, d_head),
        patterns={n: rng.dirichlet(np.ones(n), size=(heads, n)) for n in (5, 3)},
        mean_z={n: rng.normal(size=(heads, n, d_head)) for n in (5, 3)},
        mean_results={n: rng.normal(size=(heads, n, d_model)) for n in (5, 3)},
        mlp_vectors=np.stack([leading_directions(rows) for rows in outputs]),
        mlp_centred=tuple(gram(rows - rows.mean(axis=1, keepdims=True)) for rows in outputs),
        z=rng.normal(size=(points, heads, d_head)).astype(np.float32),
        mlp_points=rng.normal(size=(points, mlps, d_model)).astype(np.float32),
    )


@pytest.fixture
def sides():
    rng = np.random.default_rng(0)
    return measured(rng), measured(rng, heads=4, mlps=3)


def cosine(a, b):
    return a.ravel() @ b.ravel() / np.linalg.norm(a) / np.linalg.norm(b)


def each(teacher, student, function):
    """`function` of every pair of heads, given as dicts by length."""
    sizes = len(teacher[3]), len(student[3])
    return np.array(
        [
            [
                function({n: teacher[n][t] for n in teacher}, {n: student[n][s] for n in student})
                for s in range(sizes[1])
            ]
            for t in range(sizes[0])
        ]
    )


def whole_cosine(a, b):
    return cosine(np.concatenate([a[n].ravel() for n in (3, 5)]), np.concatenate([b[n].ravel() for n in (3, 5)]))


def row_cosines(a, b):
    return np.mean([cosine(x, y) for n in (3, 5) for x, y in zip(a[n], b[n], strict=True)])


@pytest.mark.parametrize(
    "head, field, function, name",
    [
        ("pattern", "patterns", whole_cosine, "cosine of mean attention patterns"),
        ("pattern-rows", "patterns", row_cosines, "cosine of mean attention patterns, row by row"),
        ("z", "mean_z", whole_cosine, "cosine of mean z"),
        ("result", "mean_results", whole_cosine, "cosine of mean z W_O"),
    ],
)
def test_heads(sides, head, field, function, name):
    found = pair_similarity(*sides, measures=Measures(head=head))
    np.testing.assert_allclose(found.head, each(*(getattr(s, field) for s in sides), function), atol=1e-12)
    assert found.head_measure == name
    assert found.is_paper == (head == "pattern")
    assert found.typed.head is found.head
    assert found.typed.mlp is found.mlp


def debiased(x, y):
    pairs = [[cka(x[:, t], y[:, s], debiased=True) for s in range(y.shape[1])] for t in range(x.shape[1])]
    return np.clip(pairs, 0, 1)


def test_cka_is_debiased_and_never_below_zero(sides):
    found = pair_similarity(*sides, measures=Measures("cka", "cka"))
    np.testing.assert_allclose(found.head, debiased(sides[0].z, sides[1].z), atol=1e-9)
    np.testing.assert_allclose(found.mlp, debiased(sides[0].mlp_points, sides[1].mlp_points), atol=1e-9)
    assert (found.head_measure, found.mlp_measure) == ("debiased linear CKA of z", "debiased linear CKA of MLP outputs")
    assert min(found.head.min(), found.mlp.min()) == 0
    assert not found.is_paper


def test_mlps_of_equal_width_by_eigenvectors(sides):
    found = pair_similarity(*sides, measures=Measures(), others=True)
    vectors = [side.mlp_vectors for side in sides]
    np.testing.assert_allclose(found.mlp, rank_cosine(*vectors), atol=1e-12)
    assert found.mlp_measure == "mean |cos| of three leading covariance eigenvectors (DC Eq. 6)"
    overlap = subspace_overlap(*vectors)
    np.testing.assert_allclose(found.others["mlp subspace overlap"], overlap, atol=1e-12)
    np.testing.assert_array_equal(found.others["mlp eigenvectors"], found.mlp)
    np.testing.assert_allclose(found.others["head cka"], debiased(sides[0].z, sides[1].z), atol=1e-9)
    assert sorted(found.others) == ["head cka", "mlp cka", "mlp eigenvectors", "mlp subspace overlap"]
    assert not np.allclose(found.mlp, found.others["mlp cka"])


def test_mlps_of_unequal_width_by_cka():
    rng = np.random.default_rng(1)
    sides = measured(rng), measured(rng, d_model=9, d_head=2)
    found = pair_similarity(*sides, measures=Measures(), others=True)
    np.testing.assert_allclose(found.mlp, debiased(sides[0].mlp_points, sides[1].mlp_points), atol=1e-9)
    assert found.mlp_measure == "debiased linear CKA of MLP outputs"
    assert sorted(found.others) == ["head cka", "mlp cka"]
    assert not found.is_paper
    with pytest.raises(ValueError, match="the MLP similarity 'eigenvectors' .* needs models of equal width"):
        pair_similarity(*sides, measures=Measures(mlp="eigenvectors"))


@pytest.mark.parametrize(
    "widths, options, what",
    [
        (((8, 4), (6, 4)), {"measures": Measures(mlp="eigenvectors")}, "the MLP similarity 'eigenvectors' .Eq. 6."),
        (((8, 4), (6, 4)), {"measures": Measures(head="result")}, "the head similarity 'result'"),
        (((8, 4), (8, 2)), {"measures": Measures(head="z")}, "the head similarity 'z'"),
        (((8, 4), (6, 4)), {"measures": Measures(), "notebook": True}, "the preset of the released notebooks"),
    ],
)
def test_measures_that_need_equal_widths_are_refused_without_them(widths, options, what):
    (a, b), (c, d) = widths
    message = (
        f"{what} needs models of equal width, and these have d_model {a} and {c}, d_head {b} and {d}: use the head"
    )
    with pytest.raises(ValueError, match=message):
        check_widths(*widths, **options)
    check_widths(widths[0], widths[0], **options)


@pytest.mark.parametrize("head", ["pattern", "pattern-rows", "cka"])
def test_other_measures_take_any_widths(head):
    check_widths((8, 4), (6, 2), measures=Measures(head))
    check_widths((8, 4), (6, 4), measures=Measures("z"))
    check_widths((8, 4), (8, 2), measures=Measures("result", "eigenvectors"), notebook=True)


@pytest.mark.parametrize(
    "options, what", [({"head": "ov"}, "head similarity 'ov'"), ({"mlp": "z"}, "mlp similarity 'z'")]
)
def test_unknown_measures_are_named(options, what):
    with pytest.raises(ValueError, match=f"unknown {what}: choose one of .*cka"):
        Measures(**options)


def test_components_that_never_vary_are_like_nothing(sides):
    still = sides[1].mlp_points.copy()
    still[:, 1] = 1.0
    vectors = sides[1].mlp_vectors.copy()
    vectors[0] = leading_directions(np.ones((50, 6)), undefined="zero")
    student = Measured(**vars(sides[1]) | {"mlp_points": still, "mlp_vectors": vectors})
    found = pair_similarity(sides[0], student, measures=Measures(), others=True)
    assert found.others["mlp cka"][:, 1].tolist() == [0.0, 0.0]
    assert found.mlp[:, 0].tolist() == [0.0, 0.0]
    assert found.mlp[:, 1:].min() > 0


@pytest.mark.parametrize("measures", [Measures(h, m) for h in ("pattern", "z", "cka") for m in ("auto", "cka")])
def test_only_what_scores_is_made(sides, measures, monkeypatch):
    whole = pair_similarity(*sides, measures=measures, others=True)
    calls = []

    def counted(name):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, **more: calls.append(name) or real(*args, **more))

    for name in ("cka_matrix", "rank_cosine", "subspace_overlap"):
        counted(name)
    fields = fields_for(measures, models=(model_for("gpt2"), model_for("gpt2")))
    bare = [Measured(side.widths, **{name: getattr(side, name) for name in fields}) for side in sides]
    found = pair_similarity(*bare, measures=measures)
    wanted = ["cka_matrix"] * (measures.head == "cka") + ["cka_matrix" if measures.mlp == "cka" else "rank_cosine"]
    assert calls == wanted
    assert found.others == {}
    np.testing.assert_array_equal(found.head, whole.head)
    np.testing.assert_array_equal(found.mlp, whole.mlp)
    assert (found.head_measure, found.mlp_measure) == (whole.head_measure, whole.mlp_measure)
    assert found.is_paper == whole.is_paper


def test_what_a_pass_must_keep():
    wide, narrow = model_for("gpt2"), model_for("gpt2", n_embd=24, n_head=3)
    assert fields_for(Measures(), models=(wide, wide)) == {"patterns", "mlp_vectors"}
    assert fields_for(Measures(), models=(wide, narrow)) == {"patterns", "mlp_points"}
    assert fields_for(Measures("result", "cka"), models=(wide, wide)) == {"mean_results", "mlp_points"}
    others = {"patterns", "z", "mlp_points"}
    assert fields_for(Measures(), models=(wide, wide), others=True) == others | {"mlp_vectors"}
    assert fields_for(Measures(), models=(wide, narrow), others=True) == others
    assert {"patterns", "mlp_centred"} == NOTEBOOK_FIELDS


def test_what_the_notebooks_compare(sides):
    found = notebook_similarity(*sides)
    np.testing.assert_allclose(found.head, each(sides[0].patterns, sides[1].patterns, row_cosines), atol=1e-12)
    moments = [np.stack([g.second_moment for g in side.mlp_centred]) for side in sides]
    np.testing.assert_array_equal(found.mlp, notebook_mlp_similarity(*moments))
