"""Counted pruning equals real pruning."""

import numpy as np
import pytest

from circuitkd.circuits import kept
from circuitkd.circuits.discovery import DiscoveryOptions
from circuitkd.circuits.evaluation import evaluate
from circuitkd.circuits.kept import KeptScorer
from circuitkd.circuits.pruning import prune
from circuitkd.components import Component
from circuitkd.studies import circuit_cost as cost
from plan_sides import side_of
from small_runs import model_for, task_of

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


def test_the_steps_of_a_circuit():
    side = side_of(model_for("gpt2", n_layer=5), task_of("ioi", n=2))
    parts = list(cost.circuit_cost(side, DiscoveryOptions()))
    assert [p.name for p in parts] == ["node pruning", "node evaluation", "path patching"]
    assert all(p.cost.low.flops < p.cost.expected.flops < p.cost.high.flops for p in parts)
    twice = list(cost.circuit_cost(side, DiscoveryOptions(edge_share=None), times=2))
    assert [p.name for p in twice] == ["node pruning", "node evaluation"]
    assert twice[0].cost.low.flops == 2 * parts[0].cost.low.flops


def test_what_is_drawn_twice_runs_once():
    assert cost.distinct(10, 1e9) == 10
    assert cost.distinct(10, 1) == 1
    assert cost.distinct(2, 4) == pytest.approx(2 - 1 / 4)
    assert cost.distinct(5, 0) == cost.distinct(0, 7) == 0
