"""Batch sizes, pieces on disk, and the fingerprint of a model."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from circuitkd.interventions import execution as module
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.execution import (
    Execution,
    Ledger,
    Plan,
    bytes_per_token,
    fingerprint,
    over_batches,
    plan,
)
from circuitkd.models import flops
from circuitkd.models.loading import load
from circuitkd.models.random_model import randomly_initialised
from small_runs import model_for, task_of


@pytest.mark.parametrize("size", [0, -3])
def test_a_batch_holds_a_prompt(size):
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, not {size}"):
        Execution(batch_size=size)


def test_progress_is_told():
    seen = []
    Execution(progress=lambda *piece: seen.append(piece)).report("work", 2, total=5)
    Execution().report("work", 2, total=5)
    assert seen == [("work", 2, 5)]


def test_a_small_task_is_one_batch():
    model = model_for("gpt2")
    bound = task_of().bind(model)
    found = plan(model, bound, execution=Execution())
    assert (found.batch_size, found.is_wide, found.tokens_limit) == (6, False, module.SMALL_TOKENS)
    assert found.full_forward == sum(flops.full_forward_flops(model, 1, len(e.clean)) for e in bound.examples)
    assert plan(model, bound, execution=Execution(batch_size=4)).batch_size == 4
    assert plan(model, bound, execution=Execution(batch_size=40)).batch_size == 6


def test_batches_fit_the_memory(monkeypatch):
    model = model_for("gpt2")
    bound = task_of().bind(model)
    n_pos = max(len(e.clean) for e in bound.examples)
    for rows, given in ((2, None), (2, 4), (1, 1)):
        monkeypatch.setattr(module, "CPU_BUDGET", 2.5 * n_pos * bytes_per_token(model, n_pos))
        assert plan(model, bound, execution=Execution(batch_size=given)).batch_size == rows
    monkeypatch.setattr(module, "CPU_BUDGET", 1.0)
    assert plan(model, bound, execution=Execution(batch_size=3)).batch_size == 1


def test_wide_models_run_a_component_at_a_time_on_the_cpu(monkeypatch):
    monkeypatch.setattr(module, "SMALL_WIDTH", 32)
    monkeypatch.setattr(module, "SMALL_TOKENS", 40)
    model = model_for("gpt2")
    bound = task_of().bind(model)
    found = plan(model, bound, execution=Execution())
    assert found.batch_size == 40 // max(len(e.clean) for e in bound.examples)
    assert found.group_size(1, 1) == 1
    assert plan(model, bound, execution=Execution(batch_size=5)).batch_size == 5


def test_as_many_components_as_are_worth_it():
    found = Plan(batch_size=4, tokens_limit=100, is_wide=False, full_forward=1.0)
    assert [found.group_size(rows, 10) for rows in (1, 4, 10, 11)] == [10, 2, 1, 1]
    found.halve()
    assert found.group_size(1, 10) == 5
    found.halve(3 * 10)
    assert found.group_size(1, 10) == 1


def test_memory_of_a_token_by_hand():
    model = model_for("gpt2", torch.float32)
    assert bytes_per_token(model, 10) == 4 * (14 * 32 + 2 * (2 * 128) + 2 * 4 * 10)


MEMBERS, ROWS = "layer 0: L0H0 MLP0", (4, 2, 7)
VALUES = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 1e-300]])


def test_pieces_are_found_again_under_their_rows_and_name(tmp_path):
    ledger = Ledger(tmp_path, "key")
    assert ledger.read(ROWS, MEMBERS, components=2) is None
    ledger.write(ROWS, MEMBERS, values=VALUES)
    np.testing.assert_array_equal(Ledger(tmp_path, "key").read(ROWS, MEMBERS, components=2), VALUES)
    assert ledger.read((4, 7, 2), MEMBERS, components=2) is None
    assert ledger.read(ROWS, "layer 0: L0H1 MLP0", components=2) is None
    assert ledger.read(ROWS, MEMBERS, components=3) is None
    assert Ledger(tmp_path, "other key").read(ROWS, MEMBERS, components=2) is None


def test_foreign_and_damaged_files_count_as_missing(tmp_path):
    ledger = Ledger(tmp_path, "key")
    ledger.write(ROWS, MEMBERS, values=VALUES)
    (path,) = tmp_path.iterdir()
    save_file({"other": VALUES}, path)
    assert ledger.read(ROWS, MEMBERS, components=2) is None
    path.write_bytes(b"\x00" * 30)
    assert ledger.read(ROWS, MEMBERS, components=2) is None
    path.unlink()
    path.mkdir()
    assert ledger.read(ROWS, MEMBERS, components=2) is None


def test_without_a_folder_nothing_is_kept():
    ledger = Ledger(None)
    ledger.write(ROWS, MEMBERS, values=VALUES)
    assert ledger.read(ROWS, MEMBERS, components=2) is None


def opened(folder, *, name="gpt2", ablation=None, noisy=False, **more):
    model = model_for(name)
    bound, execution = task_of(**more).bind(model), Execution(folder=folder)
    return Ledger.open(model, bound, ablation=ablation or Ablation(), execution=execution, noisy=noisy)


def test_the_key_says_what_decides_the_numbers(tmp_path, monkeypatch):
    keys = [
        opened(tmp_path).key,
        opened(tmp_path, name="llama").key,
        opened(tmp_path, n=2).key,
        opened(tmp_path, ablation=Ablation("zero")).key,
        opened(tmp_path, ablation=Ablation("mean", source="file", reference=task_of("ioi"))).key,
        opened(tmp_path, ablation=Ablation("mean", source="file", reference=task_of("ioi", n=4))).key,
    ]
    assert len(set(keys)) == len(keys)
    assert opened(tmp_path / "elsewhere").key == keys[0]
    monkeypatch.setattr(module, "software", lambda: {"circuitkd": "99"})
    assert opened(tmp_path).key not in keys
    assert opened(str(tmp_path)).folder == tmp_path
    assert opened(tmp_path, noisy=True).folder is None
    assert opened(None).folder is None


def test_a_folder_that_cannot_be_made_is_an_error_with_advice(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write to .*file/runs: .*; free some space or choose another folder"):
        opened(tmp_path / "file" / "runs")


def test_a_full_disk_is_an_error_with_advice(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match="cannot write to .*: No space left on device; free some space or choose"):
        Ledger(tmp_path, "key").write(ROWS, MEMBERS, values=VALUES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["gpt2", "bert", "llama"])
def test_every_single_weight_is_in_the_fingerprint(name):
    model = model_for(name, torch.float32)
    first, rng = fingerprint(model), np.random.default_rng(0)
    assert fingerprint(model_for(name, torch.float32)) == first
    for _, parameter in model.hf.named_parameters():
        place = int(rng.integers(parameter.numel()))
        with torch.no_grad():
            flat = parameter.view(-1)
            before = flat[place].clone()
            flat[place] = torch.nextafter(before, torch.tensor(9.0))
            assert fingerprint(model) != first
            flat[place] = before
    assert fingerprint(model) == first


def test_dtype_class_and_heads_are_in_the_fingerprint():
    models = [model_for("gpt2"), model_for("gpt2", torch.float32), model_for("gpt2", torch.bfloat16)]
    models += [model_for("gpt2", n_head=2), randomly_initialised(model_for("gpt2")), model_for("llama")]
    assert len({fingerprint(m) for m in models}) == len(models)


def test_a_saved_model_keeps_its_fingerprint(tmp_path):
    model = model_for("gpt2", torch.float32)
    model.hf.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    assert fingerprint(load(str(Path(tmp_path)), dtype=torch.float32, check=False)) == fingerprint(model)


def test_batches_that_do_not_fit_are_done_in_halves_and_in_order():
    done = []

    def work(rows):
        if len(rows) > 2:
            raise torch.OutOfMemoryError("too much")
        done.append(rows)

    over_batches([(0, 1, 2, 3, 4), (5, 6)], work, refusal="no room")
    assert done == [(0, 1), (2,), (3, 4), (5, 6)]

    def never(rows):
        raise torch.OutOfMemoryError("too much")

    with pytest.raises(ValueError, match="^no room$"):
        over_batches([(0, 1)], never, refusal="no room")


def test_groups_shrink_when_memory_runs_out_and_stay_small():
    chosen = Plan(batch_size=2, tokens_limit=80, is_wide=False, full_forward=1.0)

    def measure(group):
        if len(group) > 3:
            raise torch.OutOfMemoryError("too much")
        return list(group)

    assert chosen.in_groups(range(7), (2, 5), measure=measure) == [[0, 1, 2], [3, 4, 5], [6]]
    assert chosen.tokens_limit == 35
