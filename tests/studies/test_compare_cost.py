"""Counted sweeps equal real ones; the rest of a comparison agrees with torch's counter."""

from dataclasses import replace

import pytest
import torch

from circuitkd.analysis import CompareOptions, compare, noise_curve
from circuitkd.interventions.ablations import KINDS, Ablation
from circuitkd.interventions.execution import Execution
from circuitkd.interventions.sweep import sweep
from circuitkd.studies.compare_cost import (
    COPY,
    EIGEN,
    FLOAT64,
    KEEP,
    WEIGHT_DRAW,
    compare_cost,
    noise_cost,
    scored_fields,
    scored_student,
    similarity_cost,
    similarity_pass,
    sweep_cost,
    untrained_cost,
)
from circuitkd.studies.hardware import DEVICES
from circuitkd.studies.workload import Cost, Place, Side, Work
from plan_sides import counted, shape_of, side_of
from small_runs import model_for, task_of
from tiny_models import SPECS


def forwards(cost, side):
    return cost.low.flops / side.sizes.full_forward


@pytest.mark.parametrize("name", SPECS)
def test_a_sweep_counts_what_its_result_reports(name):
    model, task = model_for(name), task_of(n=3)
    side = side_of(model, task)
    assert forwards(sweep_cost(side), side) == pytest.approx(sweep(model, task).forward_equivalents, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [None, 2, 5])
def test_it_does_so_for_every_ablation_and_batch_size(kind, batch_size):
    model, task, ablation = model_for("llama"), task_of(n=4), Ablation(kind)
    side = side_of(model, task, ablation=ablation, batch_size=batch_size)
    real = sweep(model, task, ablation=ablation, execution=Execution(batch_size))
    assert forwards(sweep_cost(side), side) == pytest.approx(real.forward_equivalents, rel=1e-12)


def test_blocks_started_by_a_sweep_of_one_batch():
    # Three layers, 5 components in one group: references, the walk, then 3 + 2 + 1 blocks.
    model, task = model_for("gpt2"), task_of("ioi", n=3)
    assert sweep_cost(side_of(model, task)).low.blocks == 3 + 3 + 6


def test_a_comparison_agrees_with_torch():
    teacher, student, task = model_for("gpt2"), model_for("gpt2", seed=1, n_layer=2), task_of(n=4)
    sides = side_of(teacher, task), side_of(student, task)
    parts = list(compare_cost(*sides, options=CompareOptions()))
    real = counted(lambda: compare(teacher, student, task))
    # The example patterns that the page shows are two prompts more.
    assert sum(p.cost.low.flops + p.cost.low.exact_flops for p in parts) == pytest.approx(real, rel=0.1)
    without = list(compare_cost(*sides, options=CompareOptions(random_null=False)))
    assert [p.name for p in parts][:-1] == [p.name for p in without]


def test_the_noise_experiment_agrees_with_torch():
    teacher, student, task = model_for("bert"), model_for("bert", seed=1, num_hidden_layers=2), task_of(n=3)
    parts = noise_cost(side_of(teacher, task), side_of(student, task), draws=2)
    real = counted(lambda: noise_curve(teacher, student, task, stds=(0.0, 1.0), seeds=(0,)))
    assert sum(p.cost.low.flops + p.cost.low.exact_flops for p in parts) == pytest.approx(real, rel=0.02)


def tokens_of(side):
    return sum(len(e.clean) for e in side.task.examples)


def test_directions_of_few_tokens_cost_no_covariance():
    few, many = (side_of(model_for("gpt2"), task_of("ioi", n=n)) for n in (2, 20))
    assert tokens_of(few) == 30 < 32 < tokens_of(many)
    found = [similarity_pass(side, {"mlp_vectors"}) for side in (few, many)]
    assert found[0].low.host_flops == 3 * EIGEN * 30**3
    assert found[0].low.exact_flops == 3 * 2 * 30**2 * 32
    assert found[0].host == (3 * few.bytes_each + 2 * FLOAT64) * 30 * 32
    assert found[1].low.host_flops == 3 * (2 * tokens_of(many) * 32**2 + EIGEN * 32**3)
    assert (found[1].low.exact_flops, found[1].host) == (0, 6 * FLOAT64 * 32**2)


def test_what_is_not_kept_costs_nothing():
    side = side_of(model_for("gpt2"), task_of("ioi", n=2))
    bare = similarity_pass(side, ())
    assert bare.low == side.walk()
    points = similarity_pass(side, {"z", "mlp_points"})
    assert points.host == 4 * 30 * 3 * 64
    assert points.low.host_flops == points.low.exact_flops == 0
    assert points.low.host_seconds == 2 * KEEP * 2 * 3
    assert similarity_pass(side, {"patterns"}).low.flops > bare.low.flops
    centred = similarity_pass(side, {"mlp_centred"})
    assert (centred.low.host_flops, centred.host) == (3 * 2 * 30 * 32**2, 4 * 3 * FLOAT64 * 32**2)


def test_cka_by_hand():
    task = task_of("ioi", n=2)
    teacher, student = side_of(model_for("gpt2"), task), side_of(model_for("gpt2", n_layer=2), task)
    heads = 30 * 8 * 8 * (12 * 8 + 12 + 8)  # by products of features: 30^2 (12 * 8 + 8 * 8 + 12 * 8) is more
    mlps = 30**2 * (3 * 32 + 2 * 32 + 3 * 2)  # by rows
    cost = similarity_cost(teacher, student, fields={"z", "mlp_points"})
    assert cost.low.exact_flops == 2 * (heads + mlps)
    assert cost.host == 4 * 30 * (3 + 2) * 64
    assert similarity_cost(teacher, student, fields={"z"}).low.exact_flops == 2 * heads
    assert similarity_cost(teacher, student, fields={"patterns", "mlp_vectors"}) == Cost()
    assert cost.low.host_seconds == 0
    away = [replace(side, place=Place(on_cpu=False, free=1e9)) for side in (teacher, student)]
    copied = similarity_cost(*away, fields={"z", "mlp_points"}).low.host_seconds
    assert copied == pytest.approx(COPY * 30 * (3 + 2) * 64 * 3)  # one tile: for means, norms and the tile


def test_only_a_comparison_makes_more_than_what_scores():
    task = task_of("ioi", n=3)
    wide, narrow = side_of(model_for("gpt2"), task), side_of(model_for("gpt2", n_embd=24, n_head=3), task)
    assert scored_fields(wide, wide) == {"patterns", "mlp_vectors"}
    assert scored_fields(wide, narrow) == {"patterns", "mlp_points"}
    alike = {p.name: p.cost.low.exact_flops for p in compare_cost(wide, wide, options=CompareOptions())}
    directions = similarity_pass(wide, {"mlp_vectors"}).low.exact_flops
    assert alike["similarities, statistics"] > 0
    assert alike["untrained student"] == directions
    assert [p.cost.low.exact_flops for p in noise_cost(wide, wide, draws=7)] == [directions, 7 * directions]
    # Of unequal width MLPs are scored by CKA, and no directions are made.
    parts = list(compare_cost(wide, narrow, options=CompareOptions()))
    assert all(p.cost.low.host_flops == 0 for p in parts)
    assert parts[-1].cost.low.exact_flops == similarity_cost(wide, narrow, fields={"mlp_points"}).low.exact_flops > 0


@pytest.mark.parametrize("on_cpu", [True, False])
def test_an_untrained_student_is_drawn_on_the_host(on_cpu):
    shape, task = shape_of(model_for("gpt2")), task_of("ioi", n=3)
    side = Side(shape, task.bind(shape, aligned=True), Ablation(), Place(on_cpu=on_cpu, free=1e9))
    cost, scored = untrained_cost(side, side), scored_student(side, side)
    assert cost.low.host_seconds == pytest.approx(scored.low.host_seconds + WEIGHT_DRAW * side.model.parameter_count)
    assert cost.device == side.weights + scored.device
    assert cost.host == (scored.host if on_cpu else max(side.weights, scored.host))
    swept = untrained_cost(side, side, swept=True)
    assert swept.low.flops == cost.low.flops + sweep_cost(side).low.flops
    assert swept.device == side.weights + max(sweep_cost(side).device, scored.device)


def test_more_memory_means_larger_batches_and_as_much_work():
    task, shape = task_of(n=6), shape_of(model_for("gpt2"))
    bound = task.bind(shape, aligned=True)
    small, large = (Side(shape, bound, Ablation(), Place(on_cpu=False, free=free)) for free in (1e6, 1e9))
    assert len(small.batches) > len(large.batches) == 1
    assert sweep_cost(small).device < sweep_cost(large).device
    assert sweep_cost(small).low.blocks > sweep_cost(large).low.blocks
    assert sweep_cost(small).low.flops == pytest.approx(sweep_cost(large).low.flops, rel=0.3)


def test_float64_products_are_timed_by_the_device_they_are_made_on():
    shape = shape_of(model_for("gpt2", torch.float32))
    assert DEVICES["h200"].seconds(Work(exact_flops=0.6 * 67e12), shape) == pytest.approx(1.0)
    assert DEVICES["l4"].seconds(Work(exact_flops=0.6 * 0.47e12), shape) == pytest.approx(1.0)
