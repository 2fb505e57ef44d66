"""Seconds from work, names, and what is measured of this machine."""

import itertools

import pytest
import torch

from circuitkd.models import blocks, flops
from circuitkd.studies import hardware
from circuitkd.studies.hardware import DEVICES, UTILISATION, Hardware, MeasuredBlock, known, this_machine
from circuitkd.studies.workload import Work
from plan_sides import shape_of
from tiny_models import tiny


@pytest.fixture(scope="module")
def shape():
    return shape_of(tiny("gpt2"))


def test_seconds_by_hand(shape):
    device = Hardware("one", {"float32": 1e12}, 1e9, "", start=0.5, host=1e9)
    work = Work(flops=6e11, blocks=3, host_flops=2e9, host_seconds=0.25, starts=2)
    assert device.seconds(work, shape) == pytest.approx(6e11 / (1e12 * UTILISATION["float32"]) + 1.5 + 1 + 2 + 0.25)


def test_what_was_measured_goes_first(shape):
    measured = {("GPT2LMHeadModel torch.float32", 32): MeasuredBlock((1e6, 1e9), (0.1, 1.1))}
    device = Hardware("this-machine", {}, 1e9, "", is_cpu=True, measured=measured, pace=2.0)
    assert device.seconds(Work(flops=2e9, blocks=2, starts=3, host_seconds=0.5), shape) == pytest.approx(3.5)


def test_a_measured_block_between_and_beyond_its_sizes():
    block = MeasuredBlock((1.0, 3.0, 9.0), (0.5, 1.0, 4.0))
    assert block.rate == 9 / 4
    assert block.of(8.0, runs=4) == pytest.approx(4 * 0.75)
    assert block.of(0.1, runs=1) == 0.5
    assert block.of(18.0, runs=1) == pytest.approx(8.0)
    assert block.of(9.0, runs=0) == pytest.approx(4.0)
    assert block.of(0.0, runs=0) == 0.0


def test_a_dtype_without_a_figure(shape):
    wide = shape_of(tiny("gpt2", torch.float64))
    with pytest.raises(ValueError, match="l4: no figure for float64; plan with one of float32, bfloat16, float16"):
        DEVICES["l4"].seconds(Work(flops=1), wide)


@pytest.mark.parametrize("name", ["h200", "H200", "A100_80GB", "rtx 4090", "this-machine"])
def test_names(name):
    assert known(name) in hardware.NAMES


def test_unknown_names():
    with pytest.raises(ValueError, match="unknown hardware 'h20': did you mean 'h200'"):
        known("h20")
    with pytest.raises(ValueError, match="unknown hardware 'abacus': known are h200, h100"):
        known("abacus")


def test_every_device_is_faster_in_half_precision():
    for device in DEVICES.values():
        assert device.rate("bfloat16") > device.rate("float32") > 1e12
        assert 10e9 < device.memory < 1e12


@pytest.mark.parametrize("name", ["gpt2", "bert", "roberta", "distilbert", "qwen2", "neox-parallel"])
def test_blocks_of_the_models_own_class(name):
    model = shape_of(tiny(name))
    block = hardware._few_blocks(model)
    assert (block.n_layers, block.d_model, block.vocab_size) == (model.n_layers, 32, 512)
    assert block.architecture == model.architecture
    resid, context = blocks.embed(block, torch.ones(1, 4, dtype=torch.long), torch.tensor([4]))
    assert torch.isfinite(blocks.block(block, 0, resid, context)).all()


def test_wide_models_are_timed_by_a_block_of_the_widest(monkeypatch):
    monkeypatch.setattr(hardware, "WIDEST", 16)
    assert hardware._few_blocks(shape_of(tiny("llama"))).d_model == 16


def test_wide_models_need_one_block_alone(monkeypatch):
    monkeypatch.setattr(hardware, "SMALL_WIDTH", 32)
    assert hardware._few_blocks(shape_of(tiny("llama"))).n_layers == 1


def test_measuring_is_what_the_clock_says(monkeypatch, shape):
    monkeypatch.setattr(hardware, "_seconds", lambda model, clock: [0.2, 0.3, 0.25, 1.0, 4.0])
    monkeypatch.setattr(hardware, "_host_rate", lambda clock: 7.0)
    monkeypatch.setattr(hardware, "_pace", lambda clock: 0.8)
    found = this_machine([shape, shape])
    (block,) = found.measured.values()
    assert block.seconds == (0.2, 0.3, 0.3, 1.0, 4.0)
    sizes = [flops.block_flops(hardware._few_blocks(shape), rows, pos) for rows, pos in hardware.SHAPES]
    assert list(block.flops) == sizes == sorted(sizes)
    assert found.measured.keys() == {("GPT2LMHeadModel torch.float32", 32)}
    assert (found.is_cpu, found.host, found.pace) == (True, 7.0, 0.8)
    assert found.memory > found.program > 1e7


def test_seconds_are_of_one_block(monkeypatch, shape):
    monkeypatch.setattr(hardware, "ENOUGH", 0.0)
    ticks = itertools.count()
    assert hardware._seconds(hardware._few_blocks(shape), lambda: next(ticks)) == [1 / shape.n_layers] * 5


def test_the_median_of_enough_runs_in_turn(monkeypatch):
    done = []
    ticks = itertools.accumulate([0.0, *([0.1] * 2000)])
    found = hardware._medians([lambda: done.append("a"), lambda: done.append("b")], lambda: next(ticks))
    assert found == pytest.approx([0.1, 0.1])
    assert done[: 3 * hardware.TURN] == ["a"] * hardware.TURN + ["b"] * hardware.TURN + ["a"] * hardware.TURN


def test_the_pace_is_that_of_a_loop(monkeypatch):
    ticks = itertools.count()
    assert hardware._pace(lambda: next(ticks)) == pytest.approx(1 / hardware.REFERENCE)


def test_the_host_is_timed_by_a_product():
    assert hardware._host_rate(iter(range(100000)).__next__) == pytest.approx(2 * 512**3)
