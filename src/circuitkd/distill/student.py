"""The student's training forward: Hugging Face's own, so that any wrapper (DDP, FSDP, autocast) works, with z on the side.

The unembedding is multiplied from the first answer position of the batch on only, where the class can do that.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from circuitkd.components import Component
from circuitkd.distill.data import answer_positions, real_tokens
from circuitkd.distill.losses import estimated_effects
from circuitkd.distill.signals import Points, at_points, stacked_heads
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.models.hooks import Edits, edits, hf_inputs, record
from circuitkd.tasks.metrics import logit_difference


@dataclass(frozen=True, eq=False)
class StudentRun:
    """`logits` [row, vocab] at the answers; `z` by layer [row, pos, n_heads * d_head], with the graph (empty where it was
    not asked for)."""

    logits: Tensor
    z: dict[int, Tensor]


def run_student(
    student: CircuitModel,
    forward: nn.Module,
    *,
    batch: Mapping[str, Any],
    with_z: bool = False,
    for_effects: bool = False,
    ablated: Sequence[Component] = (),
) -> StudentRun:
    """Run a batch through `forward`, which is student.hf or a wrapper around it, with some heads at their batch mean.

    `for_effects`: keep z so that `head_effects` can be asked, also of layers below everything that is trained.
    """
    tokens, positions = batch["input_ids"], answer_positions(batch)
    arguments, first = hf_inputs(student, tokens, lengths=batch["lengths"]), 0
    if "logits_to_keep" in inspect.signature(student.hf.forward).parameters:
        first = int(positions.min())
        arguments["logits_to_keep"] = tokens.shape[1] - first
    with ExitStack() as stack:
        if ablated:
            stack.enter_context(edits(student, batch_means(ablated, batch)))
        seen = stack.enter_context(record(student, gradients=for_effects)) if with_z or for_effects else None
        logits = forward(**arguments).logits
    rows = torch.arange(len(logits), device=logits.device)
    return StudentRun(logits[rows, positions.to(logits.device) - first], seen.z if seen else {})


def head_rows(
    student: CircuitModel, run: StudentRun, *, batch: Mapping[str, Any], heads: Sequence[Component], points: Points
) -> Tensor:
    """z of these heads at the rows of CKA [head, point, d_head], with gradient."""
    layers = {layer: at_points(run.z[layer], batch, points=points) for layer in {h.layer or 0 for h in heads}}
    return stacked_heads(layers, heads, d_head=student.d_head)


def batch_means(heads: Sequence[Component], batch: Mapping[str, Any]) -> Edits:
    """Edits that replace heads by their mean over the batch's real tokens at each position, without gradient."""
    real = real_tokens(batch)

    def mean(z: Tensor) -> Tensor:
        weight = real.to(z)[..., None]
        average = (z.detach() * weight).sum(0) / weight.sum(0).clamp(min=1)
        return average.expand_as(z)

    edit: Callable[[Tensor], Tensor] = mean
    return dict.fromkeys(heads, edit)


def drawn_heads(student: CircuitModel, probability: float) -> tuple[Component, ...]:
    """Each head with this probability, from torch's global generator (which checkpoints keep)."""
    if probability == 0:
        return ()
    heads = [c for c in student.components if c.kind == "head"]
    return tuple(h for h, drawn in zip(heads, torch.rand(len(heads)) < probability, strict=True) if drawn)


def head_effects(student: CircuitModel, run: StudentRun, *, batch: Mapping[str, Any]) -> Tensor:
    """First-order mean ablation effects [head] on the logit difference, layer by layer, with gradient in z. The run is one
    `for_effects`."""
    answers, distractors = (batch[name].to(run.logits.device) for name in ("answers", "distractors"))
    metric = logit_difference(
        run.logits.gather(-1, answers.clamp(min=0)),
        run.logits.gather(-1, distractors.clamp(min=0)),
        answer_mask=answers >= 0,
        distractor_mask=distractors >= 0,
    )
    layers = [run.z[layer] for layer in range(student.n_layers)]
    gradients = torch.autograd.grad(metric.sum(), layers, retain_graph=True)
    real, shape = real_tokens(batch), (student.n_heads, student.d_head)
    found = [
        estimated_effects(z.unflatten(-1, shape), g.unflatten(-1, shape), real=real.to(z.device))
        for z, g in zip(layers, gradients, strict=True)
    ]
    return torch.cat([effects.to(metric.device) for effects in found])
