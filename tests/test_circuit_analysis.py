"""Circuits of two models under their comparison: the planted ones are found whole, and only of the right pair."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from circuitkd.analysis import CompareOptions, compare
from circuitkd.artifacts import load_run, save_run
from circuitkd.circuit_analysis import CircuitComparison, Curves, compare_circuits, faithfulness_curves
from circuitkd.circuits.discovery import DiscoveryOptions
from circuitkd.interventions.ablations import Ablation
from circuitkd.tasks.base import Task
from planted import induction, successor

QUICK = DiscoveryOptions(subsets=1, random_circuits=1)


@pytest.fixture(scope="module")
def planted():
    return successor(n=8)


@pytest.fixture(scope="module")
def comparison(planted):
    return compare(planted.model, planted.model, planted.task, options=CompareOptions(random_null=False))


@pytest.fixture(scope="module")
def found(planted, comparison):
    return compare_circuits(comparison, (planted.model, planted.model), task=planted.task, options=QUICK)


def swapped(task: Task) -> Task:
    """Answer and distractor exchanged: what the model cannot do."""
    return replace(task, examples=tuple(replace(e, answer=e.distractor, distractor=e.answer) for e in task.examples))


def test_a_model_against_itself_shares_its_whole_circuit(planted, found):
    for circuit in (found.teacher, found.student):
        assert set(circuit.components) == planted.components
        assert set(circuit.edges) == planted.edges
    assert (found.overlap.node_overlap, found.overlap.edge_overlap) == (1.0, 1.0)
    assert found.overlap.expected_node_overlap == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert found.missing == ()
    assert found.teacher.evaluation.random[0].components != ()


def test_it_is_saved_and_loaded(found, comparison, tmp_path):
    assert CircuitComparison.load(found.save(tmp_path / "circuits")) == found
    assert found.belongs_to(comparison)
    other = replace(comparison, manifest=comparison.manifest | {"ablation": "zero"})
    assert not found.belongs_to(other)


def test_a_model_that_cannot_do_the_task_has_no_circuit(planted):
    task = swapped(planted.task)
    made = compare(planted.model, planted.model, task, options=CompareOptions(random_null=False))
    found = compare_circuits(made, (planted.model, planted.model), task=task, options=QUICK)
    assert (found.teacher, found.student, found.overlap) == (None, None, None)
    assert len(found.missing) == 2
    assert "cannot do planted-successor: its mean logit difference is -" in found.missing[0]
    forced = replace(QUICK, force=True)
    assert compare_circuits(made, (planted.model,) * 2, task=task, options=forced).overlap.node_overlap == 1.0


def test_other_models_examples_and_ablations_are_refused_before_any_run(planted, comparison):
    other = induction(n=8)
    with pytest.raises(ValueError, match="the student's circuit belongs to planted-induction"):
        compare_circuits(comparison, (planted.model, other.model), task=planted.task)
    fewer = replace(planted.task, examples=planted.task.examples[:4])
    with pytest.raises(
        ValueError, match="the comparison was made with another data_sha256: give the task and ablation"
    ):
        compare_circuits(comparison, (planted.model, planted.model), task=fewer)
    pair = (planted.model, planted.model)
    with pytest.raises(ValueError, match="made with another ablation"):
        compare_circuits(comparison, pair, task=planted.task, ablation=Ablation("zero"))


def test_curves_rise_from_nothing_to_the_model(planted, tmp_path):
    found = faithfulness_curves(planted.model, planted.task)
    for curve in (found.nodes, found.edges):
        assert curve.faithfulness[0] == pytest.approx(0.0, abs=1e-9)
        assert curve.faithfulness[-1] == pytest.approx(1.0)
        assert np.trapezoid(curve.faithfulness, curve.fractions) == pytest.approx(curve.cpr)
    # half of six nodes holds the two that count, a tenth of the 46 edges the three
    assert found.nodes.faithfulness[8] == pytest.approx(1.0, abs=0.05)
    assert found.edges.faithfulness[6] == pytest.approx(1.0, abs=0.05)
    assert found.nodes.ranking.startswith("mean effect under ablation, exact")
    assert found.edges.ranking.startswith("mean effect by eap-ig")
    save_run(tmp_path, found, manifest={})
    assert load_run(tmp_path, Curves) == found
