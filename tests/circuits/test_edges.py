"""Exact path patching against a frozen run through Hugging Face's own forward, on every architecture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from circuitkd.circuits.edges import edge_effects
from circuitkd.circuits.graph import all_edges, edges_among
from circuitkd.circuits.patched import units
from circuitkd.components import Component, Edge
from circuitkd.interventions import execution as running
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.execution import Execution
from circuitkd.interventions.sweep import sweep
from circuitkd.models import flops
from circuits_cases import model_for, task_for
from edge_oracle import Oracle
from tiny_models import TINY


@pytest.mark.parametrize("name", sorted(TINY))
def test_equals_a_frozen_run_for_every_edge(name):
    model = model_for(name)
    bound = task_for(1).bind(model)
    oracle = Oracle(model, bound, "resample")
    expected = oracle.effects(all_edges(model))
    found = edge_effects(model, bound, ablation=Ablation("resample"))
    assert np.abs(found.base - oracle.base.numpy()).max() < 1e-9
    assert np.abs(found.effects - expected).max() < 1e-9 * np.abs(expected).max()
    # In Mistral's windows of 4 tokens little of what differs comes through to the last one.
    matters = np.abs(expected).max(axis=1) > 1e-6 * np.abs(expected).max()
    assert matters.mean() > (0.7 if name == "mistral" else 0.9)


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_equals_a_frozen_run_in_float32(name):
    model = model_for(name, torch.float32)
    bound = task_for(1).bind(model)
    chosen = all_edges(model)[::5]
    expected = Oracle(model, bound, "resample").effects(chosen)
    found = edge_effects(model, bound, edges=chosen, ablation=Ablation("resample"))
    assert np.abs(found.effects - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["bert", "llama"])
@pytest.mark.parametrize("kind", ["mean-positional", "mean", "zero"])
def test_other_replacements(name, kind):
    """Batches of two lengths, in two sizes."""
    model = model_for(name)
    bound, chosen = task_for().bind(model), all_edges(model)[::4]
    expected = Oracle(model, bound, kind).effects(chosen)
    for size in (None, 3):
        found = edge_effects(model, bound, edges=chosen, ablation=Ablation(kind), execution=Execution(batch_size=size))
        assert np.abs(found.effects - expected).max() < 1e-9 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["gpt2", "roberta", "llama", "neox-parallel"])
def test_edges_of_a_circuit(name):
    """Everything outside the circuit stays replaced, also after the receiver."""
    model = model_for(name)
    bound = task_for(1).bind(model)
    kept = {c for c in model.components if str(c) in "L0H1 L0H2 MLP0 L1H0 L1H3 MLP2 L2H0 L2H1"}
    found = edge_effects(model, bound, ablation=Ablation("resample"), circuit=kept)
    oracle = Oracle(model, bound, "resample", kept=kept)
    expected = oracle.effects(found.edges)
    assert found.edges == edges_among(model, kept)
    assert found.circuit == tuple(c for c in model.components if c in kept)
    assert np.abs(found.base - oracle.base.numpy()).max() < 1e-9
    assert np.abs(found.effects - expected).max() < 1e-9 * np.abs(expected).max()


def test_the_last_mlp_reaches_the_logits_directly_only():
    """So this edge is worth what its ablation costs."""
    model = model_for("gpt2")
    bound = task_for().bind(model)
    last = Component("mlp", 2)
    direct = edge_effects(model, bound, edges=[Edge(last, Component("logits"))])
    np.testing.assert_allclose(direct.effects, sweep(model, bound, components=[last]).effects, atol=1e-11)


def test_labels_and_progress():
    model, seen = model_for("llama"), []
    bound, chosen = task_for().bind(model), [Edge.parse(t) for t in ("MLP0->L1KV1<v>", "embed->logits", "L0H3->MLP0")]
    execution = Execution(batch_size=2, progress=lambda *step: seen.append(step))
    found = edge_effects(model, bound, edges=chosen, execution=execution)
    assert found.edges == tuple(chosen)
    assert (found.model, found.task, found.circuit, found.is_exact) == ("tiny-llama", "mixed", None, True)
    assert found.ablation == "mean-positional over corrupted prompts, grouped by length"
    assert found.examples == tuple(e.id for e in bound.examples)
    assert seen == [("path patching", i, 12) for i in range(2, 13, 2)]
    assert 2 < found.forward_equivalents < 6
    assert edge_effects(model, task_for(), edges=chosen[:1]).effects == pytest.approx(found.effects[:1])


def test_takes_up_where_it_stopped(tmp_path, monkeypatch):
    model = model_for("gpt2")
    bound, execution = task_for().bind(model), Execution(folder=tmp_path)
    chosen, kept = all_edges(model)[::9], model.components[::2]
    first = edge_effects(model, bound, edges=chosen, execution=execution)
    inside = edge_effects(model, bound, circuit=kept, execution=execution)
    monkeypatch.setattr("circuitkd.circuits.edges.patched", None)
    np.testing.assert_array_equal(edge_effects(model, bound, edges=chosen, execution=execution).effects, first.effects)
    again = edge_effects(model, bound, circuit=kept, execution=execution)
    np.testing.assert_array_equal(again.effects, inside.effects)
    with pytest.raises(TypeError, match="NoneType"):  # the same edges in another circuit are other numbers
        edge_effects(model, bound, edges=inside.edges, circuit=model.components, execution=execution)


def test_the_weights_are_read_once_for_all_pieces(tmp_path, monkeypatch):
    model, read = model_for("gpt2"), []
    monkeypatch.setattr(running, "fingerprint", lambda m: read.append(m) or "weights")
    bound, chosen = task_for().bind(model), all_edges(model)[::9]
    edge_effects(model, bound, edges=chosen, execution=Execution(folder=tmp_path, batch_size=2))
    assert read == [model]
    assert len(list(tmp_path.iterdir())) == 2 * len(units(chosen, n_layers=3)) > 4


@pytest.mark.parametrize("name", ["gpt2", "bert", "llama", "neox-parallel"])
def test_the_work_is_what_torch_counts(name):
    model, kind = model_for(name), "resample" if name == "gpt2" else "mean-positional"
    bound, chosen = task_for().bind(model), all_edges(model)[::7]
    unit = sum(flops.full_forward_flops(model, 1, len(e.clean)) for e in bound.examples)
    for edges in (chosen, [e for e in chosen if e.slot == "q"]):
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            found = edge_effects(model, bound, edges=edges, ablation=Ablation(kind), execution=Execution(batch_size=3))
        assert found.forward_equivalents * unit == pytest.approx(counter.get_total_flops(), rel=1e-9)


def test_says_when_percentages_mean_nothing():
    model = model_for("gpt2")
    bound, edges = task_for().bind(model), [Edge.parse("embed->logits")]
    backwards = replace(
        bound, examples=tuple(replace(e, answers=e.distractors, distractors=e.answers) for e in bound.examples)
    )
    both = [edge_effects(model, task, edges=edges) for task in (bound, backwards)]
    poor = min(both, key=lambda found: found.base.mean())
    assert both[0].base == pytest.approx(-both[1].base)
    assert any(w.startswith("the model does not do the task: its mean logit difference is -") for w in poor.warnings)
    task = bound if poor is both[0] else backwards
    inside = edge_effects(model, task, edges=edges, circuit=model.components)
    assert any(w.startswith("in the circuit the model does not do the task") for w in inside.warnings)


def test_refuses_edges_the_model_or_the_circuit_does_not_have():
    model = model_for("gpt2")
    with pytest.raises(ValueError, match="tiny-gpt2 has no edge MLP1->MLP1: a sender reaches only what"):
        edge_effects(model, task_for(), edges=[Edge.parse("MLP1->MLP1")])
    with pytest.raises(ValueError, match="L0H0->MLP1 leads from or to a component outside the circuit"):
        edge_effects(model, task_for(), edges=[Edge.parse("L0H0->MLP1")], circuit=[Component("mlp", 1)])
    with pytest.raises(ValueError, match="tiny-gpt2 has no MLP9: a circuit is a set of heads and MLPs"):
        edge_effects(model, task_for(), circuit=[Component("mlp", 1), Component("mlp", 9)])


def test_refuses_logits_that_are_no_numbers():
    model = model_for("gpt2")
    bound = task_for().bind(model)
    word = bound.examples[1].clean[0]
    with torch.no_grad():
        model.hf.get_input_embeddings().weight[word] = torch.nan
    with pytest.raises(
        ValueError, match="tiny-gpt2 gives NaN or infinite values on example .* check its weights and dtype"
    ):
        edge_effects(model, bound, edges=[Edge.parse("embed->logits")], ablation=Ablation("zero"))
