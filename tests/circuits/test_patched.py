"""Units of work, and that grouping and running out of memory change nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from circuitkd.circuits.base_run import BaseRun, Setup
from circuitkd.circuits.graph import all_edges
from circuitkd.circuits.patched import Unit, patched, units
from circuitkd.components import Edge
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.execution import Execution
from circuitkd.models import flops
from circuits_cases import model_for, task_for

EDGES = "embed->L0H1<q> L0H0->L1H3<k> MLP0->L1H3<v> L0H2->MLP0 L0H1->MLP2 MLP1->L2H0<q> L1H1->L2H0<v> embed->logits MLP2->logits"


def work_for(name="gpt2"):
    model = model_for(name)
    setup = Setup(model, task_for(), ablation=Ablation("resample"), execution=Execution())
    return setup, setup.run(range(len(setup.task)))


def values(setup, run, edges):
    found = np.full((len(edges), run.rows), np.nan)
    for unit in units(edges, n_layers=setup.model.n_layers):
        found[list(unit.edges)] = patched(setup, run, unit=unit, edges=[edges[i] for i in unit.edges])
    return found


def test_units_are_parts_of_layers_in_order():
    edges = [Edge.parse(text) for text in EDGES.split()]
    assert units(edges[::-1], n_layers=3) == [
        Unit(0, "attention", (8,)),
        Unit(0, "mlp", (5,)),
        Unit(1, "attention", (6, 7)),
        Unit(2, "attention", (2, 3)),
        Unit(2, "mlp", (4,)),
        Unit(3, "logits", (0, 1)),
    ]


@torch.inference_mode()
@pytest.mark.parametrize("tokens", [1, 100, 1000])
def test_groups_of_any_size_give_the_same(tokens):
    setup, run = work_for()
    edges = list(all_edges(setup.model))
    expected = values(setup, run, edges)
    setup.plan.tokens_limit = tokens
    chosen = edges[::-7]
    assert np.abs(values(setup, run, chosen) - expected[::-7]).max() < 1e-11


@torch.inference_mode()
def test_fewer_edges_at_a_time_when_memory_runs_out(monkeypatch):
    setup, run = work_for()
    edges, rest, sizes = list(all_edges(setup.model))[-60::3], BaseRun.rest, []
    expected = values(setup, run, edges)

    def scarce(self, layer, resid):
        sizes.append(len(resid))
        if len(resid) > 2 * run.rows:
            raise torch.OutOfMemoryError("too much")
        return rest(self, layer, resid)

    monkeypatch.setattr(BaseRun, "rest", scarce)
    into_the_first = [e for e in all_edges(setup.model) if e.receiver.layer == 1][:40:4]
    before = setup.plan.tokens_limit
    found = values(setup, run, into_the_first)
    assert max(sizes) > 2 * run.rows
    assert setup.plan.tokens_limit < before
    assert np.isfinite(found).all()
    assert np.abs(values(setup, run, edges) - expected).max() < 1e-11
    monkeypatch.setattr(BaseRun, "rest", lambda self, layer, resid: scarce(self, layer, resid.repeat(9, 1, 1)))
    with pytest.raises(torch.OutOfMemoryError):
        values(setup, run, into_the_first)


@torch.inference_mode()
def test_no_forward_for_edges_into_the_logits(monkeypatch):
    setup, run = work_for()
    edges, before = [e for e in all_edges(setup.model) if e.receiver.kind == "logits"], setup.flops
    monkeypatch.setattr("circuitkd.models.blocks.mlp", None)
    monkeypatch.setattr("circuitkd.models.blocks.attend", None)
    assert values(setup, run, edges).shape == (16, run.rows)
    projected = flops.head_change_flops(setup.model, 12 * run.rows, 1)
    assert setup.flops - before == run.target.flops(setup.model, 16 * run.rows) + projected


@torch.inference_mode()
def test_the_last_block_is_computed_at_the_answer_alone():
    setup, run = work_for()
    work = {}
    for layer in (1, 2):
        before, edges = setup.flops, [Edge.parse(f"MLP0->L{layer}H{head}<q>") for head in range(4)]
        values(setup, run, edges)
        work[layer] = setup.flops - before
    assert work[2] < 0.2 * work[1]
