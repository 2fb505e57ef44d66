"""Short training on a task's prompts with transformers' Trainer: all parameters, or LoRA adapters merged afterwards.

The loss is cross-entropy on the right answer, where the task reads it. Adapters (peft) sit where peft puts them for the
class; merged, they leave the class, the config and the number of parameters as they were.
"""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PrinterCallback, Trainer, TrainingArguments

import circuitkd as ck
from circuitkd.distill.data import IGNORED, collate
from circuitkd.models.hooks import hf_inputs
from compressing.prompts import rows

RANK = 8


@dataclass(frozen=True)
class Training:
    """How long and how fast; `seed` draws the order of the rows and the adapters' first values."""

    steps: int = 100
    learning_rate: float = 1e-3
    batch_size: int = 16
    seed: int = 0


def train(hf: Any, model: ck.CircuitModel, task: ck.Task, training: Training) -> list[float]:
    """Train `hf` in place, whose inputs are those of `model`; the losses, step by step. What does not require a
    gradient stays."""

    def batch_of(some: Any) -> dict[str, Tensor]:
        batch = collate(some)
        inputs = hf_inputs(model, batch["input_ids"], lengths=batch["lengths"])
        return {name: value for name, value in inputs.items() if isinstance(value, Tensor)} | {
            "labels": batch["labels"]
        }

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=training.steps,
            learning_rate=training.learning_rate,
            per_device_train_batch_size=training.batch_size,
            seed=training.seed,
            save_strategy="no",
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            use_cpu=True,  # where `ck.load` put the model
        )
        trainer = Trainer(
            hf,
            arguments,
            train_dataset=rows(model, task),
            data_collator=batch_of,
            compute_loss_func=answer_loss,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    hf.eval()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def answer_loss(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    """Cross-entropy at the labelled positions (labels are not shifted), the mean over all of the optimiser step."""
    logits = outputs["logits"].flatten(0, 1)
    total = cross_entropy(logits, labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (labels.ne(IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)


def fine_tuned(model: ck.CircuitModel, task: ck.Task, training: Training) -> tuple[Any, list[float]]:
    """A copy with all parameters trained, and the losses."""
    hf = copy.deepcopy(model.hf)
    return hf, train(hf, model, task, training)


def check_peft() -> None:
    """Raise ValueError where peft is not installed."""
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise ValueError("lora-merged needs peft: pip install 'circuitkd[examples]'") from error


def with_adapters(model: ck.CircuitModel, seed: int = 0) -> Any:
    """A copy with untrained LoRA adapters of rank 8."""
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inputs_first = model.architecture.model_type == "gpt2"  # a Conv1D, whose weight is [inputs, outputs]
        options = LoraConfig(r=RANK, lora_alpha=2 * RANK, fan_in_fan_out=inputs_first)
        return get_peft_model(copy.deepcopy(model.hf), options)


def lora_merged(model: ck.CircuitModel, task: ck.Task, training: Training) -> tuple[Any, list[float]]:
    """A copy with trained adapters merged into its weights, and the losses."""
    adapted = with_adapters(model, training.seed)
    losses = train(adapted, model, task, training)
    return adapted.merge_and_unload(), losses
