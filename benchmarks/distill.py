"""What a step of circuit distillation costs, beside a plain step of the same student and one teacher forward.

    python benchmarks/distill.py [--student zoo:llama-student] [--teacher zoo:llama-teacher] [--rows 16] [--runs 30]

A step is forward, backward, AdamW and putting everything outside the circuit back. Alternated: CE + CKA with the live
teacher; CE + CKA with the teacher cached; CE on right answers (no teacher) plus one Hugging Face forward of the teacher.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable

import torch
from transformers import TrainingArguments

import circuitkd as ck
from circuitkd.distill.data import bind_pair, collate, rows_of
from circuitkd.distill.head_map import choose_heads, map_pairs
from circuitkd.distill.objective import Alignment, Objective
from circuitkd.distill.trainer import CircuitDistillationTrainer
from circuitkd.models.hooks import hf_inputs


def main() -> None:
    """Measure and print medians and ratios."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--teacher", default="zoo:llama-teacher")
    options.add_argument("--student", default="zoo:llama-student")
    options.add_argument("--task", default="entity-tracking")
    options.add_argument("--rows", type=int, default=16)
    options.add_argument("--runs", type=int, default=30)
    chosen = options.parse_args()
    warnings.simplefilter("ignore")
    teacher, student = ck.load(chosen.teacher, check=False), ck.load(chosen.student, check=False)
    bound = bind_pair(ck.load_task(chosen.task, chosen.rows, seed=0), teacher, student=student)
    heads = choose_heads(student, 2, effects=ck.sweep(student, bound[1]))
    pairs = map_pairs((teacher, bound[0]), (student, bound[1]), heads=heads).pairs
    rows = rows_of(bound[1])
    batch = collate(list(rows))

    def step(objective: Objective, folder: str, *, cached: bool) -> Callable[[], None]:
        trainer = CircuitDistillationTrainer(
            ck.load(chosen.student, check=False),
            TrainingArguments(
                output_dir=folder, report_to="none", use_cpu=True, per_device_train_batch_size=chosen.rows
            ),
            teacher_model=teacher,
            objective=objective,
            heads=heads,
            teacher_cache=folder if cached else None,
            train_dataset=rows,
        )
        optimizer = trainer.create_optimizer()

        def run() -> None:
            trainer.training_step(trainer.model, batch, len(rows))
            optimizer.step()
            assert trainer.keeper is not None
            trainer.keeper.restore(optimizer)
            optimizer.zero_grad()

        return run

    inputs = hf_inputs(teacher, batch["input_ids"], lengths=batch["lengths"])

    def teacher_forward() -> None:
        with torch.no_grad():
            teacher.hf(**inputs)

    aligned = Objective(alignment=Alignment(pairs))
    with tempfile.TemporaryDirectory() as folder:
        work = {
            "CE + CKA, live teacher": step(aligned, folder, cached=False),
            "CE + CKA, cached teacher": step(aligned, folder, cached=True),
            "CE, no teacher": step(Objective("ground-truth"), folder, cached=False),
            "teacher forward": teacher_forward,
        }
        seconds: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(chosen.runs + 3):
            for name, run in work.items():
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values[3:]) for name, values in seconds.items()}
    for name, value in medians.items():
        print(f"{name:28}{1000 * value:9.1f} ms")
    plain = medians["CE, no teacher"] + medians["teacher forward"]
    print(f"{'CE + one teacher forward':28}{1000 * plain:9.1f} ms")
    for name in ("CE + CKA, live teacher", "CE + CKA, cached teacher"):
        print(f"ratio, {name}: {medians[name] / plain:.2f}")


if __name__ == "__main__":
    main()
