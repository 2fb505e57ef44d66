"""Counted path patching, attribution and groups of heads equal real ones."""

import numpy as np
import pytest

from circuitkd.circuits.attribution import edge_attribution
from circuitkd.circuits.edge_circuit import EdgeScorer
from circuitkd.circuits.edges import edge_effects
from circuitkd.circuits.entity_groups import GroupOptions, entity_groups
from circuitkd.circuits.evaluation import evaluate_edges
from circuitkd.circuits.graph import all_edges
from circuitkd.components import Component
from circuitkd.interventions.ablations import Ablation
from circuitkd.studies import edge_cost as cost
from circuitkd.tasks.registry import load_task
from plan_sides import counted, side_of
from small_runs import model_for, task_of
from tiny_models import SPECS

FEW = ("gpt2", "bert", "llama", "neox-parallel")


@pytest.mark.parametrize("name", SPECS)
def test_path_patching_of_all_edges_is_counted_exactly(name):
    model, task = model_for(name, **({} if name == "distilbert" else {"num_hidden_layers": 2})), task_of("ioi", n=2)
    side = side_of(model, task)
    work = cost.edge_work(side, heads=[model.n_heads] * model.n_layers, mlps=[1] * model.n_layers)
    real = edge_effects(model, task).forward_equivalents
    assert work.flops / side.sizes.full_forward == pytest.approx(real, rel=1e-12)


def test_path_patching_inside_a_circuit_is_counted_exactly():
    model, task = model_for("gpt2"), task_of(n=2)
    heads, mlps = [1, 0, 3], [1, 1, 0]
    circuit = [Component("head", i, h) for i, n in enumerate(heads) for h in range(n)]
    circuit += [Component("mlp", i) for i, n in enumerate(mlps) if n]
    side = side_of(model, task)
    real = edge_effects(model, task, circuit=circuit).forward_equivalents
    work = cost.edge_work(side, heads=heads, mlps=mlps)
    assert work.flops / side.sizes.full_forward == pytest.approx(real, rel=1e-12)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", FEW)
def test_attribution_is_counted_exactly(name, steps):
    model, task = model_for(name), task_of(n=2)
    side = side_of(model, task)
    real = edge_attribution(model, task, method="eap-ig", steps=steps).forward_equivalents
    work = cost.attribution_cost(side, steps=steps).expected
    assert work.flops / side.sizes.full_forward == pytest.approx(real, rel=1e-12)


def test_evaluating_edges_is_bounded_by_a_stream_for_each_receiver():
    model, task = model_for("gpt2"), task_of("ioi", n=2)
    heads, mlps = np.full(3, 4.0), np.ones(3)
    planned = cost.edge_evaluation_work(side_of(model, task), heads=heads, mlps=mlps).flops
    real = counted(lambda: evaluate_edges(EdgeScorer(model, task), all_edges(model)[::3]))
    assert 0.5 * planned < real <= 1.05 * planned


def test_groups_of_one_head_are_counted_exactly():
    model, task, found = model_for("llama", num_hidden_layers=6), load_task("entity-tracking", 3), []
    real = counted(lambda: found.append(entity_groups(model, task, options=GroupOptions(most=1))))
    receivers = [group.heads[0].layer for group in found[0].groups[:3]]
    assert receivers[0] > 0
    side = side_of(model, task, ablation=Ablation("resample"))
    assert cost.groups_work(side, receivers).flops == real
    assert cost.groups_cost(side).expected == cost.groups_work(side, [4, 3, 2])
