"""The counted experiment agrees with torch's counter."""

import warnings
from dataclasses import replace

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
    Grid,
    Training,
)
from circuitkd.distill.experiment import run_experiment
from circuitkd.distill.experiment_setup import default_heads
from circuitkd.interventions.execution import Execution
from circuitkd.models import flops
from circuitkd.studies.compare_cost import sweep_cost
from circuitkd.studies.distill_cost import distill_cost, own_circuit_cost, with_heads
from circuitkd.studies.edge_cost import groups_cost
from circuitkd.studies.settings import DistillSettings
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


def test_a_search_trains_every_candidate(setup):
    _, _, sides = setup
    searched = options(UNTRAINED, search=Grid(weights=(0.1, 1.0), points=("answer",), seeds=(100, 101, 102)))
    (found,) = (p.cost for p in distill_cost(*sides, options=searched) if p.name == "search")
    training = next(p.cost for p in distill_cost(*sides, options=options(MAPPED)) if p.name == "training")
    student = sides[1].on(replace(sides[1].task, examples=sides[1].task.examples[24:32]))
    answers = student.walk().flops + flops.unembed_flops(student.model, 8)
    assert found.expected.flops == pytest.approx(6 * (training.expected.flops + answers))


def test_a_study_measures_the_teachers_circuit_too(setup):
    _, _, sides = setup
    (part,) = own_circuit_cost(*sides, settings=DistillSettings())
    train = sides[0].on(replace(sides[0].task, examples=sides[0].task.examples[:24]))
    assert (part.name, part.side) == ("teacher's circuit", sides[0])
    assert part.cost.expected.flops > sweep_cost(train).expected.flops


def test_path_patching_takes_the_place_of_sweeps(setup):
    _, _, sides = setup
    by_groups = DistillSettings(circuit="path-patching")
    parts = list(own_circuit_cost(*sides, settings=by_groups))
    assert [(p.name, len(p.side.task)) for p in parts] == [
        ("path patching", 24),
        ("path patching", 24),
        ("teacher's circuit", 40),
    ]
    assert parts[0].cost == groups_cost(parts[0].side)
    (by_sweep,) = own_circuit_cost(*sides, settings=DistillSettings())
    assert parts[2].cost.expected.flops < by_sweep.cost.expected.flops
    chosen = with_heads(by_groups, sides[1]).heads
    assert chosen == sides[1].model.components[: default_heads(sides[1].model)]
    assert with_heads(DistillSettings(), sides[1]).heads is None
