"""The metric at the answer position."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from circuitkd.interventions.readout import PERFORMANCES, readout
from circuitkd.models import blocks
from small_runs import model_for, task_of
from tiny_models import TINY


@pytest.mark.parametrize("name", sorted(TINY))
def test_single_answers_are_differences_of_logits(name):
    model = model_for(name)
    examples = task_of().bind(model).examples
    resid = torch.randn(2, len(examples), model.d_model, dtype=model.dtype)
    with torch.inference_mode():
        logits = blocks.logits(model, resid)
        found = readout(examples).values(model, resid)
    wanted = [
        [float(logits[c, row, e.answers[0]] - logits[c, row, e.distractors[0]]) for row, e in enumerate(examples)]
        for c in range(2)
    ]
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-10)


def test_sets_are_logsumexps():
    model = model_for("gpt2")
    examples = task_of("greater-than", "ioi", n=2).bind(model).examples
    resid = torch.randn(1, len(examples), model.d_model, dtype=model.dtype)
    with torch.inference_mode():
        logits = blocks.logits(model, resid)[0]
        found = readout(examples).values(model, resid)[0]
    for row, example in enumerate(examples):
        odds = [float(logits[row, list(ids)].exp().sum()) for ids in (example.answers, example.distractors)]
        assert float(found[row]) == pytest.approx(np.log(odds[0] / odds[1]), abs=1e-9)


def test_only_the_tokens_that_occur_are_looked_at():
    examples = task_of("numeral-sequence", n=3).bind(model_for("gpt2")).examples
    target = readout(examples)
    asked = {t for e in examples for t in (*e.answers, *e.distractors)}
    assert target.token_ids.tolist() == sorted(asked)
    for row, example in enumerate(examples):
        for mask, ids in ((target.answers, example.answers), (target.distractors, example.distractors)):
            assert [t for t, m in zip(sorted(asked), mask[row], strict=True) if m == 0] == list(ids)
    assert target.flops(model_for("gpt2"), 5) == 2 * 5 * 32 * len(asked)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_single(dtype):
    model = model_for("gpt2", dtype)
    examples = task_of("greater-than", n=2).bind(model).examples
    resid = torch.zeros(1, 2, model.d_model, dtype=dtype)
    with torch.inference_mode():
        found = readout(examples).values(model, resid)
        logits = blocks.logits(model, resid)[0].double()
    assert found.dtype == torch.float32
    for row, e in enumerate(examples):
        wanted = logits[row, list(e.answers)].logsumexp(0) - logits[row, list(e.distractors)].logsumexp(0)
        assert float(found[0, row]) == pytest.approx(float(wanted), abs=1e-4)


def test_accuracy_and_log_probability_of_sets():
    model = model_for("gpt2")
    examples = task_of("greater-than", "ioi", n=2).bind(model).examples
    resid = torch.randn(2, len(examples), model.d_model, dtype=model.dtype)
    resid[0, 0] *= 0.1  # rows that differ in how sure they are
    with torch.inference_mode():
        probabilities = blocks.logits(model, resid).softmax(-1)
        right, sure = (
            PERFORMANCES[name].readout(examples).values(model, resid) for name in ("accuracy", "log-probability")
        )
    for copy in range(2):
        for row, e in enumerate(examples):
            found = probabilities[copy, row]
            assert float(right[copy, row]) == float(int(found.argmax()) in e.answers)
            assert float(sure[copy, row]) == pytest.approx(float(found[list(e.answers)].sum().log()), abs=1e-10)
    assert PERFORMANCES["accuracy"].readout(examples).flops(model, 5) == 2 * 5 * 32 * model.vocab_size


def test_the_top_token_being_an_answer_counts():
    model = model_for("gpt2")
    examples = task_of("ioi", n=2).bind(model).examples
    wanted = [next(iter(e.answers)) for e in examples]
    # A residual stream that points at the rows of the unembedding; the final norm keeps its direction.
    resid = torch.stack([model.hf.get_output_embeddings().weight.detach()[t] for t in wanted])[None] * 50
    with torch.inference_mode():
        top = blocks.logits(model, resid)[0].argmax(-1).tolist()
        found = PERFORMANCES["accuracy"].readout(examples).values(model, resid)
    assert found[0].tolist() == [float(t == w) for t, w in zip(top, wanted, strict=True)]
    assert found.sum() > 0
