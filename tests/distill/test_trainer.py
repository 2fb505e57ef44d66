"""Equivalences: accumulation, weight 0, resuming, caching; what is logged, saved and refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, EarlyStoppingCallback, Trainer, TrainerCallback

from circuitkd.comparison.cka import cka as cka_of_arrays
from circuitkd.components import Component
from circuitkd.distill.circuit_parameters import CircuitParameters
from circuitkd.distill.data import answer_positions, collate, rows_of
from circuitkd.distill.losses import alignment_loss
from circuitkd.distill.objective import Alignment, Objective
from circuitkd.distill.signals import LiveTeacher, Needs, at_points
from circuitkd.distill.student import run_student
from circuitkd.models import blocks
from distill_cases import pair, shared_pair
from distill_runs import HEADS, PAIRS, aligned, arguments, largest_difference, make, same_bits, trained, weights


def wide(**changes):
    return pair("llama", dtype=torch.float64, **changes)


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize(
    "objective", [Objective(), Objective("kl"), Objective("ground-truth")], ids=lambda o: o.task_loss
)
def test_accumulating_is_one_large_batch(objective):
    whole = make(wide(), objective)
    whole.train()
    parts = make(wide(), objective, per_device_train_batch_size=1, gradient_accumulation_steps=8)
    parts.train()
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-6)
    assert largest_difference(weights(whole), weights(parts)) < 1e-9


@pytest.mark.parametrize("objective", [Objective(), aligned(gather_rows=True, weight=0.7)], ids=["ce", "ce and cka"])
def test_the_log_has_the_terms_of_the_loss(objective):
    whole = make(wide(), objective, max_steps=4, logging_steps=2)
    whole.train()
    parts = make(
        wide(), objective, max_steps=4, logging_steps=2, per_device_train_batch_size=2, gradient_accumulation_steps=4
    )
    parts.train()
    for one, several in zip(*(terms(t) for t in (whole, parts)), strict=True):
        assert several == pytest.approx(one, rel=1e-5)
        loss, task, *alignment = one
        assert loss == pytest.approx(task + 0.7 * sum(alignment), rel=1e-5)
        assert len(alignment) == (objective.alignment is not None)
    ablated = make(None, Objective(None, alignment=Alignment(PAIRS)))
    ablated.train()
    assert all(len(entry) == 2 and entry[0] == pytest.approx(entry[1]) for entry in terms(ablated))


def terms(trainer):
    """Loss, task loss and alignment loss of each log entry of training, as far as it has them."""
    names = ("loss", "task_loss", "alignment_loss")
    return [[e[n] for n in names if n in e] for e in trainer.state.log_history if "loss" in e]


@pytest.mark.parametrize(("points", "size"), [("answer", 1), ("tokens", 2)])
def test_gathered_rows_are_one_large_batch_for_cka_too(points, size):
    objective = aligned(gather_rows=True, points=points, weight=0.7, reduction="mean")
    whole = make(wide(), replace(objective, alignment=replace(objective.alignment, gather_rows=False)))
    whole.train()
    parts = make(wide(), objective, per_device_train_batch_size=size, gradient_accumulation_steps=8 // size)
    parts.train()
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-6)
    assert largest_difference(weights(whole), weights(parts)) < 1e-9


def test_without_gathering_each_micro_batch_has_its_own_cka():
    whole = trained(wide(), aligned())
    parts = trained(wide(), aligned(), per_device_train_batch_size=4, gradient_accumulation_steps=2)
    assert largest_difference(whole, parts) > 1e-6


class PlainDistillation(Trainer):
    """Cross-entropy on the teacher's top tokens, written on Hugging Face's forward alone."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        case, at = self.case, (torch.arange(len(inputs["input_ids"])), answer_positions(inputs))
        mask = (torch.arange(inputs["input_ids"].shape[1]) < inputs["lengths"][:, None]).long()
        keep = inputs["input_ids"].shape[1] - int(at[1].min())
        at = (at[0], at[1] - int(at[1].min()))
        shared = {"input_ids": inputs["input_ids"], "attention_mask": mask, "use_cache": False, "logits_to_keep": keep}
        with torch.no_grad():
            labels = case.teacher.hf(**shared).logits[at].argmax(-1)
        return torch.nn.functional.cross_entropy(model(**shared).logits[at], labels)


def test_weight_0_is_plain_distillation_bit_by_bit(tmp_path):
    case = pair("llama")
    plain = PlainDistillation(
        case.student.hf,
        arguments(tmp_path, max_steps=3, remove_unused_columns=False),
        data_collator=collate,
        train_dataset=rows_of(case.bound[1]),
    )
    plain.case = case
    plain.train()
    reference = {n: v.clone() for n, v in case.student.hf.state_dict().items()}
    assert same_bits(trained(heads=None, max_steps=3), reference)
    weightless = aligned(weight=0.0)
    assert same_bits(trained(None, weightless, heads=None, max_steps=3), reference)
    assert same_bits(trained(None, weightless, max_steps=3), trained(max_steps=3))
    assert not same_bits(trained(None, aligned(weight=0.1), max_steps=3), trained(max_steps=3))


def test_the_loss_is_task_plus_weighted_alignment():
    case = wide()
    trainer = make(case, aligned(weight=3.0))
    batch = collate([trainer.train_dataset[i] for i in range(8)])
    found = float(trainer.compute_loss(case.student.hf, batch).detach())
    run = run_student(case.student, case.student.hf, batch=batch, with_z=True)
    signals = LiveTeacher(case.teacher, Needs(tuple(t for _, t in PAIRS), labels=True)).signals(batch)
    task = torch.nn.functional.cross_entropy(run.logits, signals.labels)
    z = [at_points(run.z[s.layer], batch, points="answer").unflatten(-1, (4, -1))[:, s.head] for s, _ in PAIRS]
    expected = task + 3.0 * alignment_loss(torch.stack(z), signals.z)
    assert found == pytest.approx(float(expected.detach()), rel=1e-12)
    # A quarter of a step's 32 rows counts for a quarter.
    assert float(trainer.compute_loss(case.student.hf, batch, num_items_in_batch=32).detach()) == pytest.approx(
        found / 4
    )


def test_a_student_equal_to_its_teacher_has_nothing_to_align():
    case = shared_pair("llama")
    same = replace(case, student=case.teacher, bound=(case.bound[0], case.bound[0]))
    for alignment in (Alignment(((HEADS[0],) * 2, (HEADS[1],) * 2)), Alignment(((HEADS[0],) * 2,), debiased=True)):
        trainer = make(same, Objective(None, alignment=alignment), heads=HEADS)
        batch = collate([trainer.train_dataset[i] for i in range(8)])
        assert float(trainer.compute_loss(case.teacher.hf, batch).detach()) == pytest.approx(0.0, abs=1e-5)


def test_resuming_is_never_having_stopped(tmp_path):
    objective = replace(aligned(), head_ablation=0.3)
    whole = trained(None, objective, folder=tmp_path / "whole", max_steps=6, per_device_train_batch_size=3)
    options = {"max_steps": 6, "per_device_train_batch_size": 3, "save_strategy": "steps", "save_steps": 2}

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            control.should_training_stop = state.global_step == 4

    stopped = make(None, objective, folder=tmp_path / "parts", options={"callbacks": [Stop()]}, **options)
    stopped.train()
    assert not same_bits(weights(stopped), whole)
    resumed = make(None, objective, folder=tmp_path / "parts", **options)
    resumed.train(resume_from_checkpoint=True)
    assert same_bits(weights(resumed), whole)
    assert resumed.untouched.identical


def test_a_checkpoint_of_another_student_is_refused(tmp_path):
    make(folder=tmp_path, save_strategy="steps", save_steps=1).train()
    other = make(folder=tmp_path, heads=(Component.parse("L0H2"), HEADS[1]), max_steps=4)
    with pytest.raises(ValueError, match="values outside the circuit have changed since the trainer was made"):
        other.train(resume_from_checkpoint=True)


@pytest.mark.parametrize("bf16", [False, True])
def test_everything_outside_keeps_its_bits_and_the_rest_loads_anywhere(tmp_path, bf16):
    case = pair("llama")
    before = {n: v.clone() for n, v in case.student.hf.state_dict().items()}
    trainer = make(
        case,
        aligned(),
        folder=tmp_path,
        max_steps=12,
        max_grad_norm=0.5,
        gradient_accumulation_steps=2,
        bf16=bf16,
        per_device_train_batch_size=4,
        save_strategy="steps",
        save_steps=6,
    )
    trainer.train()
    masks, after = CircuitParameters.of(case.student, HEADS).masks, weights(trainer)
    for name, value in before.items():
        mask = masks.get(name, torch.zeros_like(value, dtype=torch.bool))
        assert torch.equal(value[~mask], after[name][~mask]) and bool((value != after[name])[mask].all()), name
    assert trainer.untouched.identical and trainer.untouched.before == trainer.untouched.after
    saved = tmp_path / "checkpoint-12"
    loaded = AutoModelForCausalLM.from_pretrained(saved)
    assert same_bits(loaded.state_dict(), after)
    assert loaded.config.use_cache == case.teacher.hf.config.use_cache
    size = sum(v.numel() * v.element_size() for v in after.values())
    assert (saved / "model.safetensors").stat().st_size < size + 20_000  # no teacher in it
    state = torch.load(saved / "optimizer.pt", weights_only=True)["state"]
    assert len(state) == len(masks)


def test_the_manifest_says_what_was_trained(tmp_path):
    trainer = make(None, aligned(), folder=tmp_path)
    trainer.train()
    found = json.loads((tmp_path / "manifest.json").read_text())
    parts = trainer.keeper.parameters
    assert found["heads"] == ["L0H3", "L1H0"] and found["heads_sharing_kv"] == ["L0H2", "L1H1"]
    assert found["parameter_share"] == parts.parameter_share and found["head_share"] == 0.25
    assert found["untouched"]["identical"] is True and len(found["untouched"]["before"]) == 64
    assert found["objective"]["alignment"]["pairs"] == [["L0H3", "L0H0"], ["L1H0", "L2H1"]]
    assert found["steps"] == 2 and found["software"]["transformers"]
    make(folder=tmp_path / "all", heads=None).train()
    whole = json.loads((tmp_path / "all" / "manifest.json").read_text())
    assert "heads" not in whole and "untouched" not in whole


def test_a_write_outside_the_circuit_ends_the_run_with_an_error():
    class Vandal(TrainerCallback):
        def on_step_end(self, args, state, control, model, **_):
            with torch.no_grad():
                model.get_input_embeddings().weight[3] += 1e-7

    with pytest.raises(
        ValueError, match="values outside the circuit have changed since the trainer was made: something"
    ):
        make(options={"callbacks": [Vandal()]}).train()


def test_a_cached_teacher_trains_the_same_student_and_runs_once(tmp_path, monkeypatch):
    # The same rows in every batch, so that live and cached teachers run equal batches.
    cached = make(None, aligned(), options={"teacher_cache": tmp_path}, max_steps=3)
    runs, plain = [], blocks.embed
    monkeypatch.setattr(blocks, "embed", lambda *a: runs.append(1) or plain(*a))
    cached.train()
    assert not runs
    live = trained(None, aligned(), max_steps=3)
    assert len(runs) == 3
    assert largest_difference(weights(cached), live) < 1e-5
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_evaluation_during_training(tmp_path):
    case = wide()
    trainer = make(case, aligned(), folder=tmp_path, eval_strategy="steps", eval_steps=1)
    trainer.train()
    entries = [e for e in trainer.state.log_history if "eval_accuracy" in e]
    assert [e["step"] for e in entries] == [1, 2]
    found, bound = entries[-1], case.bound[1]
    batch = collate([trainer.eval_dataset[i] for i in range(len(bound))])
    signals = LiveTeacher(case.teacher, Needs(tuple(t for _, t in PAIRS), labels=True)).signals(batch)
    with torch.no_grad():
        run = run_student(case.student, case.student.hf, batch=batch, with_z=True)
    right = [int(row.argmax()) in e.answers for row, e in zip(run.logits, bound.examples, strict=True)]
    assert found["eval_accuracy"] == pytest.approx(sum(right) / 8)
    ce = float(torch.nn.functional.cross_entropy(run.logits, signals.labels))
    assert found["eval_ce"] == pytest.approx(ce, rel=1e-6)
    assert found["eval_loss"] == pytest.approx(ce, rel=0.2)  # the Trainer's mean over batches of unequal size
    z = [at_points(run.z[s.layer], batch, points="answer").unflatten(-1, (4, -1))[:, s.head] for s, _ in PAIRS]
    ckas = [cka_of_arrays(a.numpy(), b.numpy()) for a, b in zip(z, signals.z, strict=True)]
    assert found["eval_cka"] == pytest.approx(sum(ckas) / 2, rel=1e-5)


def test_early_stopping_is_the_trainers_own(tmp_path):
    options = {"callbacks": [EarlyStoppingCallback(early_stopping_patience=1)]}
    trainer = make(
        folder=tmp_path,
        options=options,
        max_steps=20,
        learning_rate=0.0,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
    )
    trainer.train()
    assert trainer.state.global_step == 2 and trainer.untouched.identical


def test_alignment_alone_raises_cka():
    trainer = make(None, Objective(None, alignment=Alignment(PAIRS)), max_steps=25, learning_rate=2e-2)
    before = trainer.evaluate()["eval_cka"]
    trainer.train()
    assert trainer.evaluate()["eval_cka"] > before + 0.05


def test_the_surrogate_raises_agreement():
    alignment = Alignment(PAIRS, kind="surrogate", teacher_influence=(1.0, 0.0))
    trainer = make(None, Objective(None, alignment=alignment), max_steps=25, learning_rate=2e-2)
    trainer.train()
    assert 0 < losses(trainer)[0] < 1
    assert losses(trainer)[-1] < losses(trainer)[0] - 0.05


def test_the_surrogate_with_a_circuit_in_the_last_layer_alone():
    alignment = Alignment(PAIRS, kind="surrogate", teacher_influence=(1.0, 0.0))
    heads = [Component.parse("L1H0")]
    trainer = make(pair("gpt2"), Objective(None, alignment=alignment), heads=heads, max_steps=2)
    trainer.train()
    assert trainer.untouched.identical and losses(trainer)[1] != losses(trainer)[0]


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_other_architectures(name, tmp_path):
    trainer = make(pair(name), aligned(), folder=tmp_path)
    trainer.train()
    assert trainer.untouched.identical and all(loss > 0 for loss in losses(trainer))


def test_hugging_face_models_do_as_well():
    case = pair("llama")
    bare = replace(case, student=case.student.hf, teacher=case.teacher.hf)
    trainer = make(bare, aligned(), options={"processing_class": case.student.tokenizer})
    trainer.train()
    assert same_bits(weights(trainer), trained(None, aligned()))
    assert trainer.processing_class is case.student.tokenizer


def test_models_of_different_vocabularies():
    case = pair("llama")
    other = pair("llama").teacher
    other = replace(other, tokenizer=None, vocab_size=other.vocab_size + 1)
    with pytest.raises(
        ValueError, match=rf"differ \({case.student.vocab_size + 1} and {case.student.vocab_size} tokens\)"
    ):
        make(replace(case, teacher=other))


def test_missing_heads():
    missing = Component.parse("L5H0")
    for pairs, side in ((((missing, HEADS[0]),), "student"), (((HEADS[0], missing),), "teacher")):
        with pytest.raises(ValueError, match=f"the pairs name L5H0, which the {side} tiny-llama does not have"):
            make(None, Objective(alignment=Alignment(pairs)))
    with pytest.raises(ValueError, match="the circuit's heads are L5H0: give one or more of the 8 heads"):
        make(heads=(missing,))
    with pytest.raises(ValueError, match="the circuit's heads are none: give one or more"):
        make(heads=())


@pytest.mark.parametrize(
    ("alignment", "changes", "message"),
    [
        ({}, {"per_device_train_batch_size": 1}, "CKA needs at least 2 rows and a batch has 1: choose another"),
        ({"debiased": True}, {"per_device_train_batch_size": 3}, "CKA needs at least 4 rows and a batch has 3"),
        ({}, {"per_device_train_batch_size": 7}, "at least 2 rows and the last of 8 rows make a batch of 1: choose"),
        ({"gather_rows": True}, {"per_device_train_batch_size": 1}, "CKA needs at least 2 rows and a batch has 1"),
    ],
)
def test_batches_too_small_for_cka(alignment, changes, message):
    with pytest.raises(ValueError, match=message):
        make(None, aligned(**alignment), **changes)


def test_dropped_last_batches_and_gathered_rows_are_enough():
    make(None, aligned(), per_device_train_batch_size=7, dataloader_drop_last=True)
    make(None, aligned(gather_rows=True), per_device_train_batch_size=1, gradient_accumulation_steps=2)


def test_few_rows_are_a_warning():
    with pytest.warns(UserWarning, match="biased CKA over 8 rows of width 12 is high for unrelated heads too"):
        make(None, aligned())


def test_dropout_cannot_be_run_twice():
    message = "gather_rows over accumulation steps runs the student twice, and its dropout would make the runs differ"
    with pytest.raises(ValueError, match=message):
        make(pair("gpt2"), aligned(gather_rows=True), per_device_train_batch_size=4, gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match=message):
        make(
            None,
            replace(aligned(gather_rows=True), head_ablation=0.1),
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
        )


def test_several_gpus_in_one_process():
    case = pair("llama")
    args = arguments(Path("unused"))
    args._setup_devices  # noqa: B018 (sets the number of GPUs)
    args._n_gpu = 2
    from circuitkd.distill.trainer import CircuitDistillationTrainer

    with pytest.raises(ValueError, match="2 GPUs in one process are not supported: start one process for each, as in"):
        CircuitDistillationTrainer(case.student, args, teacher_model=case.teacher)
