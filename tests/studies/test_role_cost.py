"""The counted parts of `describe_roles` agree with torch's counter."""

from dataclasses import replace

import pytest

from circuitkd.analysis import CompareOptions, compare
from circuitkd.circuits.kept import KeptScorer
from circuitkd.components import Component
from circuitkd.roles.activation_patching import activation_patching
from circuitkd.roles.brittleness import backup_heads
from circuitkd.roles.describe import describe_roles
from circuitkd.roles.equal_length import equal_length as real_equal_length
from circuitkd.roles.head_probes import probe_heads
from circuitkd.roles.probes import probe
from circuitkd.roles.suffix_runs import run_pair
from circuitkd.studies import role_cost as cost
from circuitkd.studies.circuit_cost import KeptRuns
from circuitkd.tasks.registry import load_task
from plan_sides import counted, side_of
from small_runs import model_for, task_of


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "neox-parallel"])
def test_activation_patching_is_counted_exactly(name):
    model, task = model_for(name), task_of(n=2)
    real = counted(lambda: activation_patching(model, task))
    assert cost.patching_cost(side_of(model, task)).low.flops == real


def test_late_positions_alone():
    model, task = model_for("llama"), task_of("ioi", n=2).bind(model_for("llama"))
    pair = run_pair(model, task, rows=(0, 1))
    resid = pair.corrupted.states[0].resid_post[:, 4:]
    n_pos = pair.corrupted.context.n_pos
    planned = cost.late_flops(model, 1, rows=2, n_pos=n_pos, start=4)
    assert planned == counted(lambda: pair.corrupted.rest(1, resid, start=4))


def test_probes_are_counted_exactly():
    model, task = model_for("gpt2"), load_task("numeral-sequence", 20)
    real = counted(lambda: probe(model, task))
    assert cost.probe_cost(side_of(model, task)).low.flops == real


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_probes_of_heads_are_counted_exactly(name):
    model, task = model_for(name), load_task("numeral-sequence", 20)
    real = counted(lambda: probe_heads(model, task))
    assert cost.head_probe_cost(side_of(model, task)).low.flops == real


def test_too_few_prompts_have_no_probes():
    side = side_of(model_for("gpt2"), load_task("ioi", 3))
    assert cost.probe_cost(side).low.flops == cost.head_probe_cost(side).low.flops == 0


@pytest.mark.parametrize("paired", [True, False])
def test_the_most_frequent_length(paired):
    model, task = model_for("gpt2"), task_of("numeral-sequence", "ioi", "greater-than", n=3)
    bound = task.bind(model)
    real = real_equal_length(model, bound, paired=paired).task
    assert cost.equal_length(bound, paired=paired).examples == real.examples


def test_unpaired_prompts_are_not_patched():
    model, task = model_for("gpt2"), load_task("ioi", 3)
    side = side_of(model, task)
    apart = tuple(replace(e, corrupted=(*e.corrupted, 5)) for e in side.task.examples)
    unpaired = side.on(replace(side.task, examples=apart))
    assert cost.patching_cost(unpaired).low.flops == 0


def test_backups_of_one_head(monkeypatch):
    model, task = model_for("gpt2", n_layer=4), task_of("ioi", n=2)
    scorer, side = KeptScorer(model, task), side_of(model, task)
    scorer.values(scorer.everything)
    before = scorer.forward_equivalents
    backup_heads(scorer, Component("head", 2, 0))
    real = scorer.forward_equivalents - before
    monkeypatch.setattr(cost, "BEST", (1, 1, 6))
    one = cost.brittleness_cost(side).low.flops - cost.found_circuits(side)[0].pruning.flops
    runs = KeptRuns(side)
    curve = float((runs.costs.sum(axis=1)[::-1].cumsum()[::-1] + runs.readout).mean()) * 20
    assert (one - curve) / side.sizes.full_forward == pytest.approx(real, rel=0.1)


def test_all_of_it_lies_between_its_ends():
    teacher, student = model_for("gpt2"), model_for("gpt2", seed=1, n_layer=2)
    task = load_task("numeral-sequence", 10)
    comparison = compare(teacher, student, task, options=CompareOptions(random_null=False))
    real = counted(lambda: describe_roles(teacher, student, task, comparison=comparison))
    parts = list(cost.roles_cost(side_of(teacher, task), side_of(student, task)))
    # Random models have no circuit, and no head with a role, so no backups.
    low = sum(p.cost.low.flops for p in parts if p.name != "circuit, backups")
    high = sum(p.cost.high.flops for p in parts)
    assert 0.9 * low <= real <= 1.1 * high
    assert high < 2 * low
