"""Node effects of our sweep against TransformerLens 4, an implementation of its own, on a GPT-2-shaped random model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from circuitkd.interventions.ablations import Ablation, replacements
from circuitkd.interventions.capture import make_batch
from circuitkd.interventions.sweep import sweep
from small_runs import model_for, task_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A model, prompts of one length, and the same model in TransformerLens."""
    bridge = pytest.importorskip(
        "transformer_lens.model_bridge", reason="needs TransformerLens 4: install circuitkd[oracle]"
    )
    folder = tmp_path_factory.mktemp("gpt2")
    model = model_for("gpt2", torch.float32)
    model.hf.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    peer = bridge.TransformerBridge.boot_transformers(str(folder), tokenizer=model.tokenizer, device="cpu")
    return model, task_of("numeral-sequence", n=6).bind(model), peer


@pytest.mark.parametrize("kind", ["zero", "mean-positional"])
def test_node_effects_agree(case, kind):
    model, task, peer = case
    batch = make_batch(task, range(len(task)))
    layers = list(replacements(model, task, ablation=Ablation(kind), batch_size=len(task)).layers(batch))

    def metric(*hooks):
        logits = peer.run_with_hooks(batch.tokens, fwd_hooks=list(hooks))
        at = logits[torch.arange(len(task)), batch.positions]
        rows = zip(at, task.examples, strict=True)
        return np.array([float(row[e.answers[0]] - row[e.distractors[0]]) for row, e in rows])

    def hook_of(component):
        def mlp(value, hook):
            return layers[component.layer].mlp.expand_as(value)

        def head(value, hook):
            new = layers[component.layer].z.expand(*value.shape[:2], value.shape[2] * value.shape[3])
            value = value.clone()
            value[:, :, component.head] = new.unflatten(-1, value.shape[2:])[:, :, component.head]
            return value

        place, function = ("hook_mlp_out", mlp) if component.kind == "mlp" else ("attn.hook_z", head)
        return f"blocks.{component.layer}.{place}", function

    with torch.inference_mode():
        base = metric()
        expected = np.stack([base - metric(hook_of(component)) for component in model.components])
    found = sweep(model, task, ablation=Ablation(kind))
    largest = np.abs(expected).max()
    assert np.abs(found.base - base).max() < 1e-4 * largest
    assert np.abs(found.effects - expected).max() < 1e-4 * largest
    assert (np.abs(expected).max(axis=1) > 0.01 * largest).all()
