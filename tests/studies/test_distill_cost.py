"""The counted experiment agrees with torch's counter."""

import warnings

import pytest
import torch

from circuitkd.distill.conditions import (
    ALL_CE,
    BEYOND,
    CIRCUIT_CE,
    MAPPED,
    PAPER,
    UNTRAINED,
    ExperimentOptions,
    Training,
)
from circuitkd.distill.experiment import run_experiment
from circuitkd.interventions.execution import Execution
from circuitkd.studies.distill_cost import distill_cost
from circuitkd.tasks.registry import load_task
from plan_sides import counted, side_of
from small_runs import model_for


def options(*conditions, steps=4, seeds=(0,), **more):
    training = Training(steps=steps, batch_size=8)
    return ExperimentOptions(training=training, seeds=seeds, conditions=conditions, random_circuits=2, **more)


@pytest.fixture(scope="module")
def setup():
    task = load_task("ioi", 40)
    models = [model_for("llama", torch.float32, seed, num_hidden_layers=n) for seed, n in ((0, 3), (1, 2))]
    return models, task, [side_of(model, task) for model in models]


@pytest.mark.parametrize("condition", [UNTRAINED, ALL_CE, CIRCUIT_CE, MAPPED, BEYOND[0]], ids=lambda c: c.name)
def test_a_condition(setup, condition, tmp_path, capsys):
    (teacher, student), task, sides = setup
    chosen = options(condition)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        real = counted(
            lambda: run_experiment(teacher, student, task, options=chosen, execution=Execution(folder=tmp_path))
        )
    parts = list(distill_cost(*sides, options=chosen))
    low, high = (sum(getattr(p.cost, end).flops for p in parts) for end in ("low", "high"))
    assert 0.9 * low <= real <= 1.1 * high
    assert high <= 1.2 * low


def test_training_grows_with_steps_seeds_and_conditions(setup):
    _, _, sides = setup

    def training(chosen):
        return next(p.cost for p in distill_cost(*sides, options=chosen) if p.name == "training")

    one = training(options(ALL_CE))
    assert training(options(ALL_CE, steps=8)).low.flops == pytest.approx(2 * one.low.flops)
    assert training(options(ALL_CE, seeds=(0, 1, 2))).low.flops == pytest.approx(3 * one.low.flops)
    assert training(options(UNTRAINED)).low.flops == 0
    circuit = training(options(CIRCUIT_CE))
    assert circuit.low.flops < circuit.high.flops < one.low.flops
    assert circuit.device < one.device


def test_named_heads_need_no_sweep(setup):
    _, _, sides = setup
    named, chosen = (
        list(distill_cost(*sides, options=options(CIRCUIT_CE, heads=heads)))[1].cost.low.flops
        for heads in (("L0H0", "L1H1"), 2)
    )
    assert named < 0.5 * chosen


def test_similarity_needs_no_sweep_of_every_head(setup):
    _, _, sides = setup
    by_impact, by_similarity = (
        next(distill_cost(*sides, options=options(*PAPER, mapping=mapping))).cost.low.flops
        for mapping in ("impact", "similarity")
    )
    assert by_similarity < by_impact
