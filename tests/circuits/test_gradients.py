"""Gradients block by block against autograd through the whole of Hugging Face's forward."""

from __future__ import annotations

import pytest
import torch

from circuitkd.circuits.base_run import Setup
from circuitkd.circuits.gradients import final_gradient, layer_gradients
from circuitkd.components import Component
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.execution import Execution
from circuitkd.models import blocks
from circuitkd.models.hooks import hooked_logits
from circuits_cases import model_for, task_for
from edge_oracle import Oracle


def run_for(name):
    model = model_for(name)
    bound = task_for(1).bind(model)
    setup = Setup(model, bound, ablation=Ablation("zero"), execution=Execution())
    with torch.no_grad():
        return setup.run(range(len(bound))), Oracle(model, bound, "zero")


@pytest.mark.parametrize("name", ["gpt2", "bert", "llama", "neox-parallel"])
def test_of_what_heads_and_mlps_write(name):
    run, oracle = run_for(name)
    model = run.model
    added = {}

    def add(component):
        added[component] = torch.zeros(1, dtype=model.dtype, requires_grad=True)
        return lambda old: old + added.setdefault((component, "at"), torch.zeros_like(old).requires_grad_())

    edits = {c: add(c) for c in model.components}
    total = oracle.metric(hooked_logits(model, oracle.tokens, oracle.lengths, edits)).sum()
    for per_receiver in (False, True):
        for found in layer_gradients(run, final_gradient(run), per_receiver=per_receiver):
            (of_mlp,) = torch.autograd.grad(total, added[Component("mlp", found.layer), "at"], retain_graph=True)
            heads = [added[Component("head", found.layer, head), "at"] for head in range(model.n_heads)]
            of_z = torch.cat(torch.autograd.grad(total, heads, retain_graph=True), dim=-1)
            assert torch.allclose(found.mlp_out, of_mlp, rtol=0, atol=1e-10)
            assert torch.allclose(found.z, of_z, rtol=0, atol=1e-10)
            assert (found.attention is not None) == per_receiver


@pytest.mark.parametrize("name", ["gpt2", "qwen3", "neox-parallel"])
def test_receivers_share_out_the_gradient_of_the_stream(name):
    """What reaches the stream entering a block: through every receiver in it, and past it."""
    run, _ = run_for(name)
    model, layer = run.model, 1
    entering = run.states[layer].resid_pre.detach().requires_grad_()
    (expected,) = torch.autograd.grad(run.rest(layer, entering).sum(), entering)
    later, here = list(layer_gradients(run, final_gradient(run), per_receiver=True))[:2]
    assert (later.layer, here.layer) == (2, 1)
    total = here.attention.sum(0) + here.mlp + here.mlp_out
    assert here.attention.shape[0] == model.n_heads + 2 * model.n_kv_heads
    assert torch.allclose(total, expected, rtol=0, atol=1e-10)


def test_of_the_last_stream_at_the_answer():
    run, _ = run_for("bert")
    last = blocks.at_positions(run.states[-1].resid_post, run.positions)
    found, step = final_gradient(run), torch.zeros_like(last)
    step[:, 0, 3] = 1e-6
    with torch.no_grad():
        slope = (run.values(last + step) - run.values(last - step))[0] / 2e-6
    assert torch.allclose(found[:, 0, 3], slope, rtol=0, atol=1e-7)
