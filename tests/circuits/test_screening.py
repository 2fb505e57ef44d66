"""A screened sweep: exact where it was estimated to matter, marked elsewhere, and honest about what it missed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from circuitkd.circuits import screening
from circuitkd.circuits.attribution import node_attribution
from circuitkd.circuits.screening import screened_sweep
from circuitkd.interventions.sweep import sweep
from circuits_cases import model_for, task_for


@pytest.fixture(scope="module")
def case():
    model = model_for("gpt2")
    bound = task_for().bind(model)
    return model, bound, sweep(model, bound), node_attribution(model, bound, method="eap-ig")


def test_the_largest_estimates_are_measured_and_the_rest_marked(case):
    model, bound, full, estimate = case
    found = screened_sweep(model, bound, top=4)
    chosen = np.argsort(-np.abs(estimate.effects).mean(1))[:4]
    assert found.sweep.components == model.components
    assert found.sweep.estimated == tuple(c for i, c in enumerate(model.components) if i not in chosen)
    for i, component in enumerate(model.components):
        expected = full if i in chosen else estimate
        np.testing.assert_allclose(found.sweep.effect_of(component), expected.effect_of(component), atol=1e-11)
    np.testing.assert_allclose(found.sweep.base, full.base, atol=1e-12)
    np.testing.assert_array_equal(found.sweep.accuracy, full.accuracy)
    assert found.checked.items == 4
    worst = np.abs(estimate.drops - full.drops)[chosen].max() / np.abs(full.drops[chosen]).max()
    assert found.sweep.warnings == (
        *full.warnings,
        "11 of 15 components are estimated by attribution, not ablated; on the 4 that were ablated the estimates are off "
        f"by up to {100 * worst:.0f} % of the largest effect",
    )


def test_cost_and_recall_are_measured(case):
    model, bound, full, estimate = case
    for top in (1, 4, 15):
        found = screened_sweep(model, bound, top=top)
        sizes = np.abs(full.drops), np.abs(estimate.effects).mean(1)
        best, measured = (set(np.argsort(-size)[:top]) for size in sizes)
        assert found.recall(full) == len(best & measured) / top
        exact = sweep(model, bound, components=[model.components[i] for i in sorted(measured)])
        assert found.sweep.forward_equivalents == pytest.approx(
            exact.forward_equivalents + estimate.forward_equivalents
        )
    assert found.recall(full) == 1.0
    assert found.sweep.estimated == ()
    assert found.sweep.warnings == full.warnings


def test_estimates_of_either_sign_do_not_cancel(case, monkeypatch):
    model, bound, _, estimate = case
    effects = np.zeros_like(estimate.effects)
    effects[3], effects[5, :2], effects[5, 2:] = 0.1, 1.0, -1.0  # a mean of 0
    monkeypatch.setattr(screening, "node_attribution", lambda *a, **k: replace(estimate, effects=effects))
    found = screened_sweep(model, bound, top=1).sweep
    assert set(model.components) - set(found.estimated) == {model.components[5]}


def test_the_method_is_the_callers(case):
    model, bound, _, _ = case
    found = screened_sweep(model, bound, top=2, method="eap").estimate
    np.testing.assert_array_equal(found.effects, node_attribution(model, bound).effects)


def test_refuses_what_has_no_meaning(case):
    model, bound, _, estimate = case
    for top in (0, 16):
        with pytest.raises(ValueError, match=f"screen must keep between 1 and 15 components of tiny-gpt2, not {top}"):
            screened_sweep(model, bound, top=top)
    found = screened_sweep(model, bound, top=1)
    for other in (estimate, sweep(model, bound, components=model.components[:2])):
        with pytest.raises(ValueError, match="recall needs a full exact sweep of the same components"):
            found.recall(other)
