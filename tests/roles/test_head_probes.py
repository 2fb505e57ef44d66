"""Probes of heads' values: a planted head, shared values, and equality with one head at a time."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from circuitkd.artifacts import load_run, save_run
from circuitkd.components import Component
from circuitkd.interventions.execution import Execution
from circuitkd.models.hooks import hooked_logits
from circuitkd.roles import head_probes
from circuitkd.roles.head_probes import HeadProbes, probe_heads
from circuitkd.roles.probe_sites import probe_sites, questions
from circuitkd.roles.probe_targets import Place
from circuitkd.roles.probes import probe
from circuitkd.tasks.base import Example, Task
from equal_results import assert_same
from planted import Features, make_head, make_model
from small_runs import model_for, prompts, task_of
from tiny_models import NUMERALS

ANSWERS = NUMERALS[2:8]


def numeral_at_the_end(n=60):
    """ "3 and 7" -> "8": the current token says the answer."""
    rng, examples = random.Random(0), []
    for i in range(n):
        first, last = rng.choice(NUMERALS), rng.choice(ANSWERS)
        wrong = rng.choice([a for a in ANSWERS if a != last])
        examples.append(
            Example(str(i), f"{first} and {last} to {last}", f"{first} and {wrong} to {wrong}", f" {last}", f" {wrong}")
        )
    return Task("end", tuple(examples), origin="generated")


@pytest.fixture(scope="module")
def planted():
    """L0H0's values are the current token, L0H1 and L1H0 have none, those of L1H1 are what L0H0 wrote."""
    f = Features((*NUMERALS, "and", "to"))
    here = torch.stack([f.at("position", p) for p in range(f.positions)], 1)
    copier = make_head(f, query=12 * here, key=here, value=f.block("tok").T, output=f.block("out"))
    blind = make_head(f, query=here, key=here, value=0 * here, output=f.block("prev")[: here.shape[1]])
    reader = make_head(f, query=here, key=here, value=f.block("out").T, output=f.block("prev"))
    heads = {(0, 0): copier, (0, 1): blind, (1, 0): blind, (1, 1): reader}
    model = make_model(f, heads, mlps={}, name="planted-values")
    return probe_heads(model, numeral_at_the_end())


def test_a_head_whose_values_carry_the_target_is_found_and_others_are_not(planted):
    row = planted.targets.index("answer")
    scores = dict(zip(map(str, planted.heads), planted.scores[row], strict=True))
    assert scores["L0H0"] == scores["L1H1"] == 1.0
    assert scores["L0H1"] == scores["L1H0"] == pytest.approx(planted.chance[row], abs=1e-12)
    assert np.abs(planted.control[row] - planted.chance[row]).max() < 0.15
    assert planted.sources == planted.heads


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_all_heads_at_once_are_as_one_at_a_time(name):
    model, task = model_for(name, torch.float32), task_of("numeral-sequence", n=16).bind(model_for(name))
    found, asked = probe_heads(model, task), questions(task, seed=0)
    values = head_probes._values(model, task, asked.places, execution=Execution())
    for i, head in enumerate(found.heads):
        group = head.head * model.n_kv_heads // model.n_heads
        scores, controls = probe_sites(values[head.layer, group][None], asked)
        np.testing.assert_array_equal(found.scores[:, i], scores[:, 0])
        np.testing.assert_array_equal(found.control[:, i], controls[:, :, 0].mean(axis=1))
        np.testing.assert_array_equal(found.control_std[:, i], controls[:, :, 0].std(axis=1))


def test_heads_of_a_group_share_their_values_and_the_result_says_so():
    model = model_for("llama", torch.float32)
    found = probe_heads(model, task_of("ioi", n=12))
    assert (model.n_heads, model.n_kv_heads) == (4, 2)
    assert found.heads == tuple(c for c in model.components if c.kind == "head")
    assert [str(s) for s in found.sources[:5]] == ["L0KV0", "L0KV0", "L0KV1", "L0KV1", "L1KV0"]
    by_group = found.scores.reshape(len(found.targets), -1, 2)
    np.testing.assert_array_equal(by_group[..., 0], by_group[..., 1])


@pytest.mark.parametrize(("name", "path"), [("llama", "model.layers.1.self_attn.v_proj"), ("bert", None)])
def test_they_read_the_value_vectors(name, path):
    model, task = model_for(name), task_of(n=2)
    bound, kept = task.bind(model, aligned=False), []
    places = {Place(1, "clean", 4): 1, Place(0, "corrupted", 2): 0}
    module = model.hf.get_submodule(path or "bert.encoder.layer.1.attention.self.value")
    handle = module.register_forward_hook(lambda module, args, output: kept.append(output[0, 4]))
    ids = bound.examples[1].clean
    with torch.no_grad():
        hooked_logits(model, torch.tensor([ids]), torch.tensor([len(ids)]))
    handle.remove()
    found = head_probes._values(model, bound, places, execution=Execution(batch_size=1))
    torch.testing.assert_close(found[1, :, 1].flatten(), kept[0].float())


def test_targets_rows_and_definition_are_those_of_the_residual_stream():
    model, task = model_for("gpt2", torch.float32), task_of("numeral-sequence", n=16)
    heads, stream = probe_heads(model, task, seed=3), probe(model, task, seed=3)
    for name in ("targets", "measures", "chance", "outputs", "train_rows", "test_rows", "left_out", "definition"):
        assert_same(getattr(heads, name), getattr(stream, name))


def test_too_few_prompts_are_refused():
    task = Task("few", prompts("ioi", n=9))
    with pytest.raises(ValueError, match="'few' has 9 different prompts, and probes need 10 or more"):
        probe_heads(model_for("gpt2"), task)


def test_it_can_be_saved_and_is_a_table(tmp_path, planted):
    assert_same(load_run(save_run(tmp_path, planted, manifest={}), HeadProbes), planted)
    table = planted.to_pandas()
    assert len(table) == len(planted.targets) * 4
    row = table[(table.target == "answer") & (table["head"] == "L1H1")].iloc[0]
    assert (row.score, row.values_of, row.measure) == (1.0, "L1H1", "balanced accuracy")
    assert planted.heads[3] == Component("head", 1, 1)
