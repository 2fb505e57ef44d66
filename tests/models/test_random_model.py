"""A freshly drawn model of the same shape."""

from __future__ import annotations

import copy

import pytest
import torch
from accelerate import dispatch_model

from circuitkd.models import random_model as module
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.models.hooks import hooked_logits
from circuitkd.models.random_model import randomly_initialised
from small_runs import model_for
from tiny_models import TINY, padded_batch


@pytest.mark.parametrize("name", sorted(TINY))
def test_same_shape_other_weights(name):
    model = model_for(name)
    fresh = randomly_initialised(model, seed=3)
    assert fresh.hf is not model.hf
    assert fresh.tokenizer is model.tokenizer
    assert fresh.name == f"{model.name} (random weights)"
    assert (fresh.components, fresh.dtype, fresh.device) == (model.components, model.dtype, model.device)
    assert fresh.parameter_count == model.parameter_count
    assert not fresh.hf.training
    for (key, old), new in zip(model.hf.named_parameters(), fresh.hf.parameters(), strict=True):
        assert old.shape == new.shape
        assert not torch.equal(old, new), key
    assert torch.isfinite(hooked_logits(fresh, *padded_batch(fresh))).all()


def test_matrices_are_drawn_as_the_class_draws_them():
    fresh = randomly_initialised(model_for("gpt2"))
    weight = fresh.hf.transformer.h[0].attn.c_attn.weight
    assert float(weight.detach().std()) == pytest.approx(fresh.hf.config.initializer_range, rel=0.1)


def test_the_seed_decides_and_nothing_else_is_touched():
    model = model_for("llama")
    before, state = model.hf.state_dict()["lm_head.weight"].clone(), torch.random.get_rng_state()
    one, again, other = (randomly_initialised(model, seed=s).hf.lm_head.weight for s in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(model.hf.lm_head.weight, before)
    fresh = randomly_initialised(model)
    fresh.hf.config.num_hidden_layers = 7
    assert model.hf.config.num_hidden_layers == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_drawn_in_the_models_dtype(dtype):
    """And what loading leaves in float32 stays so: rotary frequencies rounded to bfloat16 are other positions."""
    model = model_for("llama", dtype)
    fresh = randomly_initialised(model)
    assert {p.dtype for p in fresh.hf.parameters()} == {dtype}
    assert {b.dtype for b in fresh.hf.buffers()} == {torch.float32}
    assert torch.get_default_dtype() == torch.float32
    weight = fresh.hf.lm_head.weight.detach().double()
    assert float(weight.std()) == pytest.approx(fresh.hf.config.initializer_range, rel=0.05)


MAP = {"transformer": "cpu", "lm_head": "cpu"}


def spread(model):
    """A copy as accelerate places it by MAP."""
    hf = dispatch_model(copy.deepcopy(model.hf), device_map=MAP)
    return CircuitModel.of(hf, model.tokenizer, name=model.name)


def test_a_model_placed_by_a_map_gives_one_placed_by_it():
    model = model_for("gpt2", torch.float32)
    there = spread(model)
    assert there.hf.hf_device_map == MAP
    fresh, plain = randomly_initialised(there, seed=1), randomly_initialised(model, seed=1)
    assert fresh.hf.hf_device_map == MAP
    assert fresh.hf.lm_head.weight is fresh.hf.transformer.wte.weight
    for one, other in zip(fresh.hf.parameters(), plain.hf.parameters(), strict=True):
        assert torch.equal(one, other)
    batch = padded_batch(plain)
    assert torch.equal(hooked_logits(fresh, *batch), hooked_logits(plain, *batch))


def test_the_map_of_several_devices_is_handed_on(monkeypatch):
    """Accelerate does the spreading; there is one device here."""
    model = spread(model_for("gpt2", torch.float32))
    model.hf.hf_device_map = {"transformer": 0, "lm_head": 1}
    seen = []

    def dispatched(hf, device_map):
        seen.append((hf.device, hf.training, device_map))
        return hf

    monkeypatch.setattr(module, "dispatch_model", dispatched)
    fresh = randomly_initialised(model)
    assert seen == [(torch.device("cpu"), False, {"transformer": 0, "lm_head": 1})]
    assert isinstance(fresh, CircuitModel)
