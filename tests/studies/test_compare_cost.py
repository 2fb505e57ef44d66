"""Counted sweeps equal real ones; the rest of a comparison agrees with torch's counter."""

import pytest

from circuitkd.analysis import CompareOptions, compare, noise_curve
from circuitkd.interventions.ablations import KINDS, Ablation
from circuitkd.interventions.execution import Execution
from circuitkd.interventions.sweep import sweep
from circuitkd.studies.compare_cost import (
    EIGEN,
    FLOAT64,
    SMALL,
    WEIGHT_DRAW,
    compare_cost,
    noise_cost,
    similarity_cost,
    similarity_pass,
    sweep_cost,
    untrained_cost,
)
from circuitkd.studies.workload import Place, Side
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
    assert sum(p.cost.low.flops for p in parts) == pytest.approx(real, rel=0.1)
    without = list(compare_cost(*sides, options=CompareOptions(random_null=False)))
    assert [p.name for p in parts][:-1] == [p.name for p in without]


def test_the_noise_experiment_agrees_with_torch():
    teacher, student, task = model_for("bert"), model_for("bert", seed=1, num_hidden_layers=2), task_of(n=3)
    parts = noise_cost(side_of(teacher, task), side_of(student, task), draws=2)
    real = counted(lambda: noise_curve(teacher, student, task, stds=(0.0, 1.0), seeds=(0,)))
    assert sum(p.cost.low.flops for p in parts) == pytest.approx(real, rel=0.02)


def test_the_hosts_part_grows_with_the_width():
    task = task_of("ioi", n=3)
    side = side_of(model_for("gpt2"), task)
    tokens = sum(len(e.clean) for e in side.task.examples)
    cost = similarity_pass(side)
    assert cost.low.host_flops == 3 * 2 * 2 * tokens * 32**2
    assert cost.host == 4 * 3 * FLOAT64 * 32**2 + 4 * tokens * 3 * 64


def test_similarities_by_hand():
    task = task_of("ioi", n=3)
    teacher, student = side_of(model_for("gpt2"), task), side_of(model_for("gpt2", n_layer=2), task)
    tokens = sum(len(e.clean) for e in teacher.task.examples)
    heads = 2 * tokens * 8 * 8 * (12 * 8 + 12 + 8)
    mlps = 2 * tokens * 32 * 32 * (3 * 2 + 3 + 2) if tokens > 32 else 2 * tokens**2 * (5 * 32 + 6)
    expected = SMALL * (heads + mlps) + EIGEN * 5 * 32**3
    assert similarity_cost(teacher, student).low.host_flops == expected


def test_few_tokens_go_through_products_of_tokens():
    task = task_of("greater-than", n=1)
    side = side_of(model_for("gpt2"), task)
    tokens = len(side.task.examples[0].clean)
    assert tokens**2 > 8 * 8
    assert tokens < 32
    heads, mlps = 2 * tokens * 8 * 8 * (12 * 12 + 24), 2 * tokens**2 * (6 * 32 + 9)
    assert similarity_cost(side, side).low.host_flops == SMALL * (heads + mlps) + EIGEN * 6 * 32**3


def test_an_untrained_student_is_drawn_on_the_host():
    task = task_of("ioi", n=3)
    side = side_of(model_for("gpt2"), task)
    cost, count = untrained_cost(side, side), side.model.parameter_count
    others = similarity_pass(side) + similarity_cost(side, side)
    assert cost.low.host_seconds == pytest.approx(others.low.host_seconds + WEIGHT_DRAW * count)
    assert cost.host == max(4 * count, others.host)


def test_more_memory_means_larger_batches_and_as_much_work():
    task, shape = task_of(n=6), shape_of(model_for("gpt2"))
    bound = task.bind(shape, aligned=True)
    small, large = (Side(shape, bound, Ablation(), Place(on_cpu=False, free=free)) for free in (1e6, 1e9))
    assert len(small.batches) > len(large.batches) == 1
    assert sweep_cost(small).device < sweep_cost(large).device
    assert sweep_cost(small).low.blocks > sweep_cost(large).low.blocks
    assert sweep_cost(small).low.flops == pytest.approx(sweep_cost(large).low.flops, rel=0.3)
