"""Compressed students: each is the function it claims to be, saves as a plain folder, and compares."""

from __future__ import annotations

import copy
import json
import sys
from functools import cache, partial

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import circuitkd as ck
import compress
from circuitkd.comparison.robustness import slope
from circuitkd.components import Component
from circuitkd.models import blocks
from circuitkd.models.hooks import hooked_logits
from circuitkd.reports import wording
from compressing import cutting, rewriting
from compressing import training as trained
from compressing.prompts import mean_logit_difference
from compressing.training import Training
from small_runs import model_for, task_of
from surgery import without_output
from tiny_models import SPECS, padded_batch, tiny, tiny_hf

HEADS_CAN_GO = ("llama", "mistral", "qwen2", "qwen3")
model_of = cache(lambda name, layers=3: tiny(name, torch.float64, **shape_of(name, layers)))
TASK = task_of("ioi", n=8)


def shape_of(name, layers):
    return {} if layers == 3 or name == "distilbert" else {"num_hidden_layers": layers}


def wrapped(hf, model):
    return ck.wrap(hf, model.tokenizer, name="student", check=True)


@torch.no_grad()
def logits(model, edits=None):
    tokens, lengths = padded_batch(model)
    real = torch.arange(tokens.shape[1]) < lengths[:, None]
    return hooked_logits(model, tokens, lengths, edits)[real]


def assert_close(found, wanted, tolerance=1e-9):
    assert float((found - wanted).abs().max()) <= tolerance * float(wanted.abs().max())


# Heads


@pytest.mark.parametrize("name", HEADS_CAN_GO)
def test_without_heads_is_the_teacher_with_those_heads_silent(name):
    teacher, kept = model_of(name), [[0], [1], [0]]
    student = wrapped(cutting.with_groups(teacher, kept), teacher)
    assert (student.n_heads, student.n_kv_heads, student.d_head, student.d_model) == (2, 1, teacher.d_head, 32)
    gone = [Component("head", layer, head) for layer, (g,) in enumerate(kept) for head in range(4) if head // 2 != g]
    silent = logits(teacher, dict.fromkeys(gone, torch.zeros_like))
    assert_close(logits(student), silent)
    assert float((silent - logits(teacher)).abs().max()) > 0.1


def test_heads_without_influence_go_and_the_logits_stay():
    teacher = model_for("llama")
    for layer, group in ((0, 1), (1, 0), (2, 1)):
        for head in (2 * group, 2 * group + 1):
            teacher = without_output(teacher, Component("head", layer, head))
    kept = cutting.important_groups(teacher, TASK, keep=0.5)
    assert kept == [[0], [1], [0]]
    assert_close(logits(wrapped(cutting.with_groups(teacher, kept), teacher)), logits(teacher))


@pytest.mark.parametrize("name", sorted(set(SPECS) - set(HEADS_CAN_GO)))
def test_classes_that_tie_the_head_size_to_the_width_keep_their_heads(name):
    with pytest.raises(ValueError, match=r"fixes n_heads \* d_head to d_model \(4 \* 8 = 32\), so fewer heads"):
        cutting.with_groups(model_of(name), [[0], [0], [0]])


# Layers


@pytest.mark.parametrize("name", SPECS)
def test_without_layers_is_the_teacher_with_those_layers_skipped(name):
    teacher = model_of(name)
    student = wrapped(cutting.without_layers(teacher, [1]), teacher)
    tokens, lengths = padded_batch(teacher)
    with torch.no_grad():
        resid, context = blocks.embed(teacher, tokens, lengths)
        for layer in range(teacher.n_layers):
            resid = resid if layer == 1 else blocks.block(teacher, layer, resid, context)
        skipped = blocks.logits(teacher, resid)[torch.arange(tokens.shape[1]) < lengths[:, None]]
    assert student.n_layers == teacher.n_layers - 1
    assert_close(logits(student), skipped, 1e-7 if name == "qwen3" else 1e-9)


def test_the_block_that_costs_least_is_dropped():
    teacher = model_for("gpt2", num_hidden_layers=4)
    left = {}
    for start in (1, 2):
        student = ck.wrap(cutting.without_layers(teacher, [start, start + 1]), teacher.tokenizer, check=False)
        left[start] = ck.sweep(student, TASK).base.mean()
    best = max(left, key=left.get)
    assert list(cutting.block_to_drop(teacher, TASK, keep=0.5)) == [best, best + 1]
    assert mean_logit_difference(teacher, TASK) == pytest.approx(ck.sweep(teacher, TASK).base.mean(), rel=1e-9)


def test_an_unharmed_depth_pruned_student_aligns_with_itself():
    teacher = model_for("llama")
    with torch.no_grad():
        last = teacher.hf.model.layers[2]
        for module in (last.self_attn.o_proj, last.mlp.down_proj):
            module.weight.zero_()
            module.bias.zero_()
    student = wrapped(cutting.without_layers(teacher, [2]), teacher)
    assert_close(logits(student), logits(teacher))
    found = ck.compare(teacher, student, TASK, options=ck.CompareOptions(random_null=False))
    matched = {str(p.teacher): p for p in found.alignment.pairs}
    for component in student.components:
        pair = matched[str(component)]
        assert pair.student == component
        assert pair.similarity == pytest.approx(1, abs=1e-9)
        assert pair.student_influence == pytest.approx(pair.teacher_influence, abs=1e-9)
    dropped = [p for name, p in matched.items() if name not in map(str, student.components)]
    assert len(dropped) == 5 and max(p.teacher_influence for p in dropped) < 1e-9


def test_a_harmed_depth_pruned_student_is_itself_up_to_the_cut():
    teacher = model_for("llama", num_hidden_layers=4)
    student = wrapped(cutting.without_layers(teacher, [1, 2]), teacher)
    found = ck.compare(teacher, student, TASK, options=ck.CompareOptions(random_null=False))
    pairs = {str(p.teacher): p for p in found.alignment.pairs}
    for name in ("L0H0", "L0H1", "L0H2", "L0H3", "MLP0"):
        assert str(pairs[name].student) == name
        assert pairs[name].similarity == pytest.approx(1, abs=1e-9)
    assert found.similarity.head[12, 4] < 0.999  # the same weights after the cut read something else


# MLPs


@pytest.mark.parametrize("name", SPECS)
def test_narrow_mlps_are_the_teacher_with_those_neurons_silent(name):
    teacher = model_of(name)
    width = cutting.mlp_width(teacher)
    order = [np.random.default_rng(layer).permutation(width) for layer in range(teacher.n_layers)]
    kept = [sorted(o[: width // 4].tolist()) for o in order]
    student = wrapped(cutting.with_neurons(teacher, kept), teacher)
    assert cutting.mlp_width(student) == width // 4
    silent = copy.deepcopy(teacher.hf)
    names = [n for n, p in silent.named_parameters() if p.dim() == 2 and out_of_the_mlp(n)]
    assert len(names) == teacher.n_layers
    with torch.no_grad():
        for full, neurons in zip(names, order, strict=True):
            weight = silent.get_parameter(full)
            gone = torch.tensor(neurons[width // 4 :])
            weight[gone if name == "gpt2" else (slice(None), gone)] = 0
    assert_close(logits(student), logits(wrapped(silent, teacher)), 1e-7 if name == "qwen3" else 1e-9)


def out_of_the_mlp(name):
    ends = ("mlp.c_proj.weight", "mlp.down_proj.weight", "lin2.weight", "dense_4h_to_h.weight")
    return name.endswith(ends) or (name.endswith("output.dense.weight") and "attention" not in name)


@pytest.mark.parametrize("name", ["gpt2", "bert", "llama"])
def test_neurons_that_write_most_are_kept(name):
    teacher = model_for(name)
    wide = [sorted(np.random.default_rng(layer).permutation(64)[:32].tolist()) for layer in range(3)]
    for block, kept in zip(teacher.hf.get_submodule(teacher.architecture.blocks), wide, strict=True):
        out = block.get_submodule(cutting.MLPS[name][1]).weight
        quiet = torch.ones(out.shape[0 if name == "gpt2" else 1]).double()
        quiet[[n for n in range(len(quiet)) if n not in kept]] = 1e-6
        with torch.no_grad():
            out.mul_(quiet[:, None] if name == "gpt2" else quiet)
    assert cutting.important_neurons(teacher, TASK, keep=32 / cutting.mlp_width(teacher)) == wide


# Rounded and factored matrices


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt2", "bert", "llama"])
def test_int8_is_within_half_a_step_and_has_few_levels(name):
    teacher = model_of(name)
    hf, stored = rewriting.to_int8(teacher)
    changed, counted = 0, 0
    for full, weight in teacher.hf.named_parameters():
        rounded = hf.get_parameter(full)
        if weight.dim() != 2 or not full.startswith(teacher.architecture.blocks):
            assert torch.equal(rounded, weight)
            continue
        channels = (weight.T, rounded.T) if name == "gpt2" else (weight, rounded)  # a Conv1D has outputs last
        step = channels[0].abs().amax(1, keepdim=True) / 127
        assert float(((channels[1] - channels[0]).abs() / step).max()) <= 0.5 + 1e-9
        levels = channels[1] / step
        assert float((levels - levels.round()).abs().max()) < 1e-9 and float(levels.abs().max()) <= 127 + 1e-9
        changed, counted = changed + 1, counted + weight.numel() + 4 * len(channels[0])
    assert changed >= 4 * teacher.n_layers
    assert stored == counted


def test_int8_keeps_a_channel_of_zeros():
    assert torch.equal(rewriting.rounded(torch.tensor([[0.0, 0.0], [1.0, -0.5]]), 0)[0], torch.zeros(2))


def test_an_int8_student_is_nearly_its_teacher_and_has_no_slope():
    teacher = model_for("llama", torch.float32)
    student = wrapped(rewriting.to_int8(teacher)[0], teacher)
    found = ck.compare(teacher, student, TASK, options=ck.CompareOptions(random_null=False))
    assert found.alignment.score > 0.97
    assert [p.teacher for p in found.alignment.pairs] == [p.student for p in found.alignment.pairs]
    assert found.student.parameter_count == found.teacher.parameter_count
    assert found.robustness.slope is None
    assert wording.slope_text(found.robustness).startswith("No slope: the student has no fewer parameters")


@pytest.mark.parametrize("name", ["gpt2", "bert", "llama"])
def test_full_rank_is_the_identity(name):
    teacher = model_of(name)
    hf, found = rewriting.to_low_rank(teacher, 2.0)
    assert {energy for _, energy in found} == {1.0}
    assert_close(logits(wrapped(hf, teacher)), logits(teacher))


def test_low_rank_is_the_closest_and_its_factors_are_small():
    matrix = torch.randn(12, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cut, energy = rewriting.truncated(matrix, 4)
    values = np.linalg.svd(matrix.numpy(), compute_uv=False)
    assert np.linalg.matrix_rank(cut.numpy()) == 4
    assert float((matrix - cut).square().sum()) == pytest.approx((values[4:] ** 2).sum(), rel=1e-9)
    assert energy == pytest.approx((values[:4] ** 2).sum() / (values**2).sum(), rel=1e-9)
    teacher = model_of("llama")
    _, found = rewriting.to_low_rank(teacher, 0.5)
    for module, (rank, _) in zip(rewriting.matrices(teacher.hf, teacher), found, strict=True):
        rows, columns = module.weight.shape
        assert rank * (rows + columns) <= rows * columns / 2 < (rank + 1) * (rows + columns)


# Training


@pytest.mark.parametrize("name", ["gpt2", "bert", "llama"])
def test_merged_adapters_are_the_unmerged_ones(name):
    teacher = model_of(name)
    adapted = trained.with_adapters(teacher)
    with torch.no_grad():
        for full, parameter in adapted.named_parameters():
            if "lora_B" in full:
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(full))))
    tokens, _ = padded_batch(teacher, lengths=(9, 9))
    with torch.no_grad():
        unmerged = adapted(input_ids=tokens).logits
        merged = wrapped(adapted.merge_and_unload(), teacher)
        assert_close(merged.hf(input_ids=tokens).logits, unmerged)
        assert float((unmerged - teacher.hf(input_ids=tokens).logits).abs().max()) > 0.1
    assert merged.parameter_count == teacher.parameter_count
    assert type(merged.hf) is type(teacher.hf)


def test_adapters_are_all_that_lora_trains():
    teacher = model_for("llama", torch.float32)
    before = {name: value.clone() for name, value in teacher.hf.state_dict().items()}
    adapted = trained.with_adapters(teacher)
    losses = trained.train(adapted, teacher, TASK, Training(steps=5, learning_rate=1e-2))
    assert losses[-1] < losses[0]
    for name, value in adapted.get_base_model().state_dict().items():
        if "lora" not in name:
            assert torch.equal(value, before[name.replace("base_layer.", "")])
    assert all(torch.equal(value, before[name]) for name, value in teacher.hf.state_dict().items())


def test_fine_tuning_learns_the_answers_and_leaves_the_teacher():
    teacher = model_for("bert", torch.float32)
    before = {name: value.clone() for name, value in teacher.hf.state_dict().items()}
    hf, losses = trained.fine_tuned(teacher, TASK, Training(steps=20, learning_rate=1e-2))
    assert len(losses) == 20 and losses[-1] < 0.5 * losses[0]
    assert mean_logit_difference(wrapped(hf, teacher), TASK) > mean_logit_difference(teacher, TASK) + 1
    assert all(torch.equal(value, before[name]) for name, value in teacher.hf.state_dict().items())


def test_the_loss_reads_the_answer_where_the_task_does():
    values = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.full((2, 4), -100)
    labels[0, 3], labels[1, 1] = 2, 4
    by_hand = -(values[0, 3].log_softmax(-1)[2] + values[1, 1].log_softmax(-1)[4])
    assert float(trained.answer_loss({"logits": values}, labels)) == pytest.approx(float(by_hand / 2), rel=1e-12)
    assert float(trained.answer_loss({"logits": values}, labels, 8)) == pytest.approx(float(by_hand / 8), rel=1e-12)


# The script


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tiny GPT-2, Llama and one-layer Llama, and a class that is not supported."""
    root = tmp_path_factory.mktemp("teachers")
    words = model_for("gpt2").tokenizer
    for name, kind, layers in (("gpt2", "gpt2", 2), ("llama", "llama", 2), ("flat", "llama", 1)):
        tiny_hf(kind, vocab_size=len(words), num_hidden_layers=layers).save_pretrained(root / name)
        words.save_pretrained(root / name)
    words.save_pretrained(root / "opt")
    (root / "opt" / "config.json").write_text(json.dumps({"model_type": "opt", "architectures": ["OPTForCausalLM"]}))
    (root / "opt" / "model.safetensors").write_bytes((root / "gpt2" / "model.safetensors").read_bytes())
    return root


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(compress, "EXAMPLES", 40)
    monkeypatch.setattr("circuitkd.analysis.slope", partial(slope, draws=100))


def failed(capsys, *arguments):
    """What the script says before it ends with code 2."""
    with pytest.raises(SystemExit) as end:
        compress.main([str(a) for a in arguments])
    assert end.value.code == 2
    return capsys.readouterr().err


def test_all_kinds_are_plain_folders_and_compare(folders, tmp_path, capsys, small):
    out = tmp_path / "students"
    compress.main(["all", str(folders / "llama"), str(out), "--steps", "2", "--compare"])
    lines = capsys.readouterr().out.splitlines()
    assert sorted(p.name for p in out.iterdir()) == sorted([*compress.KINDS, "held-out.jsonl"])
    teacher, expected = ck.load(str(folders / "llama")), {}
    for kind in compress.KINDS:
        plain = AutoModelForCausalLM.from_pretrained(out / kind, use_safetensors=True)
        assert AutoTokenizer.from_pretrained(out / kind).get_vocab() == teacher.tokenizer.get_vocab()
        found = ck.load(str(out / kind))
        assert sum(p.numel() for p in plain.parameters()) == found.parameter_count
        expected[kind] = (found.n_layers, found.n_heads, cutting.mlp_width(found))
        facts = json.loads((out / kind / "compression.json").read_text())
        assert f"{kind}: {facts['how']}" in lines and facts["teacher"] == str(folders / "llama")
    assert expected == dict.fromkeys(compress.KINDS, (2, 4, 64)) | {
        "pruned-heads": (2, 2, 64),
        "pruned-layers": (1, 4, 64),
        "narrow-mlps": (2, 4, 32),
    }
    rows = [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")]
    assert rows == ["student", "---", *compress.KINDS]
    held_out = ck.load_task(out / "held-out.jsonl")
    assert len(held_out) == 8
    seen = {e.clean for e in ck.load_task("ioi", n=40, seed=0).examples} - {e.clean for e in held_out.examples}
    assert len(seen) == 32  # every prompt is in one part only
    (row,) = [line for line in lines if line.startswith("| int8 |")]
    again = ck.compare(teacher, ck.load(str(out / "int8")), held_out)
    assert f"{again.alignment.score:.3f}" in row and row.startswith("| int8 | 100% | ")


def test_what_a_class_cannot_have_is_left_out_of_all(folders, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "peft", None)
    assert compress.possible(ck.load(str(folders / "gpt2")), 0.5) == [
        "pruned-layers",
        "narrow-mlps",
        "int8",
        "low-rank",
        "fine-tuned",
    ]
    said = capsys.readouterr().out
    assert "pruned-heads: left out: GPT2LMHeadModel fixes n_heads * d_head to d_model" in said
    assert "lora-merged: left out: lora-merged needs peft: pip install 'circuitkd[examples]'" in said


def test_healing_trains_a_cut_student(small):
    teacher = model_for("llama", torch.float32)
    hf, words = compress.make("pruned-layers", teacher, compress.Recipe(TASK, 0.5, Training(3), heal=True))
    assert hf.config.num_hidden_layers == 2
    assert "then all parameters trained for 3 steps" in words
    cut = cutting.without_layers(teacher, json.loads(words.split(": ")[1].split(";")[0]))
    assert not torch.equal(next(hf.parameters()), next(cut.parameters()))


def test_bad_input(folders, tmp_path, capsys):
    new, full = tmp_path / "new", tmp_path / "full"
    full.mkdir()
    llama = folders / "llama"
    assert "invalid choice: 'pruned'" in failed(capsys, "pruned", llama, new)
    assert f"{full} exists already: choose another OUTPUT_DIR" in failed(capsys, "int8", llama, full)
    assert "--keep is a share above 0 and below 1, not 1" in failed(capsys, "int8", llama, new, "--keep", 1)
    assert "--steps must be at least 1, not 0" in failed(capsys, "int8", llama, new, "--steps", 0)
    assert "--heal is for pruned-heads, pruned-layers, narrow-mlps: " in failed(capsys, "int8", llama, new, "--heal")
    assert "is not supported" in failed(capsys, "int8", folders / "opt", new)
    assert "unknown task 'oi'" in failed(capsys, "int8", llama, new, "--task", "oi")
    assert "with its own head_dim (llama," in failed(capsys, "pruned-heads", folders / "gpt2", new)
    assert "keeping 0.5 of 1 drops nothing" in failed(capsys, "pruned-layers", folders / "flat", new)
    assert not new.exists()


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    teacher = model_for("gpt2", torch.float32)

    def fails(folder):
        raise OSError("no space left")

    made = (copy.deepcopy(teacher.hf), "nothing")
    broken = copy.copy(teacher)
    object.__setattr__(broken, "tokenizer", type("Broken", (), {"save_pretrained": staticmethod(fails)})())
    with pytest.raises(OSError, match="no space left"):
        compress.save(made, broken, tmp_path / "student")
    assert list(tmp_path.iterdir()) == []
