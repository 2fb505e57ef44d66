"""Run by torchrun from `test_two_processes.py`; the first process writes what was found into a folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from circuitkd.distill.circuit_parameters import CircuitParameters, Keeper
from circuitkd.distill.data import collate, rows_of
from circuitkd.distill.objective import Objective
from circuitkd.distill.student import run_student
from distill_cases import pair
from distill_runs import HEADS, aligned, make, weights

OBJECTIVES = {"ce": Objective(), "kl": Objective("kl"), "cka": aligned(gather_rows=True, weight=0.7)}
TERMS = ("task_loss", "alignment_loss")


def train(folder: str, size: str, accumulation: str) -> None:
    """Train every objective in float64 with this batch size per process, and evaluate on seven rows."""
    for name, objective in OBJECTIVES.items():
        sizes = {"per_device_train_batch_size": int(size), "gradient_accumulation_steps": int(accumulation)}
        trainer = make(pair("llama", dtype=torch.float64), objective, folder=folder, **sizes)
        trainer.eval_dataset = trainer.eval_dataset.select(range(7))
        trainer.train()
        metrics = trainer.evaluate()
        if trainer.is_world_process_zero():
            losses = [e["loss"] for e in trainer.state.log_history if "loss" in e]
            terms = [e[name] for e in trainer.state.log_history for name in TERMS if "loss" in e and name in e]
            kept = {k: metrics[k] for k in ("eval_accuracy", "eval_ce", "eval_cka") if k in metrics}
            record = {"losses": losses, "terms": terms, "metrics": kept, "identical": trainer.untouched.identical}
            Path(folder, f"{name}.json").write_text(json.dumps(record))
            save_file({n: v.contiguous() for n, v in weights(trainer).items()}, Path(folder, f"{name}.safetensors"))
    trainer.accelerator.end_training()


def shard(folder: str) -> None:
    """Train the circuit of a student whose parameters are sharded over the processes (fully_shard, as FSDP 2 does)."""
    dist.init_process_group("gloo")
    for sharded in (False, True):
        case = pair("llama")
        hf, rows = case.student.hf, rows_of(case.bound[1])
        batch, keeper = collate(list(rows)), Keeper(hf, CircuitParameters.of(case.student, HEADS))
        if sharded:
            mesh = init_device_mesh("cpu", (dist.get_world_size(),))
            for part in (*hf.model.layers, hf):
                fully_shard(part, mesh=mesh)
        used = [p for p in hf.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(used, lr=1e-2, weight_decay=0.1)
        for _ in range(3):
            run = run_student(case.student, hf, batch=batch, with_z=True)
            (run.logits.log_softmax(-1)[:, 5].mean() + run.z[1].square().mean()).backward()
            keeper.mask_gradients()
            torch.nn.utils.clip_grad_norm_(used, 1.0)
            optimizer.step()
            keeper.restore(optimizer)
            optimizer.zero_grad()
        keeper.check()
        whole = {n: v.full_tensor() if sharded else v for n, v in hf.state_dict().items()}
        if dist.get_rank() == 0:
            save_file({n: v.contiguous() for n, v in whole.items()}, Path(folder, f"sharded-{sharded}.safetensors"))
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"train": train, "shard": shard}[sys.argv[1]](*sys.argv[2:])
