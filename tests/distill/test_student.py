"""The training forward is Hugging Face's, ablation is by the batch mean, and estimated effects are derivatives."""

from __future__ import annotations

import pytest
import torch

from circuitkd.components import Component
from circuitkd.distill.data import answer_positions, collate, real_tokens, rows_of
from circuitkd.distill.student import batch_means, drawn_heads, head_effects, run_student
from circuitkd.models.hooks import edits, hooked_logits, record
from circuitkd.tasks.metrics import logit_difference
from distill_cases import pair, shared_pair
from tiny_models import TINY

HEADS = (Component.parse("L0H1"), Component.parse("L1H2"))


def batch_of(case, rows=(0, 5, 2)):
    found = rows_of(case.bound[1])
    return collate([found[i] for i in rows])


@pytest.mark.parametrize("name", sorted(TINY))
def test_logits_and_z_are_those_of_hugging_face(name):
    case = shared_pair(name)
    model, batch = case.student, batch_of(case)
    run = run_student(model, model.hf, batch=batch, with_z=True)
    with record(model) as seen:
        whole = hooked_logits(model, batch["input_ids"], batch["lengths"])
    at = torch.arange(3), answer_positions(batch)
    assert torch.allclose(run.logits, whole[at], atol=1e-5)
    assert set(run.z) == set(seen.z)
    assert all(torch.equal(run.z[layer][at], seen.z[layer][at]) for layer in run.z)
    assert run.logits.requires_grad and run.z[0].requires_grad
    assert run_student(model, model.hf, batch=batch).z == {}


def test_only_the_end_is_unembedded(monkeypatch):
    case = shared_pair("llama")
    batch, seen = batch_of(case, rows=(0, 1)), []
    head = case.student.hf.get_output_embeddings()
    plain = head.forward
    monkeypatch.setattr(head, "forward", lambda x: seen.append(x.shape) or plain(x))
    run_student(case.student, case.student.hf, batch=batch)
    assert seen[0][1] == 1


def test_ablated_heads_are_at_their_batch_mean():
    case = shared_pair("llama")
    batch = batch_of(case)
    run = run_student(case.student, case.student.hf, batch=batch, with_z=True, ablated=HEADS)
    plain = run_student(case.student, case.student.hf, batch=batch, with_z=True)
    shape = (case.student.n_heads, case.student.d_head)
    real = real_tokens(batch)
    for layer in (0, 1):
        z, before = run.z[layer].unflatten(-1, shape), plain.z[layer].unflatten(-1, shape)
        ablated = [h.head for h in HEADS if h.layer == layer]
        for head in ablated:
            assert torch.allclose(z[0, :, head], z[1, :, head])
            if layer == 0:
                expected = torch.stack([before[real[:, p], p, head].mean(0) for p in range(z.shape[1])])
                assert torch.allclose(z[0, :, head], expected, atol=1e-5)
        if layer == 0:
            others = [h for h in range(4) if h not in ablated]
            assert torch.equal(z[:, :, others], before[:, :, others])
    assert float((run.logits - plain.logits).detach().abs().max()) > 1e-3


def test_no_gradient_goes_through_an_ablated_head():
    case = pair("llama")
    run_student(case.student, case.student.hf, batch=batch_of(case), ablated=HEADS).logits.sum().backward()
    weight = case.student.hf.model.layers[0].self_attn.q_proj.weight
    rows = weight.grad.unflatten(0, (4, -1)).abs().sum((1, 2))
    assert rows[1] == 0 and rows[0] > 0


def test_drawn_heads():
    case = shared_pair("llama")
    assert drawn_heads(case.student, 0.0) == ()
    torch.manual_seed(0)
    draws = [drawn_heads(case.student, 0.25) for _ in range(200)]
    torch.manual_seed(0)
    assert draws[0] == drawn_heads(case.student, 0.25)
    assert sum(map(len, draws)) / (200 * 8) == pytest.approx(0.25, abs=0.04)
    assert len({h for d in draws for h in d}) == 8


def test_effects_are_the_derivative_of_ablation():
    """Moving a head a small step to its mean changes the logit difference as estimated."""
    case = shared_pair("llama")
    model, batch, step = case.student, batch_of(case), 1e-2
    run = run_student(model, model.hf, batch=batch, for_effects=True)
    found = head_effects(model, run, batch=batch)
    heads = [c for c in model.components if c.kind == "head"]
    assert found.shape == (len(heads),)
    means = batch_means(heads, batch)

    def metric(edited):
        with torch.no_grad(), edits(model, edited):
            logits = run_student(model, model.hf, batch=batch).logits.double()
        answers, distractors = batch["answers"], batch["distractors"]
        return float(logit_difference(logits.gather(1, answers), logits.gather(1, distractors)).mean())

    for index in (1, 6):
        head = heads[index]
        ends = [metric({head: lambda z, s=s, f=means[head]: z + s * (f(z) - z)}) for s in (step, -step)]
        assert float(found[index].detach()) == pytest.approx((ends[1] - ends[0]) / (2 * step), rel=0.02, abs=1e-3)


def test_effects_below_everything_that_is_trained():
    case = pair("gpt2")
    batch = batch_of(case)
    wanted = head_effects(
        case.student, run_student(case.student, case.student.hf, batch=batch, for_effects=True), batch=batch
    )
    for parameter in case.student.hf.parameters():
        parameter.requires_grad_(False)
    case.student.modules.blocks[1].out_projection.weight.requires_grad_()
    found = head_effects(
        case.student, run_student(case.student, case.student.hf, batch=batch, for_effects=True), batch=batch
    )
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-7) and found[:4].abs().min() > 0
