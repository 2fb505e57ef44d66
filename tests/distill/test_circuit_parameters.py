"""Exactly the slices of the chosen heads change, on every architecture and under every way to train."""

from __future__ import annotations

import copy

import pytest
import torch

from circuitkd.components import Component
from circuitkd.distill.circuit_parameters import CircuitParameters, Keeper
from circuitkd.models import blocks
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.models.hooks import hooked_logits
from tiny_models import TINY, padded_batch, tiny

HEADS = tuple(Component.parse(h) for h in ("L0H2", "L1H0", "L1H3"))


def loss_of(model, seed=0):
    tokens, lengths = padded_batch(model, seed=seed)
    logits = hooked_logits(model, tokens, lengths)
    return logits[:, 1].float().log_softmax(-1)[:, 4].mean()


def trained(model, heads=HEADS, *, steps=3, optimizer=None, clip=1.0, accumulate=1):
    """A copy of the model after training its heads, with the optimiser."""
    changed = CircuitModel.of(copy.deepcopy(model.hf), model.tokenizer)
    keeper = Keeper(changed.hf, CircuitParameters.of(changed, heads))
    used = [p for p in changed.hf.parameters() if p.requires_grad]
    optimizer = (optimizer or (lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.3)))(used)
    for step in range(steps):
        for part in range(accumulate):
            loss_of(changed, accumulate * step + part).backward()
            keeper.mask_gradients()
        torch.nn.utils.clip_grad_norm_(used, clip)
        optimizer.step()
        keeper.restore(optimizer)
        optimizer.zero_grad()
    keeper.check()
    return changed, optimizer


def changed_entries(before, after):
    """Parameter name -> bool tensor, True where the bits differ."""
    ours, theirs = before.hf.state_dict(), after.hf.state_dict()
    found = {n: (bits(ours[n]) != bits(theirs[n])).any(-1) for n in ours}
    return {n: differ for n, differ in found.items() if differ.any()}


def bits(x):
    return x.contiguous().view(torch.uint8).reshape(*x.shape, -1)


def z_changes(model, other, layer):
    """Which heads' queries, keys, values and output maps differ, by recomputing them."""
    x = torch.randn(2, 5, model.d_model, dtype=model.dtype, generator=torch.Generator().manual_seed(1))
    context = blocks.make_context(model, torch.tensor([5, 5]), n_pos=5)
    parts = [blocks.qkv(m, layer, x, context) for m in (model, other)]
    differ = [(a != b).any(-1).any(-1).any(0) for a, b in zip(*parts, strict=True)]
    outputs = [blocks.output_matrices(m, layer) for m in (model, other)]
    return [*differ, (outputs[0] != outputs[1]).any(-1).any(-1)]


@pytest.mark.parametrize("name", sorted(TINY))
def test_exactly_the_heads_are_trained(name):
    model = TINY[name]()
    changed, _ = trained(model)
    parameters = CircuitParameters.of(model, HEADS)
    found = changed_entries(model, changed)
    assert {n: bool((found[n] & ~m).any()) for n, m in parameters.masks.items()} == dict.fromkeys(
        parameters.masks, False
    )
    assert set(found) == set(parameters.masks)
    per_group = model.n_heads // model.n_kv_heads
    for layer in range(model.n_layers):
        mine = [h.head for h in HEADS if h.layer == layer]
        q, k, v, o = z_changes(model, changed, layer)
        heads = [h in mine for h in range(model.n_heads)]
        groups = [g in {h // per_group for h in mine} for g in range(model.n_kv_heads)]
        assert q.tolist() == o.tolist() == heads and k.tolist() == v.tolist() == groups


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "neox-parallel"])
def test_their_number(name):
    model = TINY[name]()
    parameters = CircuitParameters.of(model, HEADS)
    d, width, biases = model.d_head, model.d_model, 1
    groups = {(h.layer, h.head // (model.n_heads // model.n_kv_heads)) for h in HEADS}
    assert parameters.trained == len(HEADS) * (2 * d * width + biases * d) + 2 * len(groups) * d * (width + biases)
    assert parameters.total == sum(p.numel() for p in model.hf.parameters())
    assert parameters.parameter_share == parameters.trained / parameters.total
    assert parameters.head_share == 3 / (model.n_layers * model.n_heads)


def test_heads_that_share_a_group_are_named():
    shared = CircuitParameters.of(TINY["llama"](), HEADS).shared_heads  # groups of two
    assert [str(h) for h in shared] == ["L0H3", "L1H1", "L1H2"]
    assert CircuitParameters.of(TINY["gpt2"](), HEADS).shared_heads == ()


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.1, foreach=True),
        lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.1, amsgrad=True, fused=True),
        lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=0.1),
    ],
    ids=["adamw", "fused", "sgd"],
)
def test_a_hundred_steps_with_decay_leave_everything_else_at_its_bits(optimizer):
    model = tiny("gpt2", n_layer=1)
    heads = HEADS[:1]
    changed, used = trained(model, heads, steps=100, optimizer=optimizer)
    parameters = CircuitParameters.of(model, heads)
    found = changed_entries(model, changed)
    for name, mask in parameters.masks.items():
        assert torch.equal(found[name], mask), name  # and every trained entry did move
    states = {id(p): state for p, state in used.state.items()}
    for name, mask in parameters.masks.items():
        for key, value in states[id(changed.hf.get_parameter(name))].items():
            if torch.is_tensor(value) and value.shape == mask.shape:
                assert not value[~mask].any() and value[mask].any(), (name, key)
    assert len(used.param_groups[0]["params"]) == len(parameters.masks)


def test_frozen_gradients_do_not_count_in_the_norm():
    model = tiny("gpt2")
    keeper = Keeper(model.hf, CircuitParameters.of(model, HEADS))
    loss_of(model).backward()
    keeper.mask_gradients()
    used = [p for p in model.hf.parameters() if p.requires_grad]
    norm = torch.nn.utils.clip_grad_norm_(used, float("inf"))
    masks = keeper.parameters.masks
    by_hand = sum(float(model.hf.get_parameter(n).grad[m].square().sum()) for n, m in masks.items()) ** 0.5
    assert float(norm) == pytest.approx(by_hand, rel=1e-5)


def test_infinite_gradients_of_frozen_entries_do_no_harm():
    model = tiny("gpt2")
    keeper = Keeper(model.hf, CircuitParameters.of(model, HEADS))
    name, mask = next(iter(keeper.parameters.masks.items()))
    model.hf.get_parameter(name).grad = torch.where(mask, 1.0, float("inf"))
    keeper.mask_gradients()
    assert torch.equal(model.hf.get_parameter(name).grad, mask.float())


def test_accumulated_gradients_are_those_of_one_pass():
    model = tiny("gpt2", torch.float64)
    twice, _ = trained(model, steps=1, accumulate=2, clip=1e9)
    heads = CircuitParameters.of(model, HEADS)
    other = CircuitModel.of(copy.deepcopy(model.hf), model.tokenizer)
    keeper = Keeper(other.hf, heads)
    (loss_of(other, 0) + loss_of(other, 1)).backward()
    keeper.mask_gradients()
    used = [p for p in other.hf.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(used, lr=1e-2, weight_decay=0.3)
    optimizer.step()
    keeper.restore(optimizer)
    for name, value in other.hf.state_dict().items():
        assert torch.allclose(value, twice.hf.state_dict()[name], rtol=0, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights(dtype):
    model = tiny("llama", dtype)
    changed, _ = trained(model, optimizer=lambda p: torch.optim.SGD(p, lr=1.0, weight_decay=0.5))
    masks = CircuitParameters.of(model, HEADS).masks
    found = changed_entries(model, changed)
    assert set(found) == set(masks) and not any((found[n] & ~masks[n]).any() for n in masks)


def test_a_changed_value_is_found():
    model = tiny("gpt2")
    keeper = Keeper(model.hf, CircuitParameters.of(model, HEADS))
    assert keeper.check().identical and keeper.check().values == keeper.parameters.total - keeper.parameters.trained
    weight = model.hf.get_input_embeddings().weight
    with torch.no_grad():
        weight[3, 4] = torch.nextafter(weight[3, 4], torch.tensor(9.0))
    with pytest.raises(
        ValueError, match="values outside the circuit have changed since the trainer was made: something"
    ):
        keeper.check()


def test_a_changed_entry_beside_a_slice_is_found_and_a_trained_one_is_not():
    model = tiny("gpt2")
    keeper = Keeper(model.hf, CircuitParameters.of(model, HEADS))
    name, mask = next(iter(keeper.parameters.masks.items()))
    with torch.no_grad():
        model.hf.get_parameter(name)[mask] += 1
    assert keeper.check().identical
    with torch.no_grad():
        model.hf.get_parameter(name)[~mask] *= -1
    with pytest.raises(ValueError, match="values outside the circuit have changed"):
        keeper.check()
    keeper.restore(torch.optim.SGD(model.hf.parameters()))
    assert keeper.check().identical


@pytest.mark.parametrize("heads", [(), (Component.parse("L3H0"),), (Component.parse("MLP0"),)])
def test_wrong_heads(heads):
    names = ", ".join(map(str, heads)) or "none"
    with pytest.raises(
        ValueError, match=f"the circuit's heads are {names}: give one or more of the 12 heads of tiny-gpt2"
    ):
        CircuitParameters.of(tiny("gpt2"), heads)
