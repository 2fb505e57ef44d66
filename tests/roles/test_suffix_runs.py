import numpy as np
import pytest
import torch

from circuitkd.interventions.capture import make_batch
from circuitkd.models import blocks
from circuitkd.roles.suffix_runs import run_pair
from circuits_cases import model_for
from oracle import logit_difference
from small_runs import task_of
from tiny_models import SPECS

CAUSAL = sorted(name for name in SPECS if "bert" not in name)


def whole(model, layer, resid, lengths):
    """All positions of the blocks `layer`.., by the plain functions."""
    context = blocks.make_context(model, lengths.repeat(len(resid) // len(lengths)), n_pos=resid.shape[1])
    for current in range(layer, model.n_layers):
        resid = blocks.block(model, current, resid, context)
    return resid


@pytest.fixture(params=CAUSAL)
def causal(request):
    model = model_for(request.param)
    with torch.inference_mode():
        task = task_of("months-sequence", n=2).bind(model)
        return model, make_batch(task, [0, 1]), run_pair(model, task, rows=[0, 1])


def test_late_positions_alone_give_what_the_whole_model_gives(causal):
    model, batch, pair = causal
    n_pos = batch.tokens.shape[1]
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for layer in range(model.n_layers + 1):
            entering = pair.corrupted.embedding if layer == 0 else pair.corrupted.states[layer - 1].resid_post
            for start in (0, 1, 7, n_pos - 1):
                changed = entering.repeat(3, 1, 1)
                changed[:, start:] += torch.randn(changed[:, start:].shape, generator=generator, dtype=torch.float64)
                expected = whole(model, layer, changed, batch.lengths)[:, -1]
                found = pair.corrupted.rest(layer, changed[:, start:], start=start)
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", ["gpt2", "bert", "llama"])
def test_the_metric_is_that_of_the_clean_answer_on_either_run(name):
    model = model_for(name)
    task = task_of("months-sequence", "ioi", n=2).bind(model)
    with torch.inference_mode():
        pair = run_pair(model, task, rows=[0, 1])
        for run, prompts in ((pair.clean, "clean"), (pair.corrupted, "corrupted")):
            batch = make_batch(task, [0, 1], prompts=prompts)
            logits = blocks.full_logits(model, batch.tokens, batch.lengths, batch.positions)
            expected = [logit_difference(row, e) for row, e in zip(logits, task.examples, strict=False)]
            np.testing.assert_allclose(pair.metric(run.last()), [expected], atol=1e-11)
        np.testing.assert_allclose(pair.base, expected, atol=1e-11)
    assert pair.answer_places == {task.examples[0].answer_position}
    assert pair.rows == 2


@pytest.mark.parametrize("name, positions", [("gpt2", slice(5, None)), ("bert", slice(None))])
def test_a_patch_at_one_position_leaves_the_others_corrupted(name, positions):
    model = model_for(name)
    with torch.inference_mode():
        pair = run_pair(model, task_of("months-sequence", n=2).bind(model), rows=[0, 1])
        patched = pair.clean.states[1].resid_post.repeat(3, 1, 1, 1)
        found = pair.at_one_position(patched, layer=1, place=5)
    expected = pair.corrupted.states[1].resid_post.repeat(3, 1, 1, 1)
    expected[:, :, 5] = patched[:, :, 5]
    assert torch.equal(found, expected[:, :, positions])
    assert not torch.equal(found, pair.corrupted.states[1].resid_post.repeat(3, 1, 1, 1)[:, :, positions])
