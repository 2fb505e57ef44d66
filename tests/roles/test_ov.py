import numpy as np
import pytest
import torch

from circuitkd.artifacts import load_run, save_run
from circuitkd.models.hooks import hooked_logits, record
from circuitkd.models.modules import block_list
from circuitkd.models.weights import head_slices, output_slice
from circuitkd.roles.ov import TOP, OvTest, ov_test, ov_test_on_prompts
from circuitkd.tasks.sequences import NUMERALS
from circuitkd.tasks.words import MONTHS
from equal_results import assert_same
from planted_roles import name_roles, sequence_roles
from small_runs import model_for, task_of
from tiny_models import SPECS


@pytest.fixture(scope="module")
def planted():
    return sequence_roles(n=4)


def test_a_successor_head_writes_the_next_member_and_a_copying_head_the_member(planted):
    found = ov_test(planted.model)
    by_head = {h: (s, c) for h, s, c in zip(found.heads, found.successor, found.copy, strict=True)}
    assert by_head[planted.heads["successor"]] == (1.0, 0.0)
    assert by_head[planted.heads["mover"]] == (0.0, 1.0)
    assert by_head[planted.heads["induction"]] == (0.0, 1.0)


def test_the_last_member_has_no_successor_and_is_copied_all_the_same(planted):
    found = ov_test(planted.model)
    # 17 strings of four; only the last one ends in 20.
    assert found.tested == 17 * 4 - 1
    assert found.chance == TOP / planted.model.vocab_size


def test_on_prompts_the_successor_head_has_the_answer_and_not_the_distractor(planted):
    found = ov_test_on_prompts(planted.model, planted.task)
    at = found.heads.index(planted.heads["successor"])
    assert (found.successor[at], found.copy[at], found.tested) == (1.0, 0.0, 4)


def test_on_prompts_names_are_copied():
    named = name_roles(n=4)
    found = ov_test_on_prompts(named.model, named.task)
    assert found.successor[found.heads.index(named.heads["name mover"])] == 1.0
    assert found.copy[found.heads.index(named.heads["S-inhibition"])] == 1.0


def linear_parts(model, layer, head):
    """W_V, b_V and W_O of one head [d_model, d_head], [d_head], [d_head, d_model]."""
    group = head // (model.n_heads // model.n_kv_heads)
    places = head_slices(model, layer, head=group, slot="v")
    weight = places[0].view()
    weight = weight if weight.shape[0] == model.d_model and weight.shape[1] == model.d_head else weight.T
    bias = places[1].view() if len(places) > 1 else 0.0
    out = output_slice(model, layer, head=head).view()
    return weight, bias, out if out.shape[0] == model.d_head else out.T


def top_tokens(model, x):
    parts = model.modules
    x = parts.final_norm(x) if parts.final_norm is not None else x
    for step in parts.head:
        x = step(x)
    return [set(row) for row in parts.decoder(x).topk(TOP).indices.tolist()]


@pytest.mark.parametrize("name", sorted(SPECS))
def test_scores_are_those_of_the_definition(name):
    model, caught = model_for(name), []
    handle = block_list(model.hf, model.architecture)[0].register_forward_hook(
        lambda module, args, output: caught.append(output[0] if isinstance(output, tuple) else output)
    )
    strings = [NUMERALS[i : i + 4] for i in range(17)]
    ids = torch.tensor(model.tokenizer([" ".join(s) for s in strings])["input_ids"])
    with torch.no_grad():
        hooked_logits(model, ids, torch.full((17,), 4))
        handle.remove()
        found = ov_test(model)
        for index, component in enumerate(found.heads):
            x = caught[0]
            if model.architecture.residual != "post":
                x = model.modules.blocks[component.layer].attention_norm(x)
            w_v, b_v, w_o = linear_parts(model, component.layer, component.head)
            top = top_tokens(model, ((x @ w_v + b_v) @ w_o).flatten(0, 1))
            right = [int(i) in t for i, t in zip(ids.flatten(), top, strict=True)]
            following = [int(n) + 1 for s in strings for n in s]
            spelled = [model.tokenizer(str(n))["input_ids"][0] for n in following[:-1]]
            follows = [n in t for n, t in zip(spelled, top, strict=False)]
            assert found.copy[index] == np.mean(right)
            assert found.successor[index] == np.mean(follows)


@pytest.mark.parametrize("name", ["gpt2", "bert", "llama"])
def test_scores_on_prompts_are_those_of_the_definition(name):
    model = model_for(name)
    task = task_of("numeral-sequence", "ioi", n=3).bind(model)
    found = ov_test_on_prompts(model, task)
    hits = np.zeros((2, len(found.heads)))
    for e in task.examples:
        with torch.no_grad(), record(model) as seen:
            hooked_logits(model, torch.tensor([e.clean]), torch.tensor([len(e.clean)]))
        for index, component in enumerate(found.heads):
            here = slice(component.head * model.d_head, (component.head + 1) * model.d_head)
            z = seen.z[component.layer][0, e.answer_position, here]
            with torch.no_grad():
                (top,) = top_tokens(model, (z @ linear_parts(model, component.layer, component.head)[2])[None])
            hits[:, index] += bool(top & set(e.answers)), bool(top & set(e.distractors))
    np.testing.assert_allclose([found.successor, found.copy], hits / len(task))


def test_another_alphabet():
    found = ov_test(model_for("gpt2"), MONTHS)
    assert found.tested == 9 * 4 - 1
    assert "January ... December" in found.definition


def test_members_that_are_not_single_tokens_are_left_out():
    model = model_for("gpt2")
    # "100" is two tokens of this tokenizer: two strings stay, and 99 has no successor that could be asked for.
    found = ov_test(model, tuple(str(n) for n in range(95, 104)))
    assert found.tested == 2 * 4 - 1


def test_no_string_at_all_is_an_error():
    with pytest.raises(ValueError, match="no 4 neighbours of 1000, .* are single tokens.* give another alphabet"):
        ov_test(model_for("gpt2"), tuple(str(n) for n in range(1000, 1010)))


def test_it_can_be_saved_and_is_a_table(tmp_path, planted):
    found = ov_test(planted.model)
    assert_same(load_run(save_run(tmp_path, found, manifest={}), OvTest), found)
    table = found.to_pandas().set_index("head")
    assert table.loc[str(planted.heads["successor"])].tolist() == [1.0, 0.0]
