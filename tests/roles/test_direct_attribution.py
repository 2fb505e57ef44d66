"""Direct logit attribution against the definition, component by component, on every architecture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from circuitkd.artifacts import load_run, save_run
from circuitkd.components import Component
from circuitkd.interventions.execution import Execution
from circuitkd.models.hooks import hooked_logits
from circuitkd.models.weights import output_bias, output_slice
from circuitkd.roles.direct_attribution import LogitAttribution, logit_attribution
from equal_results import assert_same
from oracle import logit_difference, recorded
from planted_roles import sequence_roles
from small_runs import model_for, task_of
from tiny_models import SPECS

NAMES = sorted(SPECS)
# Llama's family computes its norms in float32 whatever the weights' dtype.
ROUNDING = {name: 1e-6 if model_for(name).modules.rotary is not None else 1e-9 for name in NAMES}


def frozen_norm(norm, x):
    """The norm as a linear function with its divisor at x, and its bias."""
    if isinstance(norm, torch.nn.LayerNorm):
        divisor = (x.var(-1, correction=0) + norm.eps).sqrt()
        return lambda v: norm.weight * (v - v.mean(-1, keepdim=True)) / divisor, norm.bias
    divisor = (x.square().mean(-1) + norm.variance_epsilon).sqrt()
    return lambda v: norm.weight * v / divisor, torch.zeros_like(norm.weight)


def head_parts(model):
    """Dense layer, activation and norm between the last block and the unembedding of an encoder."""
    if model.architecture.model_type == "bert":
        transform = model.hf.cls.predictions.transform
        return transform.dense, transform.transform_act_fn, transform.LayerNorm
    return model.modules.head


class Frozen:
    """One prompt's run taken apart: everything that is added to the residual stream at the answer position."""

    def __init__(self, model, example):
        self.model, self.example, self.at = model, example, example.answer_position
        self.values = recorded(model, example.clean)
        self.written = {}
        resid = self.embedding()
        self.add(Component("embed"), resid)
        for layer, block in enumerate(model.modules.blocks):
            heads = [self.write(layer, head) for head in range(model.n_heads)]
            bias = output_bias(model, layer)
            bias = torch.zeros(model.d_model, dtype=torch.float64) if bias is None else bias
            attention, out = sum(heads) + bias, self.values["mlp", layer][self.at]
            for head, value in enumerate(heads):
                self.add(Component("head", layer, head), value)
            self.add(f"bias {layer}", bias)
            resid = self.norm(block.attention_norm, resid + attention)
            self.add(Component("mlp", layer), out)
            resid = self.norm(block.mlp_norm, resid + out)
        self.resid = resid

    def embedding(self):
        model, ids = self.model, torch.tensor([self.example.clean])
        first, kept = model.modules.blocks[0], []
        norm = first.attention_norm if model.architecture.residual != "post" else None
        owner = norm or model.hf.get_submodule(model.architecture.blocks)[0]
        handle = owner.register_forward_pre_hook(lambda module, args: kept.append(args[0][0, self.at]))
        hooked_logits(model, ids, torch.tensor([ids.shape[1]]))
        handle.remove()
        return kept[0]

    def write(self, layer, head):
        out = output_slice(self.model, layer, head=head).view()
        z = self.values["z", layer][self.at, head * self.model.d_head : (head + 1) * self.model.d_head]
        return z @ (out if out.shape[0] == self.model.d_head else out.T)

    def add(self, name, value):
        self.written[name] = value

    def norm(self, norm, x):
        """Post-norm: everything written so far passes the norm."""
        if self.model.architecture.residual != "post":
            return x
        linear, bias = frozen_norm(norm, x)
        self.written = {name: linear(v) for name, v in self.written.items()} | {f"norm {len(self.written)}": bias}
        return norm(x)

    def contributions(self):
        model, x, written = self.model, self.resid, self.written
        if model.modules.final_norm is not None:
            linear, _ = frozen_norm(model.modules.final_norm, x)
            written = {name: linear(v) for name, v in written.items()}
        else:
            dense, activation, norm = head_parts(model)
            inner = dense(x)
            factor = activation(inner) / inner
            linear, _ = frozen_norm(norm, activation(inner))
            written = {name: linear(factor * (v @ dense.weight.T)) for name, v in written.items()}
            written["head"] = linear(factor * dense.bias) + norm.bias
        answer, distractor = self.example.answers[0], self.example.distractors[0]
        weight, bias = model.modules.decoder.weight, getattr(model.modules.decoder, "bias", None)
        found = {name: float(v @ (weight[answer] - weight[distractor])) for name, v in written.items()}
        return found if bias is None else found | {"decoder": float(bias[answer] - bias[distractor])}


@pytest.mark.parametrize("name", NAMES)
def test_values_are_those_of_the_definition(name):
    model, task = model_for(name), task_of(n=2).bind(model_for(name))
    found = logit_attribution(model, task, execution=Execution(batch_size=3))
    assert found.components == (Component("embed"), *model.components)
    with torch.no_grad():
        for column, example in enumerate(task.examples):
            expected = Frozen(model, example).contributions()
            values = [expected[c] for c in found.components]
            np.testing.assert_allclose(found.values[:, column], values, atol=ROUNDING[name], rtol=0)
            biases = [expected[f"bias {layer}"] for layer in range(model.n_layers)]
            np.testing.assert_allclose(found.biases[:, column], biases, atol=ROUNDING[name], rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_contributions_sum_to_the_models_own_logit_difference(name):
    model, task = model_for(name), task_of("numeral-sequence", "ioi", "greater-than", n=2).bind(model_for(name))
    found = logit_attribution(model, task, execution=Execution(batch_size=4))
    for column, example in enumerate(task.examples):
        ids = torch.tensor([example.clean])
        with torch.no_grad():
            logits = hooked_logits(model, ids, torch.tensor([ids.shape[1]]))[0, example.answer_position]
        own = logit_difference(logits, example)
        assert found.total[column] == pytest.approx(own, abs=1e-9)
        total = found.values[:, column].sum() + found.biases[:, column].sum() + found.constant[column]
        assert total == pytest.approx(own, abs=1e-9)


@pytest.mark.parametrize("name", [n for n in NAMES if model_for(n).architecture.residual == "post"])
def test_the_constant_of_an_encoder_is_what_all_norms_and_the_head_add(name):
    model, task = model_for(name), task_of("ioi", n=2).bind(model_for(name))
    found = logit_attribution(model, task)
    for column, example in enumerate(task.examples):
        with torch.no_grad():
            parts = Frozen(model, example).contributions()
        added = [v for part, v in parts.items() if str(part).startswith(("norm", "head", "decoder"))]
        assert len(added) == 2 * model.n_layers + 2
        assert found.constant[column] == pytest.approx(sum(added), abs=1e-9)


@pytest.mark.parametrize("name", [n for n in NAMES if model_for(n).modules.final_norm is not None])
def test_the_constant_is_what_the_last_biases_give(name):
    model, task = model_for(name), task_of("ioi", "greater-than", n=2).bind(model_for(name))
    found = logit_attribution(model, task)
    bias = getattr(model.modules.final_norm, "bias", None)
    for column, example in enumerate(task.examples):
        ids = torch.tensor([example.clean])
        with torch.no_grad():
            logits = hooked_logits(model, ids, torch.tensor([ids.shape[1]]))[0, example.answer_position]
            expected = 0.0
            for sign, chosen in ((1, example.answers), (-1, example.distractors)):
                share = logits[list(chosen)].softmax(0)
                expected -= sign * float((share * share.log()).sum())
                if bias is not None:
                    expected += sign * float(share @ model.modules.decoder.weight[list(chosen)] @ bias)
        assert found.constant[column] == pytest.approx(expected, abs=ROUNDING[name])


def test_the_head_that_writes_the_answer_contributes_most():
    planted = sequence_roles(n=4)
    found = logit_attribution(planted.model, planted.task)
    heads = [i for i, c in enumerate(found.components) if c.kind == "head"]
    assert found.components[max(heads, key=lambda i: found.mean[i])] == planted.heads["successor"]
    # it speaks against the member that it reads, which the mover copies
    assert found.components[min(heads, key=lambda i: found.mean[i])] == planted.heads["mover"]


def test_half_precision_sums_as_well():
    model = model_for("gpt2", torch.bfloat16)
    found = logit_attribution(model, task_of(n=2))
    exact = logit_attribution(model_for("gpt2"), task_of(n=2))
    total = found.values.sum(axis=0) + found.biases.sum(axis=0) + found.constant
    np.testing.assert_allclose(total, found.total, atol=1e-9)
    np.testing.assert_allclose(found.values, exact.values, atol=0.1 * np.abs(exact.values).max())


def test_progress_is_told():
    seen = []
    execution = Execution(batch_size=4, progress=lambda *told: seen.append(told))
    logit_attribution(model_for("llama"), task_of(n=3), execution=execution)
    assert seen == [("logit attribution", 4, 6), ("logit attribution", 6, 6)]


@pytest.mark.parametrize(("name", "frozen"), [("gpt2", False), ("bert", True)])
def test_it_says_what_is_frozen_can_be_saved_and_is_a_table(tmp_path, name, frozen):
    found = logit_attribution(model_for(name), task_of(n=2))
    assert ("every later norm" in found.definition) == frozen
    assert_same(load_run(save_run(tmp_path, found, manifest={}), LogitAttribution), found)
    table = found.to_pandas()
    assert table["logits"].sum() == pytest.approx(found.total.mean(), abs=1e-9)
    assert table["component"].tolist()[:2] == ["embed", "L0H0"]
    assert table["component"].tolist()[-2:] == ["b_O of layer 2", "constant"]
