"""Attribution is the derivative of the exact effects along the replacement, on every architecture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from circuitkd.circuits.attribution import edge_attribution, node_attribution
from circuitkd.circuits.base_run import Setup
from circuitkd.circuits.edges import edge_effects
from circuitkd.circuits.graph import all_edges, edges_into, receivers
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.execution import Execution
from circuitkd.interventions.sweep import sweep
from circuitkd.models import flops
from circuits_cases import FlopCount, linear_model, model_for, task_for
from edge_oracle import Oracle

# One of each kind: q, k, v layout, norm, residual style, grouped queries, normalised q and k.
KINDS = ("gpt2", "bert", "distilbert", "llama", "qwen3", "neox-parallel")


@pytest.mark.parametrize("name", KINDS)
def test_attribution_is_the_derivative_of_the_patched_metric(name):
    model = model_for(name)
    bound = task_for(1).bind(model)
    oracle, chosen = Oracle(model, bound, "resample"), edges_into(model, receivers(model)[::2])
    edges = edge_attribution(model, bound, ablation=Ablation("resample"))
    assert edges.edges == all_edges(model)
    for found, expected in (
        (edges.select(chosen), oracle.derivatives(chosen)),
        (node_attribution(model, bound, ablation=Ablation("resample")), oracle.node_derivatives()),
    ):
        assert np.abs(found.effects - expected).max() < 1e-9 * np.abs(expected).max()
        assert (np.abs(expected).max(axis=1) > 1e-6).mean() > 0.9


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_integrated_edges_of_the_embedding_sum_to_what_it_does(name):
    """Completeness: m(clean) - m(replaced embedding); midpoints come closer than right ends."""
    model = model_for(name)
    bound, ablation = task_for(1).bind(model), Ablation("resample")
    setup = Setup(model, bound, ablation=ablation, execution=Execution())
    with torch.no_grad():
        run = setup.run(range(len(bound)))
        moved = run.with_embedding(run.states[0].resid_pre + run.embed_change)
        expected = (run.base() - moved.base()).numpy()
    errors = []
    for method, steps in (("eap-ig", 8), ("eap-ig-midpoint", 4), ("eap-ig-midpoint", 8)):
        found = edge_attribution(model, bound, method=method, steps=steps, ablation=ablation)
        total = sum(e for edge, e in zip(found.edges, found.effects, strict=True) if edge.sender.kind == "embed")
        errors.append(np.abs(total - expected).max() / np.abs(expected).max())
        assert found.method == f"{method}, {steps} steps"
    assert errors[2] < 0.01
    assert errors[2] < 0.3 * errors[1]  # twice the steps, a quarter of the error
    assert errors[2] < 0.2 * errors[0]


@pytest.mark.parametrize("name, midpoint", [("gpt2", 0), ("bert", 1), ("llama", 1), ("neox-parallel", 0)])
def test_integrated_gradients_are_the_mean_over_inputs(name, midpoint):
    """Edge by edge with autograd through hooked forwards that start from mixed embeddings."""
    method, shares = (("eap-ig", (0.5, 1.0)), ("eap-ig-midpoint", (0.25, 0.75)))[midpoint]
    model = model_for(name)
    bound = task_for(1).bind(model)
    oracle, chosen = Oracle(model, bound, "resample"), edges_into(model, receivers(model)[::5])
    starts = [oracle.from_embedding(share) for share in shares]
    options = {"method": method, "steps": 2, "ablation": Ablation("resample")}
    edges = edge_attribution(model, bound, **options).select(chosen)
    for found, expected in (
        (edges, sum(start.derivatives(chosen) for start in starts) / 2),
        (node_attribution(model, bound, **options), sum(start.node_derivatives() for start in starts) / 2),
    ):
        assert np.abs(found.effects - expected).max() < 1e-9 * np.abs(expected).max()
    plain = edge_attribution(model, bound, ablation=Ablation("resample")).select(chosen)
    assert np.abs(plain.effects - edges.effects).max() > 0.01 * np.abs(plain.effects).max()


def test_linear_paths_are_estimated_exactly():
    """Without norms and activations, what is read by MLPs, logits and (for EAP) the last values acts linearly."""
    model = linear_model("gpt2")
    bound, ablation = task_for(2, ("months-sequence",)).bind(model), Ablation("resample")
    exact = edge_effects(model, bound, ablation=ablation)
    scale = np.abs(exact.effects).max()
    for method, last in (("eap", ("logits", "MLP2", "<v>")), ("eap-ig", ("logits", "MLP2"))):
        errors = np.abs(edge_attribution(model, bound, method=method, ablation=ablation).effects - exact.effects).max(1)
        into = [str(e).split("->")[1] for e in exact.edges]
        linear = [
            to.endswith(last) and (e.receiver.layer in (None, 2)) for to, e in zip(into, exact.edges, strict=True)
        ]
        assert errors[linear].max() < 1e-10 * scale
        assert errors[[to.endswith("<q>") for to in into]].max() > 0.01 * scale
    nodes, measured = node_attribution(model, bound, ablation=ablation), sweep(model, bound, ablation=ablation)
    for last in ("MLP2", "L2H0", "L2H3"):
        np.testing.assert_allclose(nodes.effect_of(last), measured.effect_of(last), rtol=0, atol=1e-10 * scale)


@pytest.mark.parametrize("kind", ["mean-positional", "mean", "zero"])
def test_other_replacements_and_any_batch_size(kind):
    """Attribution is linear in the replacement: the derivative again, whatever the replacement is."""
    model = model_for("llama")
    bound, chosen = task_for().bind(model), edges_into(model, receivers(model)[::4])
    expected = Oracle(model, bound, kind).derivatives(chosen)
    for size in (None, 1):
        found = edge_attribution(model, bound, ablation=Ablation(kind), execution=Execution(batch_size=size))
        assert np.abs(found.select(chosen).effects - expected).max() < 1e-9 * np.abs(expected).max()


def test_float32_agrees_with_float64():
    wide, narrow = (
        edge_attribution(model, task_for(1).bind(model), method="eap-ig")
        for model in (model_for("bert", dtype) for dtype in (torch.float64, torch.float32))
    )
    assert np.abs(wide.effects - narrow.effects).max() < 1e-4 * np.abs(wide.effects).max()


def test_labels_and_progress():
    model, seen = model_for("gpt2"), []
    bound = task_for().bind(model)
    execution = Execution(batch_size=3, progress=lambda *step: seen.append(step))
    nodes, edges = node_attribution(model, bound, execution=execution), edge_attribution(model, bound)
    exact = sweep(model, bound)
    assert nodes.estimated == nodes.components == exact.components
    assert exact.estimated == ()
    np.testing.assert_allclose(nodes.base, exact.base, atol=1e-12)
    np.testing.assert_allclose(edges.base, exact.base, atol=1e-12)
    np.testing.assert_array_equal(nodes.accuracy, exact.accuracy)
    assert nodes.ablation == edges.ablation == exact.ablation
    assert edges.method == "eap"
    assert not edges.is_exact
    assert seen == [("attribution", 3, 4), ("attribution", 4, 4)]


@pytest.mark.parametrize("name", ["gpt2", "bert", "llama", "neox-parallel"])
def test_the_work_is_what_torch_counts(name):
    model = model_for(name)
    bound = task_for().bind(model)
    unit = sum(flops.full_forward_flops(model, 1, len(e.clean)) for e in bound.examples)
    for attribution, method in ((edge_attribution, "eap"), (edge_attribution, "eap-ig"), (node_attribution, "eap")):
        with sdpa_kernel(SDPBackend.MATH), FlopCount() as counter:
            cost = attribution(model, bound, method=method, steps=2).forward_equivalents
        assert cost * unit == pytest.approx(counter.total, rel=1e-9)
        assert cost < (8 if method == "eap-ig" else 5)  # whatever the number of edges


def test_refuses_unknown_methods_and_no_steps():
    model = model_for("gpt2")
    for attribution in (node_attribution, edge_attribution):
        with pytest.raises(ValueError, match="unknown method 'ig': choose one of eap, eap-ig, eap-ig-midpoint"):
            attribution(model, task_for(), method="ig")
        with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
            attribution(model, task_for(), method="eap-ig", steps=0)
