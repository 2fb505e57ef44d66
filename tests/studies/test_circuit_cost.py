"""Counted pruning, path patching and attribution equal real ones."""

import numpy as np
import pytest

from circuitkd.circuits import kept
from circuitkd.circuits.attribution import edge_attribution
from circuitkd.circuits.discovery import DiscoveryOptions
from circuitkd.circuits.edge_circuit import EdgeScorer
from circuitkd.circuits.edges import edge_effects
from circuitkd.circuits.evaluation import evaluate, evaluate_edges
from circuitkd.circuits.graph import all_edges
from circuitkd.circuits.kept import KeptScorer
from circuitkd.circuits.pruning import prune
from circuitkd.components import Component
from circuitkd.studies import circuit_cost as cost
from plan_sides import counted, side_of
from small_runs import model_for, task_of
from tiny_models import SPECS

FEW = ("gpt2", "bert", "llama", "neox-parallel")
FORCED = 0.999


def pruned(model, scorer, threshold):
    """A real course of pruning; random models have no logit difference to keep, so scores are made up."""
    rng = np.random.default_rng(0)
    worth = {c: float(w) for c, w in zip(model.components, rng.random(len(model.components)), strict=True)}

    def score(components):
        scorer.values(components)
        return sum(worth[c] for c in components)

    return prune(model.n_layers, model.n_heads, score, threshold=threshold)


@pytest.mark.parametrize("threshold", [0.05, 0.4, FORCED])
@pytest.mark.parametrize("name", FEW)
def test_pruning_is_counted_exactly(name, threshold):
    model, task = model_for(name), task_of(n=2)
    scorer, side = KeptScorer(model, task), side_of(model, task)
    found = pruned(model, scorer, threshold)
    work = cost.pruning_work(side, [(d.component, d.removed) for d in found.history])
    assert work.flops / side.sizes.full_forward == pytest.approx(scorer.forward_equivalents, rel=1e-12)


def test_a_thinned_cache_is_followed_too(monkeypatch):
    model, task = model_for("gpt2", n_layer=5), task_of("ioi", n=2)
    for module in (kept, cost):
        monkeypatch.setattr(module, "CACHE_BYTES", 1.0 * 2 * len(task.bind(model).examples[0].clean) * 32 * 8)
    scorer, side = KeptScorer(model, task), side_of(model, task)
    assert scorer._stride > 2
    found = pruned(model, scorer, 0.4)
    work = cost.pruning_work(side, [(d.component, d.removed) for d in found.history])
    assert work.flops / side.sizes.full_forward == pytest.approx(scorer.forward_equivalents, rel=1e-12)


def test_the_assumed_course_keeps_its_share():
    side = side_of(model_for("gpt2", n_layer=5), task_of("ioi", n=2))
    found = cost.found_circuit(side, kept=0.4, passes=3)
    assert found.heads.sum() + found.mlps.sum() == round(0.4 * 25)
    decisions = list(cost._decisions(side, 0.4, 3))
    assert len(decisions) == 25 + 11 + 10
    assert sum(removed for _, removed in decisions) == 15
    assert [removed for _, removed in decisions[-10:]] == [False] * 10


def test_evaluation_agrees_with_the_scorer():
    model, task = model_for("gpt2", n_layer=5), task_of("ioi", n=2)
    side, options = side_of(model, task), DiscoveryOptions()
    found = cost.found_circuit(side, kept=0.4, passes=2)
    scorer = KeptScorer(model, task)
    heads = [Component("head", i, h) for i in range(5) for h in range(int(found.heads[i]))]
    circuit = heads + [Component("mlp", i) for i in range(5) if found.mlps[i]]
    scorer.values(scorer.everything)
    for component in circuit:  # as pruning does
        scorer.values(frozenset(circuit) - {component})
    scorer.values(circuit)
    before = scorer.forward_equivalents
    evaluate(scorer, circuit, subsets=options.subsets, random_circuits=options.random_circuits)
    real = scorer.forward_equivalents - before
    assert found.evaluation(options).flops / side.sizes.full_forward == pytest.approx(real, rel=0.1)


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
    work = cost.attribution_cost(side, steps=steps).low
    assert work.flops / side.sizes.full_forward == pytest.approx(real, rel=1e-12)


def test_evaluating_edges_is_bounded_by_a_stream_for_each_receiver():
    model, task = model_for("gpt2"), task_of("ioi", n=2)
    heads, mlps = np.full(3, 4.0), np.ones(3)
    planned = cost.edge_evaluation_work(side_of(model, task), heads=heads, mlps=mlps).flops
    real = counted(lambda: evaluate_edges(EdgeScorer(model, task), all_edges(model)[::3]))
    assert 0.5 * planned < real <= 1.05 * planned


def test_the_steps_of_a_circuit():
    side = side_of(model_for("gpt2", n_layer=5), task_of("ioi", n=2))
    parts = list(cost.circuit_cost(side, DiscoveryOptions()))
    assert [p.name for p in parts] == ["node pruning", "node evaluation", "path patching"]
    assert all(p.cost.low.flops <= p.cost.high.flops for p in parts)
    twice = list(cost.circuit_cost(side, DiscoveryOptions(edge_share=None), times=2))
    assert [p.name for p in twice] == ["node pruning", "node evaluation"]
    assert twice[0].cost.low.flops == 2 * parts[0].cost.low.flops
