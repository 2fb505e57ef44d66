"""The logit lens against truncated models, and contributions per layer and token."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from circuitkd.artifacts import load_run, save_run
from circuitkd.interventions.execution import Execution
from circuitkd.models.hooks import hooked_logits
from circuitkd.models.modules import block_list
from circuitkd.roles.direct_attribution import logit_attribution
from circuitkd.roles.lens import LogitLens, StreamContributions, _standing, logit_lens, stream_contributions
from equal_results import assert_same
from oracle import logit_difference, recorded
from small_runs import model_for, task_of
from tiny_models import SPECS

NAMES = sorted(SPECS)


def truncated(model, n_layers):
    """The same model without its last blocks, as Hugging Face would run it."""
    hf = copy.deepcopy(model.hf)
    parent, _, name = model.architecture.blocks.rpartition(".")
    setattr(hf.get_submodule(parent), name, torch.nn.ModuleList(block_list(hf, model.architecture)[:n_layers]))
    hf.config.num_hidden_layers = n_layers
    return type(model).of(hf, model.tokenizer)


def own_logits(model, ids):
    with torch.no_grad():
        return hooked_logits(model, torch.tensor([ids]), torch.tensor([len(ids)]))[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_is_read_as_if_it_were_the_last(name):
    model = model_for(name)
    task = task_of("numeral-sequence", "greater-than", n=2).bind(model)
    found = logit_lens(model, task, execution=Execution(batch_size=3))
    assert found.layers == tuple(range(model.n_layers))
    for layer in found.layers:
        short = truncated(model, layer + 1)
        for column, example in enumerate(task.examples):
            logits = own_logits(short, example.clean)[example.answer_position]
            answers = list(example.answers)
            assert found.probability[layer, column] == pytest.approx(float(logits.softmax(0)[answers].sum()), abs=1e-7)
            assert found.rank[layer, column] == 1 + int((logits > logits[answers].max()).sum())


@pytest.mark.parametrize("name", NAMES)
def test_the_last_layer_is_the_models_own_output(name):
    model = model_for(name)
    task = task_of(n=2).bind(model)
    found = logit_lens(model, task)
    for column, example in enumerate(task.examples):
        probabilities = own_logits(model, example.clean)[example.answer_position].softmax(0)
        answer = probabilities[list(example.answers)].sum()
        assert found.probability[-1, column] == pytest.approx(float(answer), abs=1e-9)


def test_rank_and_probability_of_sets_and_ties():
    logits = torch.tensor([[1.0, 3.0, 2.0, 0.0], [1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
    rank, probability = _standing(logits, [(0, 2), (3,)])
    share = logits[0].softmax(0)
    assert rank.tolist() == [2, 1]
    assert probability == pytest.approx([float(share[0] + share[2]), 0.25])


@pytest.mark.parametrize(
    ("rank", "expected"),
    [
        ([[2, 2], [1, 3], [1, 1]], 1),
        ([[1, 1], [2, 2], [1, 1]], 2),
        ([[1, 1], [1, 1], [1, 2]], 0),
        ([[1, 1], [1, 1], [2, 2]], None),
    ],
)
def test_where_the_answer_appears(rank, expected):
    ranks = np.array(rank)
    lens = LogitLens("m", "t", (0, 1, 2), ranks, np.zeros((3, 2)))
    assert lens.appears == expected
    assert lens.top_share.tolist() == [(row == 1).mean() for row in ranks]


@pytest.mark.parametrize("name", NAMES)
def test_contributions_sum_to_the_logit_difference_at_the_answer_position(name):
    model, task = model_for(name), task_of("numeral-sequence", n=3).bind(model_for(name))
    found = stream_contributions(model, task, execution=Execution(batch_size=2))
    assert found.logits.shape == (2, model.n_layers, len(task.examples[0].clean)) == found.size.shape
    read = np.array([own_logits(model, e.clean).numpy() for e in task.examples])
    for place in range(found.logits.shape[2]):
        own = [logit_difference(torch.tensor(logits[place]), e) for logits, e in zip(read, task.examples, strict=True)]
        assert found.start[place] + found.logits[:, :, place].sum() == pytest.approx(np.mean(own), abs=1e-6)
    end = found.positions.index("end")
    assert found.start[end] + found.logits[:, :, end].sum() == pytest.approx(
        logit_attribution(model, task).total.mean(), abs=1e-9
    )


@pytest.mark.parametrize("name", ["gpt2", "llama", "neox-parallel"])
def test_sizes_are_lengths_of_what_is_added_beside_the_stream_before(name):
    model, task = model_for(name), task_of("ioi", n=2).bind(model_for(name))
    found, expected = stream_contributions(model, task), np.zeros((2, model.n_layers, len(task.examples[0].clean)))
    kept = []
    owner = model.modules.blocks[0].attention_norm
    handle = owner.register_forward_pre_hook(lambda module, args: kept.append(args[0][0]))
    for example in task.examples:
        values = recorded(model, example.clean)
        stream = kept[-1]
        for layer, block in enumerate(model.modules.blocks):
            with torch.no_grad():
                attention = block.out_projection(values["z", layer])
            for part, added in enumerate((attention, values["mlp", layer])):
                expected[part, layer] += (added.norm(dim=-1) / stream.norm(dim=-1)).detach().numpy() / len(task)
                stream = stream + added
    handle.remove()
    np.testing.assert_allclose(found.size, expected, atol=1e-9)


def test_a_part_that_adds_nothing_contributes_nothing():
    model = model_for("gpt2")
    with torch.no_grad():
        for parameter in model.modules.blocks[1].mlp[0].parameters():
            parameter.zero_()
    found = stream_contributions(model, task_of("ioi", n=2))
    assert np.abs(found.size[1, 1]).max() == np.abs(found.logits[1, 1]).max() == 0
    assert found.size[1, 0].min() > 0


def test_prompts_of_another_length_are_left_out_and_named():
    model = model_for("gpt2")
    task = replace(task_of("numeral-sequence", n=3), examples=task_of("numeral-sequence", "ioi", n=3).examples[:5])
    found = stream_contributions(model, task)
    assert found.prompts == 3
    assert list(found.left_out) == ["ioi-0", "ioi-1"]
    assert "tokens, not" in found.left_out["ioi-0"]
    assert_same(
        replace(found, left_out={}), replace(stream_contributions(model, task_of("numeral-sequence", n=3)), left_out={})
    )
    assert {"member_1", "member_4", "end"} < set(found.positions)


def test_they_can_be_saved_and_are_tables(tmp_path):
    model, task = model_for("gpt2"), task_of("ioi", n=3)
    lens, found = logit_lens(model, task), stream_contributions(model, task)
    assert_same(load_run(save_run(tmp_path / "a", lens, manifest={}), LogitLens), lens)
    assert_same(load_run(save_run(tmp_path / "b", found, manifest={}), StreamContributions), found)
    table = lens.to_pandas()
    assert table.mean_probability.tolist() == lens.probability.mean(axis=1).tolist()
    assert table.median_rank.tolist() == np.median(lens.rank, axis=1).tolist()
    rows = found.to_pandas()
    assert len(rows) == 2 * 3 * len(found.positions)
    chosen = rows[(rows.part == "mlp") & (rows.layer == 2) & (rows.token == "end")]
    assert chosen.logits.tolist() == [found.logits[1, 2, found.positions.index("end")]]
