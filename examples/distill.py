"""Train two heads of a student towards their teacher's, with the Trainer and without the command line.

    python examples/distill.py [OUTPUT_DIR]

The weights of the two most influential heads of the bundled Llama student are trained; everything else keeps its bits.
"""

from __future__ import annotations

import sys

from transformers import TrainingArguments

import circuitkd as ck
from circuitkd.distill.data import bind_pair, rows_of, split
from circuitkd.distill.evaluation import circuit_accuracy
from circuitkd.distill.head_map import choose_heads, map_pairs
from circuitkd.distill.objective import Alignment, Objective
from circuitkd.distill.trainer import CircuitDistillationTrainer


def main(output_dir: str = "distilled-student") -> None:
    teacher, student = ck.load("zoo:llama-teacher"), ck.load("zoo:llama-student")
    parts = split(ck.load_task("belief-tracking", n=200, seed=0))
    train, test = (bind_pair(part, teacher, student=student) for part in (parts.train, parts.test))

    heads = choose_heads(student, 2, effects=ck.sweep(student, train[1]))
    mapped = map_pairs((teacher, train[0]), (student, train[1]), heads=heads, performance="log-probability")
    print("student ← teacher:", ", ".join(f"{s} ← {t}" for s, t in mapped.pairs))

    trainer = CircuitDistillationTrainer(
        student,
        TrainingArguments(
            output_dir=output_dir,
            max_steps=60,
            learning_rate=1e-3,
            per_device_train_batch_size=64,
            eval_strategy="steps",
            eval_steps=20,
            report_to="none",
        ),
        teacher_model=teacher,
        objective=Objective(alignment=Alignment(mapped.pairs, weight=0.1)),
        heads=heads,
        train_dataset=rows_of(train[1]),
        eval_dataset=rows_of(test[1]),
    )
    before = circuit_accuracy(student, test[1], heads=heads)
    trainer.train()
    trainer.save_model()
    student.hf.eval()
    after = circuit_accuracy(student, test[1], heads=heads)
    for name in ("full", "circuit", "random"):
        print(f"{name:8} accuracy {getattr(before, name).mean():.2f} -> {getattr(after, name).mean():.2f}")
    print("everything outside the circuit kept its bits:", trainer.untouched and trainer.untouched.identical)


if __name__ == "__main__":
    main(*sys.argv[1:])
