from contextlib import ExitStack

import numpy as np
import pytest
import torch

from circuitkd.artifacts import load_run, save_run
from circuitkd.circuits.graph import key_value_component
from circuitkd.components import Component
from circuitkd.interventions.execution import Execution, Plan
from circuitkd.models.hooks import edits, hooked_logits, record
from circuitkd.roles import activation_patching as patching
from circuitkd.roles.activation_patching import EMBED, activation_patching, patched_values
from circuitkd.roles.patching_result import ActivationPatching
from circuitkd.tasks.base import Example, Task
from circuits_cases import model_for
from edge_oracle import Oracle, observed
from equal_results import assert_same
from planted import successor
from planted_roles import sequence_roles
from tiny_models import SPECS

MEASURED = ("effects", "at_all", "blocks", "blocks_at_all", "qk", "ov", "clean", "corrupted")


def short_task(n=2):
    words = "Lamp Boat Door Tree Horse Bridge Piano Garden".split()
    examples = [
        Example(str(i), f"{words[i]} found in {i + 3} and {words[i + 2]}", f"{words[i + 1]} found in {i + 9} and {words[i + 3]}",
                f" {i + 4}", (f" {i + 5}", f" {i + 6}"))
        for i in range(n)
    ]  # fmt: skip
    return Task("short", tuple(examples), origin="generated")


class Hooked:
    """Patches by hooks on Hugging Face's forward: each position in a copy of the batch of its own."""

    def __init__(self, model, task):
        self.model, self.task = model, task
        self.oracle = Oracle(model, task, "resample")
        self.corrupted = torch.tensor([e.corrupted for e in task.examples])
        self.rows, self.n_pos = self.corrupted.shape
        self.lengths = torch.full((self.rows,), self.n_pos)
        with torch.no_grad():
            self.base = self.metric(hooked_logits(model, self.corrupted, self.lengths))

    def metric(self, logits):
        return torch.stack([self.oracle.metric(copy) for copy in logits.unflatten(0, (-1, self.rows))]).numpy()

    def effects(self, components, embedding=False):
        """Mean effects [position] of patching these components together, position by position, then at all."""
        places = [*range(self.n_pos), None]
        tokens, lengths = self.corrupted.repeat(len(places), 1), self.lengths.repeat(len(places))

        def mixed(old, new):
            copies = old.clone().unflatten(0, (len(places), self.rows))
            for copy, place in zip(copies, places, strict=True):
                copy[:, slice(None) if place is None else place] = new[:, slice(None) if place is None else place]
            return copies.flatten(0, 1)

        def edit(component):
            return lambda old: mixed(old, self.oracle.part(self.oracle.clean, component))

        with torch.no_grad():
            if embedding:
                seen, _ = observed(self.model, tokens, lengths)
                resid = mixed(seen["embed", 0], self.oracle.clean["embed", 0])
                logits = observed(self.model, tokens, lengths, embedding=resid)[1]
            else:
                logits = hooked_logits(self.model, tokens, lengths, {c: edit(c) for c in components})
        return (self.metric(logits) - self.base).mean(axis=1)

    def split(self, head, slots):
        """Mean effect of a head whose q and k, or v, are computed from the clean stream, at all positions."""
        stream = self.oracle.clean["read attention", head.layer]
        owner = key_value_component(self.model, head.layer, head.head)
        with torch.no_grad(), ExitStack() as stack:
            for slot in slots:
                stack.enter_context(self.oracle.exchanged(head if slot == "q" else owner, slot, stream))
            with record(self.model) as seen:
                hooked_logits(self.model, self.corrupted, self.lengths)
        here = slice(head.head * self.model.d_head, (head.head + 1) * self.model.d_head)
        with torch.no_grad(), edits(self.model, {head: lambda old: seen.z[head.layer][..., here]}):
            logits = hooked_logits(self.model, self.corrupted, self.lengths)
        return (self.metric(logits) - self.base).mean()


@pytest.mark.parametrize("name", sorted(SPECS))
def test_every_effect_is_that_of_a_hooked_forward(name):
    model = model_for(name)
    task = short_task().bind(model)
    found, hooked = activation_patching(model, task), Hooked(model, task)
    wanted = np.stack([hooked.effects([], embedding=True)] + [hooked.effects([c]) for c in model.components])
    blocks = [[c for c in model.components if c.kind == "head" and c.layer == layer] for layer in range(model.n_layers)]
    of_blocks = np.stack([hooked.effects(heads) for heads in blocks])
    exact = {"rtol": 0, "atol": 1e-9 * np.abs(wanted).max()}
    np.testing.assert_allclose(found.effects, wanted[:, :-1], **exact)
    np.testing.assert_allclose(found.at_all, wanted[:, -1], **exact)
    np.testing.assert_allclose(found.blocks, of_blocks[:, :-1], **exact)
    np.testing.assert_allclose(found.blocks_at_all, of_blocks[:, -1], **exact)
    np.testing.assert_allclose(found.qk, [hooked.split(head, "qk") for head in found.heads], **exact)
    np.testing.assert_allclose(found.ov, [hooked.split(head, "v") for head in found.heads], **exact)
    np.testing.assert_allclose(found.corrupted, hooked.base[0], **exact)
    np.testing.assert_allclose(found.clean, hooked.oracle.base, **exact)


@pytest.mark.parametrize("name", ["gpt2", "bert", "mistral"])
def test_batches_and_groups_change_nothing(name):
    model, task = model_for(name), short_task(4)
    one, many = (activation_patching(model, task, execution=Execution(batch_size=n)) for n in (1, 4))
    for field in MEASURED:
        np.testing.assert_allclose(getattr(one, field), getattr(many, field), atol=1e-12)


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_one_component_at_a_time_changes_nothing(name, monkeypatch):
    model, task = model_for(name), short_task(3)
    whole = activation_patching(model, task)
    monkeypatch.setattr(Plan, "group_size", lambda self, rows, n_pos: 1)
    single = activation_patching(model, task)
    for field in MEASURED:
        np.testing.assert_allclose(getattr(single, field), getattr(whole, field), atol=1e-12)


def test_prompts_that_do_not_fit_are_done_in_halves(monkeypatch):
    """Memory ends in the second layer of all batches of more than one prompt: what was summed up by then counts once."""
    model, task, seen = model_for("gpt2"), short_task(5), []
    whole, block = activation_patching(model, task), patching._patched_block

    def limited(pair, layer, *, size):
        if layer == 1 and pair.rows > 1:
            raise torch.OutOfMemoryError
        return block(pair, layer, size=size)

    monkeypatch.setattr(patching, "_patched_block", limited)
    halved = activation_patching(model, task, execution=Execution(progress=lambda *told: seen.append(told[1:])))
    for field in MEASURED:
        np.testing.assert_allclose(getattr(halved, field), getattr(whole, field), atol=1e-12)
    assert seen[-1] == (15, 15)


def test_one_pair_that_does_not_fit_is_an_error(monkeypatch):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(patching, "run_pair", full)
    with pytest.raises(ValueError, match="tiny-gpt2 does not fit into the memory of cpu with one pair of prompts at a"):
        activation_patching(model_for("gpt2"), short_task())


def test_as_many_pairs_as_fit_with_all_their_layers(monkeypatch):
    model = model_for("gpt2")
    bound = short_task(5).bind(model)
    assert patching.pairs_at_a_time(model, bound, execution=Execution()) == 5
    assert patching.pairs_at_a_time(model, bound, execution=Execution(batch_size=2)) == 2
    row = 6 * 2 * model.n_layers * patching.KEPT * model.d_model * 8
    monkeypatch.setattr(patching, "CPU_BUDGET", 3.5 * row)
    assert patching.pairs_at_a_time(model, bound, execution=Execution()) == 3
    monkeypatch.setattr(patching, "CPU_BUDGET", 1.0)
    assert patching.pairs_at_a_time(model, bound, execution=Execution()) == 1


@pytest.mark.parametrize("name", sorted(SPECS))
def test_everything_patched_is_the_clean_run_and_nothing_the_corrupted_one(name):
    model, task = model_for(name), short_task(3)
    found = activation_patching(model, task)
    everything = [(c, None) for c in (EMBED, *model.components)]
    piece_by_piece = [(c, place) for c, _ in everything for place in range(len(found.positions))]
    np.testing.assert_allclose(patched_values(model, task, patches=everything), found.clean, atol=1e-11)
    np.testing.assert_allclose(patched_values(model, task, patches=piece_by_piece), found.clean, atol=1e-11)
    np.testing.assert_allclose(patched_values(model, task, patches=[]), found.corrupted, atol=1e-11)


@pytest.mark.parametrize("name", ["gpt2", "bert", "llama", "neox-parallel"])
def test_patches_together_agree_with_patches_alone(name):
    model, task = model_for(name), short_task()
    found = activation_patching(model, task)
    for index, component in enumerate(found.components[::4]):
        for place in (1, 3, None):
            value = patched_values(model, task, patches=[(component, place)]).mean() - found.corrupted.mean()
            stored = found.at_all[4 * index] if place is None else found.effects[4 * index, place]
            assert value == pytest.approx(stored, abs=1e-11)


def test_the_planted_mover_carries_everything_by_its_values():
    planted = successor(n=8)
    found = activation_patching(planted.model, planted.task)
    recovery = found.recovery(found.effects)
    rows = {str(c): recovery[i] for i, c in enumerate(found.components)}
    # The last numeral's embedding, moved to the end by L0H1, turned into its successor by MLP1.
    np.testing.assert_allclose(rows["embed"], [0, 0, 0, 0, 1, 0], atol=0.02)
    np.testing.assert_allclose(rows["L0H1"], [0, 0, 0, 0, 0, 1], atol=0.02)
    np.testing.assert_allclose(rows["MLP1"], [0, 0, 0, 0, 0, 1], atol=0.02)
    np.testing.assert_allclose(rows["L1H0"], 0, atol=0.02)
    head = found.heads.index(Component.parse("L0H1"))
    np.testing.assert_allclose(found.recovery(found.qk)[head], 0, atol=0.02)
    np.testing.assert_allclose(found.recovery(found.ov)[head], 1, atol=0.02)
    np.testing.assert_allclose(found.recovery(found.blocks_at_all), [1, 0], atol=0.02)
    # Two heads in the layer, one of which has it all: twice their mean, one standard deviation above it.
    np.testing.assert_allclose(found.multiples(found.ov)[head], 2, atol=0.02)
    np.testing.assert_allclose(found.z_scores(found.ov)[head], 1, atol=0.02)


def test_positions_are_named_by_label_token_or_number():
    found = activation_patching(*_first(sequence_roles(n=3)))
    assert found.positions[:5] == ("0", "found", "in", "member_1", ".")
    assert found.positions[-1] == "end"


def _first(planted):
    return planted.model, planted.task


def test_prompts_of_another_length_are_left_out_and_named():
    model, task = model_for("gpt2"), short_task(3)
    odd = [
        Example("long", "Lamp found in 3 and the Boat", "Door found in 9 and the Tree", " 4", " 5"),
        Example("unpaired", "Lamp found in 3 and Boat", "Door in 9", " 4", " 5"),
    ]
    mixed = Task("mixed", (*task.examples, *odd), origin="generated")
    found = activation_patching(model, mixed)
    assert found.examples == ("0", "1", "2")
    assert found.left_out == {
        "long": "has 7 tokens, not 6",
        "unpaired": "clean has 6 tokens, corrupted 3",
    }
    same = activation_patching(model, task)
    np.testing.assert_allclose(found.effects, same.effects, atol=1e-12)


def test_no_pair_of_equal_length_is_an_error():
    task = Task("odd", (Example("a", "Lamp found in 3", "Lamp in", " 4", " 5"),), origin="generated")
    with pytest.raises(ValueError, match="no clean and corrupted prompt have equal token counts"):
        activation_patching(model_for("gpt2"), task)


def test_unknown_components_are_an_error():
    with pytest.raises(ValueError, match="tiny-gpt2 has no L9H0: patch the embedding"):
        patched_values(model_for("gpt2"), short_task(), patches=[(Component("head", 9, 0), None)])


def test_progress_is_reported_by_layer():
    seen = []
    execution = Execution(batch_size=2, progress=lambda *call: seen.append(call))
    activation_patching(model_for("gpt2", torch.float32), short_task(4), execution=execution)
    assert [done for _, done, _ in seen] == list(range(2, 4 * 3 + 1, 2))
    assert seen[-1] == ("activation patching", 12, 12)


def test_it_can_be_saved_and_is_a_table(tmp_path):
    found = activation_patching(model_for("gpt2"), short_task())
    assert_same(load_run(save_run(tmp_path, found, manifest={}), ActivationPatching), found)
    table = found.to_pandas()
    assert len(table) == len(found.components) * (len(found.positions) + 1)
    first = table[(table["component"] == "embed") & (table["position"] == "all")].iloc[0]
    assert first["effect"] == pytest.approx(found.at_all[0])
    assert first["recovery"] == pytest.approx(found.at_all[0] / (found.clean.mean() - found.corrupted.mean()))
