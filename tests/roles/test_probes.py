"""Probes of a model on a task: what they read, where they find a planted feature, and their controls."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from circuitkd.artifacts import load_run, save_run
from circuitkd.interventions.execution import Execution
from circuitkd.models.hooks import hooked_logits
from circuitkd.models.weights import output_slice
from circuitkd.roles import probes
from circuitkd.roles.probe_targets import Place, find_targets
from circuitkd.roles.probes import ProbeResult, probe
from equal_results import assert_same
from planted_roles import sequence_roles
from small_runs import model_for, task_of
from tiny_models import SPECS


@pytest.fixture(scope="module")
def successor():
    """A model in which one head of the second layer writes the next member at the answer position, and nothing else
    writes anything."""
    planted = sequence_roles(n=80)
    wanted = planted.heads["successor"]
    with torch.no_grad():
        for head in (c for c in planted.model.components if c.kind == "head" and c != wanted):
            output_slice(planted.model, head.layer, head=head.head).view().zero_()
    return planted, wanted, probe(planted.model, planted.task)


def test_a_planted_feature_is_found_in_its_layer_and_not_before(successor):
    _, head, found = successor
    scores = found.scores[found.targets.index("next member")]
    assert head.layer == 1
    assert scores[1] == 1.0
    assert scores[0] == pytest.approx(found.chance[found.targets.index("next member")])
    last = found.targets.index("member 4")
    assert found.scores[last, 1] == 1.0
    assert found.scores[last, 0] == pytest.approx(found.chance[last])


def test_what_no_head_writes_is_not_found(successor):
    _, _, found = successor
    for name in ("member 1", "member 2", "member 3"):
        row = found.targets.index(name)
        # 16 test rows: guessing one of 10 classes or more has a standard deviation below 0.1
        assert np.abs(found.scores[row] - found.chance[row]).max() < 0.25


def test_at_the_answer_position_the_embedding_knows_nothing(successor):
    _, _, found = successor
    for row, name in enumerate(found.targets):
        if name != "previous member":
            assert found.embedding[row] == pytest.approx(found.chance[row], abs=1e-12)


def test_shuffled_labels_are_at_chance(successor):
    _, _, found = successor
    assert found.control.shape == found.scores.shape == found.control_std.shape
    # the mean of 8 shuffles; a single one has a standard deviation of up to 0.1
    assert np.abs(found.control - found.chance[:, None]).max() < 0.12
    assert np.abs((found.control - found.chance[:, None]).mean()) < 0.03
    assert found.control_std.max() < 0.2


def test_a_random_model_on_prompts_of_two_lengths():
    model = model_for("gpt2", torch.float32)
    task = task_of("numeral-sequence", "ioi", n=12)
    found = probe(model, task, execution=Execution(batch_size=5))
    assert found.layers == (0, 1, 2)
    assert set(found.targets) <= {"member 1", "member 2", "member 3", "member 4", "next member", "seen before"} | {
        "whole list",
        "previous member",
    }
    for name, why in found.left_out.items():
        assert name not in found.targets
        assert "give more prompts" in why
    seen = found.targets.index("seen before")
    asked = next(t for t in find_targets(task.bind(model))[0] if t.name == "seen before")
    assert found.train_rows[seen] + found.test_rows[seen] == len(asked.places)
    assert (found.measures[seen], found.outputs[seen], found.chance[seen]) == ("AUROC", 1, 0.5)


def read_by_hooks(model, ids):
    """The embedding [pos, d_model], and per layer resid_mid."""
    blocks, caught = model.modules.blocks, {}

    def keep(name, which):
        return lambda module, args, output=None: caught.update({name: (args[0] if which == "input" else output)[0]})

    handles = []
    for layer, parts in enumerate(blocks):
        style = model.architecture.residual
        handles.append(parts.out_projection.register_forward_hook(keep(("attention", layer), "output")))
        if style == "post":
            handles.append(parts.attention_norm.register_forward_hook(keep(("mid", layer), "output")))
        else:
            handles.append(parts.attention_norm.register_forward_pre_hook(keep(("pre", layer), "input")))
            if style == "pre":
                handles.append(parts.mlp_norm.register_forward_pre_hook(keep(("mid", layer), "input")))
    with torch.no_grad():
        hooked_logits(model, torch.tensor([ids]), torch.tensor([len(ids)]))
    for handle in handles:
        handle.remove()
    return caught


@pytest.mark.parametrize("name", sorted(SPECS))
def test_probes_read_resid_mid(name):
    model, task = model_for(name), task_of(n=2)
    bound = task.bind(model, aligned=False)
    places = {Place(0, "clean", 3): 2, Place(2, "clean", 5): 0, Place(1, "corrupted", 4): 1}
    embedding, *found = probes._streams(model, bound, places, execution=Execution(batch_size=3))
    for place, number in places.items():
        seen = read_by_hooks(model, getattr(bound.examples[place.example], place.prompts))
        for layer in range(model.n_layers):
            is_parallel = ("mid", layer) not in seen
            expected = seen["pre", layer] + seen["attention", layer] if is_parallel else seen["mid", layer]
            torch.testing.assert_close(found[layer][number], expected[place.position].float(), atol=1e-5, rtol=1e-5)
        if model.architecture.residual != "post":
            torch.testing.assert_close(embedding[number], seen["pre", 0][place.position].float())


def test_it_can_be_saved_and_is_a_table(tmp_path, successor):
    _, _, found = successor
    assert_same(load_run(save_run(tmp_path, found, manifest={}), ProbeResult), found)
    table = found.to_pandas()
    assert len(table) == len(found.targets) * 2
    row = table[(table.target == "next member") & (table.layer == 1)].iloc[0]
    assert (row.score, row.measure) == (1.0, "balanced accuracy")
    assert "20 epochs" in found.definition and "80%" in found.definition
