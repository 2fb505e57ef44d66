"""Similarities: closed forms, what they do not change under, and what they do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ortho_group

from circuitkd.comparison.similarity import (
    eigenvector_similarity,
    flattened_cosine,
    leading_directions,
    leading_eigenvectors,
    rank_cosine,
    row_cosine,
    subspace_overlap,
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def covariances(n=2, d=6, seed=0):
    x = normal(n, 40, d, seed=seed) * np.arange(1, d + 1)
    return np.stack([np.cov(one, rowvar=False) for one in x])


def rotation(d, seed=0):
    return ortho_group.rvs(d, random_state=seed)


def test_flattened_cosine_by_hand():
    teacher, student = [[1.0, 0.0, 1.0], [0.0, 2.0, 0.0]], [[1.0, 0.0, 0.0], [3.0, 4.0, 0.0]]
    expected = [[1 / np.sqrt(2), 3 / (5 * np.sqrt(2))], [0.0, 0.8]]
    np.testing.assert_allclose(flattened_cosine(teacher, student), expected, atol=1e-15)


def test_row_cosine_by_hand():
    teacher = [[[1.0, 0.0], [1.0, 0.0]]]
    student = [[[2.0, 0.0], [0.0, 5.0]], [[1.0, 1.0], [1.0, 0.0]]]
    np.testing.assert_allclose(row_cosine(teacher, student), [[0.5, (1 / np.sqrt(2) + 1) / 2]])


def test_rows_weigh_equally_by_row_and_by_size_when_flattened():
    teacher, student = np.array([[[10.0, 0.0], [1.0, 0.0]]]), np.array([[[10.0, 0.0], [0.0, 1.0]]])
    assert row_cosine(teacher, student)[0, 0] == pytest.approx(0.5)
    assert flattened_cosine(teacher.reshape(1, -1), student.reshape(1, -1))[0, 0] == pytest.approx(100 / 101)


def test_zero_padding_along_keys_changes_no_row_cosine():
    x, y = np.abs(normal(3, 4, 5)), np.abs(normal(2, 4, 5, seed=1))
    wide = [np.pad(one, ((0, 0), (0, 0), (0, 3))) for one in (x, y)]
    np.testing.assert_allclose(row_cosine(*wide), row_cosine(x, y), atol=1e-15)


@given(st.floats(1e-6, 1e6), st.integers(0, 1000))
def test_cosines_ignore_scale_and_are_symmetric(scale, seed):
    x, y = normal(3, 4, 5, seed=seed), normal(2, 4, 5, seed=seed + 1)
    for cosine, shape in ((row_cosine, (4, 5)), (flattened_cosine, (20,))):
        a, b = x.reshape(3, *shape), y.reshape(2, *shape)
        values = cosine(a, b)
        np.testing.assert_allclose(cosine(scale * a, b), values, atol=1e-12)
        np.testing.assert_allclose(cosine(b, a), values.T, atol=1e-15)
        assert (np.abs(values) <= 1).all()


def test_float32_input_is_compared_in_float64():
    x = normal(4, 30).astype(np.float32)
    values = flattened_cosine(x, x)
    assert values.dtype == np.float64
    np.testing.assert_allclose(np.diag(values), 1.0, atol=1e-15)


def test_tiny_patterns_do_not_underflow():
    x = normal(2, 6)
    np.testing.assert_allclose(flattened_cosine(1e-200 * x, x), flattened_cosine(x, x), atol=1e-15)


def test_leading_eigenvectors_of_a_diagonal():
    vectors = leading_eigenvectors(np.diag([2.0, 5.0, 1.0, 3.0]), 3)
    np.testing.assert_allclose(vectors, np.eye(4)[:, [1, 3, 0]], atol=1e-15)


def test_leading_eigenvectors_of_a_stack_with_a_fixed_sign():
    stack = covariances(4).reshape(2, 2, 6, 6)
    vectors = leading_eigenvectors(stack)
    assert vectors.shape == (2, 2, 6, 3)
    for i in range(2):
        for j in range(2):
            values, all_vectors = np.linalg.eigh(stack[i, j])
            expected = all_vectors[:, ::-1][:, :3]
            np.testing.assert_allclose(np.abs(vectors[i, j]), np.abs(expected), atol=1e-8)
            assert (np.take_along_axis(vectors[i, j], np.abs(vectors[i, j]).argmax(0)[None], 0) > 0).all()
            np.testing.assert_allclose(stack[i, j] @ vectors[i, j], vectors[i, j] * values[:-4:-1], rtol=1e-8)


@pytest.mark.parametrize("rows, width", [(5, 40), (39, 40), (40, 40), (200, 40), (4, 3)])
def test_directions_are_the_eigenvectors_of_the_covariance(rows, width):
    x = normal(rows, width) * np.arange(1, width + 1) + 100
    found = leading_directions(x)
    np.testing.assert_allclose(found, leading_eigenvectors(np.cov(x.T, bias=True)), atol=1e-9)
    np.testing.assert_allclose(found.T @ found, np.eye(3), atol=1e-12)


def test_directions_of_close_eigenvalues():
    # Orthogonal centred columns with given norms: their eigenvectors are the axes.
    columns = np.linalg.qr(np.c_[np.ones(30), normal(30, 4)])[0][:, 1:]
    x = np.zeros((30, 50))
    x[:, [7, 3, 9, 1]] = columns * np.sqrt([1.0, 1 + 1e-4, 1 + 2e-4, 0.1])
    np.testing.assert_allclose(leading_directions(x), np.eye(50)[:, [9, 3, 7]], atol=1e-9)
    equal = x / np.where((x**2).sum(0) > 0.5, np.sqrt((x**2).sum(0)), 1.0)
    basis = leading_directions(equal)
    np.testing.assert_allclose(basis @ basis.T, np.diag(np.isin(np.arange(50), [9, 3, 7]) * 1.0), atol=1e-9)


@pytest.mark.parametrize("rows", [1, 2, 3, 10])
def test_directions_beyond_the_rank_are_undefined(rows):
    """One row fewer than there are, and never more than two."""
    x = normal(rows, 2) @ normal(2, 40, seed=1)
    rank = min(rows - 1, 2)
    with pytest.raises(ValueError, match=f"covariance 0 has rank {rank} among its k=3 leading directions"):
        leading_directions(x)
    found = leading_directions(x, undefined="zero")
    assert found.shape == (40, 3)
    np.testing.assert_allclose((found**2).sum(axis=0), np.arange(3) < rank, atol=1e-12)
    wanted = leading_eigenvectors(np.cov(x.T, bias=True).reshape(40, 40), undefined="zero")
    np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_directions_need_three_columns():
    with pytest.raises(ValueError, match=r"rows must be at least k=3 wide, got shape \(9, 2\); lower k"):
        leading_directions(normal(9, 2))


def test_eigenvector_similarity_by_hand():
    # Leading axes of the teacher: 0, 1, 2. The student keeps rank 1, turns rank 2 by 60 degrees out of its
    # axis and has at rank 3 a direction orthogonal to axis 2.
    low, high = 0.5, np.sqrt(0.75)
    basis = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, low, 0.0, high], [0.0, high, 0.0, -low]])
    student = (basis.T * [9.0, 4.0, 1.0]) @ basis
    teacher = np.diag([9.0, 4.0, 1.0, 0.0])
    expected = (1.0 + 0.5 + 0.0) / 3
    assert eigenvector_similarity(teacher[None], student[None])[0, 0] == pytest.approx(expected)


def test_a_model_resembles_itself():
    stack = covariances(3)
    np.testing.assert_allclose(np.diag(eigenvector_similarity(stack, stack)), 1.0, atol=1e-12)
    vectors = leading_eigenvectors(stack)
    np.testing.assert_allclose(np.diag(subspace_overlap(vectors, vectors)), 1.0, atol=1e-12)


def test_a_shared_rotation_changes_nothing():
    teacher, student, q = covariances(2), covariances(3, seed=1), rotation(6)
    turned = [q @ stack @ q.T for stack in (teacher, student)]
    np.testing.assert_allclose(eigenvector_similarity(*turned), eigenvector_similarity(teacher, student), atol=1e-9)


def test_rotating_one_models_basis_drops_eq_6():
    # The logits of a model do not change when its residual basis is rotated; this similarity does.
    stack, q = covariances(2, d=12), rotation(12)
    turned = q @ stack @ q.T
    assert np.diag(eigenvector_similarity(stack, turned)).max() < 0.6
    overlaps = subspace_overlap(leading_eigenvectors(stack), leading_eigenvectors(turned))
    assert np.diag(overlaps).max() < 0.6


def test_close_eigenvalues_flip_the_order_but_not_the_subspace():
    teacher = np.diag([1.0, 0.999, 0.9, 0.1])[None]
    student = np.diag([0.999, 1.0, 0.9, 0.1])[None]
    assert eigenvector_similarity(teacher, student)[0, 0] == pytest.approx(1 / 3)
    assert subspace_overlap(leading_eigenvectors(teacher), leading_eigenvectors(student))[0, 0] == pytest.approx(1.0)


def test_overlap_is_the_mean_squared_cosine_of_principal_angles():
    teacher, student = np.eye(4)[None, :, :2], np.eye(4)[None, :, 1:3]
    assert subspace_overlap(teacher, student)[0, 0] == pytest.approx(0.5)
    x, y = leading_eigenvectors(covariances(1)), leading_eigenvectors(covariances(1, seed=3))
    cosines = np.linalg.svd(x[0].T @ y[0], compute_uv=False)
    assert subspace_overlap(x, y)[0, 0] == pytest.approx((cosines**2).mean())


def test_signs_of_eigenvectors_do_not_matter():
    x, y = leading_eigenvectors(covariances(2)), leading_eigenvectors(covariances(2, seed=1))
    np.testing.assert_allclose(rank_cosine(-x, y), rank_cosine(x, y))
    np.testing.assert_allclose(subspace_overlap(x * [1, -1, 1], y), subspace_overlap(x, y))


def test_k_is_free():
    stack = covariances(1)
    first = leading_eigenvectors(stack, 1)[0, :, 0]
    other = leading_eigenvectors(covariances(1, seed=1), 1)[0, :, 0]
    assert eigenvector_similarity(stack, covariances(1, seed=1), k=1)[0, 0] == pytest.approx(abs(first @ other))


def test_components_without_direction_are_an_error_or_unlike_everything():
    patterns = np.array([[0.0, 0.0], [1.0, 1.0]])
    with pytest.raises(
        ValueError, match="teacher component 0 has an all-zero pattern; drop it or pass undefined='zero'"
    ):
        flattened_cosine(patterns, patterns[1:])
    np.testing.assert_allclose(flattened_cosine(patterns, patterns[1:], undefined="zero"), [[0.0], [1.0]])
    with pytest.raises(ValueError, match="student component 0 has an all-zero pattern"):
        row_cosine(patterns[1:, None], patterns[:, None])
    stack = np.stack([np.zeros((4, 4)), np.diag([3.0, 2.0, 1.0, 0.5])])
    with pytest.raises(ValueError, match=r"covariance 0 has rank 0 among its k=3 leading directions.*more tokens"):
        eigenvector_similarity(stack, stack)
    np.testing.assert_allclose(eigenvector_similarity(stack, stack, undefined="zero"), [[0, 0], [0, 1]])


def test_a_rank_below_k_counts_missing_directions_as_unlike():
    low = np.diag([3.0, 2.0, 0.0, 0.0])[None]
    with pytest.raises(ValueError, match="covariance 0 has rank 2 among its k=3"):
        leading_eigenvectors(low)
    assert eigenvector_similarity(low, low, undefined="zero")[0, 0] == pytest.approx(2 / 3)


def test_unequal_sizes_say_what_to_use_instead():
    with pytest.raises(ValueError, match=r"widths differ \(4 and 3\).*: use cka \(debiased\)"):
        eigenvector_similarity(np.eye(4)[None], np.eye(3)[None])
    with pytest.raises(ValueError, match=r"widths differ \(4 and 3\)"):
        subspace_overlap(np.ones((1, 4, 2)), np.ones((1, 3, 2)))
    with pytest.raises(ValueError, match=r"eigenvectors k differ \(2 and 1\)"):
        rank_cosine(np.ones((1, 4, 2)), np.ones((1, 4, 1)))
    with pytest.raises(ValueError, match=r"pattern entries differ \(3 and 2\); use the same prompts and positions"):
        flattened_cosine(np.ones((1, 3)), np.ones((1, 2)))
    with pytest.raises(ValueError, match=r"pattern rows and keys differ .*cka of the activations"):
        row_cosine(np.ones((1, 3, 2)), np.ones((1, 2, 2)))


def test_what_is_not_a_covariance_is_refused():
    with pytest.raises(ValueError, match=r"square and at least k=3 wide, got shape \(2, 2\); lower k"):
        leading_eigenvectors(np.eye(2))
    with pytest.raises(ValueError, match=r"square and at least k=1 wide, got shape \(2, 3\)"):
        leading_eigenvectors(np.ones((2, 3)), 1)
    with pytest.raises(ValueError, match=r"covariance is not symmetric; pass Gram\.result\(\)\.covariance"):
        leading_eigenvectors([[1.0, 2.0], [0.0, 1.0]], 1)
    with pytest.raises(ValueError, match="teacher covariances holds NaN"):
        eigenvector_similarity(np.full((1, 3, 3), np.nan), np.eye(3)[None])


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="unknown undefined 'skip': choose one of error, zero"):
        flattened_cosine([[1.0]], [[1.0]], undefined="skip")
