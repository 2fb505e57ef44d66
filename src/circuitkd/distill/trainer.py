"""`CircuitDistillationTrainer`: circuit distillation on transformers' Trainer.

The student is the Trainer's model; its forward is Hugging Face's own. The teacher stays outside it, so no checkpoint
holds it, and what is saved loads with AutoModel. Everything else is the Trainer's: resuming, reporting, early stopping
(`transformers.EarlyStoppingCallback`), mixed precision, several processes.

Scale of the loss. The task loss is a sum over rows divided by the rows of the whole optimiser step (all accumulation
steps and, with `average_tokens_across_devices`, all processes); as the gradients of processes are averaged, it is then
multiplied by their number. The alignment of a micro-batch counts by its share of those rows; with `gather_rows` there
is one alignment over all rows of the step (see `gathering`).

Limits: one process per GPU (start several with torchrun); FSDP only in its second version, which keeps the names of
parameters; `gather_rows` over accumulation steps costs one more forward and needs a student without dropout.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from circuitkd.artifacts import plain, to_json, write_atomically
from circuitkd.comparison.cka import cka_matrix
from circuitkd.components import Component
from circuitkd.distill.circuit_parameters import CircuitParameters, Keeper, Untouched
from circuitkd.distill.data import COLUMNS, check_tokenizers, collate
from circuitkd.distill.gathering import PairRows, gathered, joined
from circuitkd.distill.head_map import check_pairs
from circuitkd.distill.loss_parts import LossParts
from circuitkd.distill.losses import alignment_loss, cka, composite, row_caution, surrogate_loss
from circuitkd.distill.objective import Alignment, Objective
from circuitkd.distill.signals import CachedTeacher, LiveTeacher, Signals, Teacher
from circuitkd.distill.student import StudentRun, drawn_heads, head_effects, head_rows, run_student
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.provenance import software


class CircuitDistillationTrainer(Trainer):
    """Trains a student, or only the circuit `heads` of it, towards a teacher.

    `model` and `teacher_model` are Hugging Face models or `CircuitModel`s with one tokenizer. `heads`: the heads whose
    weights are trained (None: all parameters); everything else keeps its bits, which is checked at the end of `train`
    and written to `manifest.json` in `args.output_dir` (`untouched`). `teacher_cache`: a folder in which the teacher's
    signals for the training set are kept, so that the teacher runs once. Datasets are those of `data.rows_of`. Other
    keywords are the Trainer's. The log has `task_loss` and `alignment_loss` beside `loss`. Evaluation reports accuracy,
    ce (on the teacher's top tokens) and cka (the mean over pairs, on the whole evaluation set at the answer position).

    Raises ValueError for tokenizers that differ, heads or pairs that do not exist, and batches too small for CKA.
    """

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        *,
        teacher_model: Any,
        objective: Objective | None = None,
        heads: Iterable[Component] | None = None,
        teacher_cache: str | Path | None = None,
        **options: Any,
    ) -> None:
        tokenizer = options.get("processing_class")
        self.student, self.teacher = _described(model, tokenizer, "student"), _described(teacher_model, None, "teacher")
        self.objective: Objective = objective or Objective()
        check_tokenizers(self.teacher, self.student)
        alignment = self.objective.alignment
        if alignment is not None:
            check_pairs(self.teacher, self.student, pairs=alignment.pairs)
        _check_batches(self.student, args, objective=self.objective, rows=options.get("train_dataset"))
        parameters = None if heads is None else CircuitParameters.of(self.student, heads)
        use_cache = getattr(self.student.hf.config, "use_cache", None)
        options = {"data_collator": collate, "processing_class": self.student.tokenizer} | options
        super().__init__(self.student.hf, args, compute_metrics=self._metrics, **options)
        if use_cache is not None:  # the Trainer turns it off, and would save it so
            self.student.hf.config.use_cache = use_cache
        self.model_accepts_loss_kwargs = True  # so that the rows of a step are counted, whatever the class
        if getattr(self.teacher.hf.eval(), "hf_device_map", None) is None:
            self.teacher.hf.to(self.args.device)
        self.keeper = None if parameters is None else Keeper(self.student.hf, parameters)
        self.untouched: Untouched | None = None
        self._sources = self._teachers(teacher_cache)
        self._window: list[list[PairRows]] = []
        self._micro = 0
        self._parts = LossParts()
        self.add_callback(_Outside(self))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss of a micro-batch, scaled for the whole step (module docstring)."""
        objective, alignment = self.objective, self.objective.active_alignment
        signals = self._sources[0].signals(inputs)
        ablated = drawn_heads(self.student, objective.head_ablation)
        run = run_student(
            self.student,
            model,
            batch=inputs,
            with_z=alignment is not None,
            for_effects=alignment is not None and alignment.kind == "surrogate",
            ablated=ablated,
        )
        rows = len(run.logits)
        count = rows if num_items_in_batch is None else num_items_in_batch
        shared = num_items_in_batch is not None and self.args.average_tokens_across_devices
        scale = self.accelerator.num_processes if shared else 1
        task = term = None
        if objective.task_loss is not None:
            task = objective.task_losses(run.logits, inputs, signals=signals).sum() / count * scale
        if alignment is not None:
            term = self._alignment(alignment, run, inputs, signals=signals, share=rows / count * scale)
        self._parts.add(task_loss=task, alignment_loss=term)
        whole = torch.zeros((), device=run.logits.device) if task is None else task
        loss = composite(whole, term, weight=alignment.weight if alignment else 0.0)
        return (loss, {"logits": run.logits}) if return_outputs else loss

    def _alignment(
        self, alignment: Alignment, run: StudentRun, inputs: Mapping[str, Any], *, signals: Signals, share: Any
    ) -> Tensor:
        """The alignment term of a micro-batch, scaled."""
        rows = self._pair_rows(alignment, run, inputs, signals)
        if alignment.kind == "surrogate":
            order = {c: i for i, c in enumerate(self.student.components)}
            return share * surrogate_loss(
                cka(rows.student, rows.teacher, debiased=alignment.debiased),
                head_effects(self.student, run, batch=inputs),
                teacher_influence=torch.tensor(alignment.teacher_influence, device=rows.student.device),
                heads=torch.tensor([order[h] for h in alignment.student_heads], device=rows.student.device),
            )
        debiased, reduction = alignment.debiased, alignment.reduction
        if not alignment.gather_rows:
            return share * alignment_loss(rows.student, rows.teacher, debiased=debiased, reduction=reduction)
        parts = self._window or [gathered(self.accelerator, rows)]
        every = joined(parts, rows, at=(self._micro, self.accelerator.process_index))
        self._micro += 1
        whole = alignment_loss(every.student, every.teacher, debiased=debiased, reduction=reduction)
        # Each micro-batch has its own part of the gradient, but the whole loss: the value is counted once.
        return self.accelerator.num_processes * (whole - whole.detach()) + whole.detach() / len(parts)

    def _pair_rows(
        self, alignment: Alignment, run: StudentRun, inputs: Mapping[str, Any], signals: Signals
    ) -> PairRows:
        heads, points = alignment.student_heads, alignment.points
        student = head_rows(self.student, run, batch=inputs, heads=heads, points=points)
        assert signals.z is not None
        return PairRows(student, signals.z.to(student.device))

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> Any:
        """The Trainer's; with `gather_rows` over several micro-batches also the rows of each, without gradient."""
        samples, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        alignment = self.objective.active_alignment
        self._window, self._micro = [], 0
        if alignment is not None and alignment.gather_rows and len(samples) > 1:
            with torch.no_grad(), self.compute_loss_context_manager():
                for sample in samples:
                    inputs = self._prepare_inputs(sample)
                    run = run_student(self.student, self.model_wrapped, batch=inputs, with_z=True)
                    rows = self._pair_rows(alignment, run, inputs, self._sources[0].signals(inputs))
                    self._window.append(gathered(self.accelerator, rows))
        return samples, count

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """The Trainer's, after which gradients outside the circuit are 0."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.keeper is not None:
            self.keeper.mask_gradients()
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The Trainer's, with the terms of the training loss."""
        terms = self._parts.take(self.accelerator) if "loss" in logs else {}
        super().log(logs | terms, start_time)

    def prediction_step(
        self, model: nn.Module, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Tensor | None, Any, Tensor | None]:
        """Per row: whether the top token is an answer, CE on the teacher's top token, and z of the aligned pairs."""
        inputs, alignment = self._prepare_inputs(inputs), self.objective.alignment
        with torch.no_grad(), self.compute_loss_context_manager():
            signals = self._sources[1].signals(inputs)
            run = run_student(self.student, model, batch=inputs, with_z=alignment is not None)
            ce = Objective().task_losses(run.logits, inputs, signals=signals)
            loss = (
                self.objective.task_losses(run.logits, inputs, signals=signals).mean()
                if self.objective.task_loss
                else ce.mean()
            )
            right = (run.logits.argmax(-1, keepdim=True) == inputs["answers"]).any(-1)
            found = [right.float(), ce]
            if alignment is not None:
                student = head_rows(self.student, run, batch=inputs, heads=alignment.student_heads, points="answer")
                assert signals.z is not None
                found += [side.transpose(0, 1).float().contiguous() for side in (student, signals.z)]
        return (loss, None, None) if prediction_loss_only else (loss, tuple(found), inputs["answers"])

    def manifest(self) -> dict[str, Any]:
        """What was trained how, and whether the rest kept its bits."""
        facts: dict[str, Any] = {"student": self.student.name, "teacher": self.teacher.name}
        facts["objective"] = plain(self.objective)
        facts["steps"], facts["seed"] = self.state.global_step, self.args.seed
        if self.keeper is not None:
            parts = self.keeper.parameters
            facts["heads"], facts["heads_sharing_kv"] = [*map(str, parts.heads)], [*map(str, parts.shared_heads)]
            facts |= {"parameter_share": parts.parameter_share, "head_share": parts.head_share}
        if self.untouched is not None:
            facts["untouched"] = asdict(self.untouched) | {"identical": self.untouched.identical}
        return facts | {"software": software()}

    def _metrics(self, found: Any) -> dict[str, float]:
        """Means over the evaluation set, from what `prediction_step` gives."""
        right, ce, *z = found.predictions
        metrics = {"accuracy": float(right.mean()), "ce": float(ce.mean())}
        alignment = self.objective.alignment
        if alignment is not None and len(right) >= 4:
            sides = [side.astype(np.float64).transpose(1, 0, 2) for side in z]
            values = [
                float(cka_matrix(t[None], s[None], debiased=alignment.debiased, undefined="zero")[0, 0])
                for s, t in zip(*sides, strict=True)
            ]
            metrics["cka"] = float(np.mean(values))
        return metrics

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns: Any = list(COLUMNS)

    def _teachers(self, cache: str | Path | None) -> tuple[Teacher, Teacher]:
        """The teacher for training and for evaluation."""
        needs, live = self.objective.needs(), LiveTeacher(self.teacher, self.objective.needs(evaluation=True))
        if cache is None:
            return LiveTeacher(self.teacher, needs), live
        rows: Any = self.train_dataset
        return CachedTeacher(self.teacher, needs, rows=rows, folder=cache), live


class _Outside(TrainerCallback):
    """Keeps everything outside the circuit as it was, and says so at the end."""

    def __init__(self, trainer: CircuitDistillationTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A checkpoint that was resumed must be of the same student."""
        if self.trainer.keeper is not None:
            self.trainer.keeper.check()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer._parts.step()
        if self.trainer.keeper is not None and self.trainer.optimizer is not None:
            self.trainer.keeper.restore(self.trainer.optimizer)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.trainer.keeper is not None:
            self.trainer.untouched = self.trainer.keeper.check()
        if state.is_world_process_zero:
            write_atomically(Path(args.output_dir) / "manifest.json", to_json(self.trainer.manifest()).encode())


def _described(model: Any, tokenizer: Any, side: str) -> CircuitModel:
    if isinstance(model, CircuitModel):
        return model
    return CircuitModel.of(model, tokenizer, name=getattr(model, "name_or_path", "") or side)


def _check_batches(student: CircuitModel, args: TrainingArguments, *, objective: Objective, rows: Any) -> None:
    """Raise ValueError for batches on which CKA is not defined, before any step; warn of few rows."""
    alignment, ablating = objective.active_alignment, objective.head_ablation > 0
    if args.n_gpu > 1:
        raise ValueError(
            f"{args.n_gpu} GPUs in one process are not supported: start one process for each, as in `torchrun "
            f"--nproc_per_node {args.n_gpu}`, or show the process one GPU (CUDA_VISIBLE_DEVICES=0)"
        )
    if alignment is None or rows is None:
        return
    step = args.gradient_accumulation_steps
    size = args.per_device_train_batch_size * (step * args.world_size if alignment.gather_rows else 1)
    if alignment.points == "answer":
        need, last = (4 if alignment.debiased else 2), len(rows) % size
        if size < need or (args.world_size == 1 and 0 < last < need and not args.dataloader_drop_last):
            few = f"a batch has {size}" if size < need else f"the last of {len(rows)} rows make a batch of {last}"
            raise ValueError(
                f"CKA needs at least {need} rows and {few}: choose another per_device_train_batch_size, set "
                "dataloader_drop_last=True, or gather_rows=True"
            )
        caution = row_caution(size, student.d_head, debiased=alignment.debiased)
        if caution:
            warnings.warn(caution, stacklevel=3)
    if alignment.gather_rows and step > 1 and (ablating or _has_dropout(student)):
        raise ValueError(
            "gather_rows over accumulation steps runs the student twice, and its dropout would make the runs differ: set "
            "its dropout (and head_ablation) to 0, or use one larger batch"
        )


def _has_dropout(student: CircuitModel) -> bool:
    modules = any(isinstance(m, nn.Dropout) and m.p > 0 for m in student.hf.modules())
    return modules or getattr(student.hf.config, "attention_dropout", 0) > 0
