"""Sides of a plan on small models: the shape that is counted beside the model that is run."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from circuitkd.interventions.ablations import Ablation
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.studies.workload import Place, Side
from circuitkd.tasks.base import Task


def shape_of(model: CircuitModel) -> CircuitModel:
    """The same model without its weights."""
    with torch.device("meta"):
        hf = type(model.hf)(copy.deepcopy(model.hf.config))
    return CircuitModel.of(hf.to(model.dtype), model.tokenizer, name=model.name, has_weights=False)


def side_of(
    model: CircuitModel, task: Task, *, ablation: Ablation | None = None, batch_size: int | None = None
) -> Side:
    """The plan's view of a model and a task on this CPU."""
    how, shape = ablation or Ablation(task.ablation), shape_of(model)
    return Side(shape, task.bind(shape, aligned=how.needs_alignment), how, Place(on_cpu=True), batch_size)


def counted(function: Callable[[], object]) -> int:
    """Operations that torch counts while the function runs."""
    # Of the attention kernels for the CPU, torch counts only the plain one.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()
