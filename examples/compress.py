"""Make a compressed student from a teacher, as a plain Hugging Face folder, and compare it with the teacher.

    python examples/compress.py KIND TEACHER OUTPUT_DIR [--task ioi] [--keep 0.5] [--steps 100] [--heal] [--compare]

KIND is pruned-heads, pruned-layers, narrow-mlps, int8, low-rank, lora-merged, fine-tuned, or all (one folder for each
below OUTPUT_DIR). What goes is chosen, and training is done, on three fifths of 500 prompts; one fifth is held out and
written to held-out.jsonl, on which --compare compares. --heal also trains the students of the first three kinds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import logging

import circuitkd as ck
from circuitkd.distill.data import split
from circuitkd.reports.tables import markdown
from circuitkd.reports.wording import fixed, with_interval
from compressing import cutting, rewriting
from compressing.training import Training, check_peft, fine_tuned, lora_merged, train

EXAMPLES = 500
Made = tuple[Any, str]  # the Hugging Face model, and in words what was done


@dataclass(frozen=True)
class Recipe:
    """How strongly to compress: `keep` is the share kept, of what depends on the kind. `heal`: train afterwards."""

    task: ck.Task
    keep: float = 0.5
    training: Training = field(default_factory=Training)
    heal: bool = False


def pruned_heads(teacher: ck.CircuitModel, recipe: Recipe) -> Made:
    """Fewer heads, whole K/V groups, as many in every layer."""
    kept = cutting.important_groups(teacher, recipe.task, keep=recipe.keep)
    return cutting.with_groups(teacher, kept), f"K/V groups kept, layer by layer: {kept}"


def pruned_layers(teacher: ck.CircuitModel, recipe: Recipe) -> Made:
    """Fewer layers."""
    block = cutting.block_to_drop(teacher, recipe.task, keep=recipe.keep)
    return cutting.without_layers(teacher, block), f"layers dropped: {list(block)}"


def narrow_mlps(teacher: ck.CircuitModel, recipe: Recipe) -> Made:
    """Fewer MLP neurons, as many in every layer."""
    kept = cutting.important_neurons(teacher, recipe.task, keep=recipe.keep)
    return cutting.with_neurons(teacher, kept), f"neurons kept in each MLP: {len(kept[0])}"


def int8(teacher: ck.CircuitModel, recipe: Recipe) -> Made:
    """Matrices rounded to int8."""
    hf, stored = rewriting.to_int8(teacher)
    plain = 4 * sum(m.weight.numel() for m in rewriting.matrices(hf, teacher))
    return (
        hf,
        f"the blocks' matrices in int8 take {stored / 1e6:.2f} MB, in float32 {plain / 1e6:.2f} MB; stored here "
        "dequantised, with as many parameters as the teacher",
    )


def low_rank(teacher: ck.CircuitModel, recipe: Recipe) -> Made:
    """Matrices of low rank."""
    hf, found = rewriting.to_low_rank(teacher, recipe.keep)
    ranks, energies = zip(*found, strict=True)
    return (
        hf,
        f"ranks {min(ranks)} to {max(ranks)}, squared singular values kept {min(energies):.3f} to "
        f"{max(energies):.3f}; stored here multiplied out, with as many parameters as the teacher",
    )


def lora(teacher: ck.CircuitModel, recipe: Recipe) -> Made:
    """LoRA adapters, trained and merged."""
    hf, losses = lora_merged(teacher, recipe.task, recipe.training)
    return hf, f"LoRA of rank 8 {_trained(losses)}, merged"


def all_parameters(teacher: ck.CircuitModel, recipe: Recipe) -> Made:
    """All parameters trained."""
    hf, losses = fine_tuned(teacher, recipe.task, recipe.training)
    return hf, f"all parameters {_trained(losses)}"


def _trained(losses: Sequence[float]) -> str:
    return f"trained for {len(losses)} steps, loss {losses[0]:.3f} to {losses[-1]:.3f}"


KINDS: dict[str, Callable[[ck.CircuitModel, Recipe], Made]] = {
    "pruned-heads": pruned_heads,
    "pruned-layers": pruned_layers,
    "narrow-mlps": narrow_mlps,
    "int8": int8,
    "low-rank": low_rank,
    "lora-merged": lora,
    "fine-tuned": all_parameters,
}
CUT = ("pruned-heads", "pruned-layers", "narrow-mlps")


def check(kind: str, teacher: ck.CircuitModel, keep: float) -> None:
    """Raise ValueError, before any work, where this teacher cannot have a student of this kind."""
    sizes = {"pruned-heads": teacher.n_kv_heads, "pruned-layers": teacher.n_layers}
    if kind == "pruned-heads":
        cutting.check_heads_can_go(teacher)
    if kind in sizes:
        cutting.kept_of(sizes[kind], keep)
    if kind == "narrow-mlps":
        cutting.kept_of(cutting.mlp_width(teacher), keep)
    if kind == "lora-merged":
        check_peft()


def possible(teacher: ck.CircuitModel, keep: float) -> list[str]:
    """The kinds that this teacher can have; says why the others are left out."""
    found = []
    for kind in KINDS:
        try:
            check(kind, teacher, keep)
            found.append(kind)
        except ValueError as error:
            print(f"{kind}: left out: {error}", flush=True)
    return found


def make(kind: str, teacher: ck.CircuitModel, recipe: Recipe) -> Made:
    """A compressed student of this kind, and in words what was done. ValueError where the class does not allow it."""
    hf, words = KINDS[kind](teacher, recipe)
    if recipe.heal and kind in CUT:
        student = ck.wrap(hf, teacher.tokenizer, name=kind, check=False)
        losses = train(hf, student, recipe.task, recipe.training)
        words += f"; then all parameters {_trained(losses)}"
    return hf, words


def save(made: Made, teacher: ck.CircuitModel, folder: Path) -> ck.CircuitModel:
    """Write the folder whole, load it again as anybody would, and give the student that was loaded."""
    hf, words = made
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        hf.save_pretrained(draft)
        teacher.tokenizer.save_pretrained(draft)
        facts = {"teacher": teacher.name, "how": words, "circuitkd": ck.__version__}
        (draft / "compression.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return ck.load(str(folder))


def row_of(kind: str, found: ck.Comparison) -> dict[str, str]:
    """What a comparison found, as a row of the table; two values are teacher / student."""
    alignment, robustness = found.alignment, found.robustness
    accuracy = [100 * float(np.mean(s.accuracy)) for s in (found.teacher_sweep, found.student_sweep)]
    drops = (robustness.teacher.mean_drop, robustness.student.mean_drop)
    return {
        "student": kind,
        "parameters": f"{found.student.parameter_count / found.teacher.parameter_count:.0%}",
        "accuracy %": " / ".join(fixed(value, 0) for value in accuracy),
        "alignment": with_interval(alignment.score, alignment.interval, digits=3),
        "similarity": fixed(alignment.mean_similarity, 3),
        "agreement": fixed(alignment.mean_agreement, 3),
        "shuffled null": fixed(alignment.null.shuffled_mean, 3),
        "random student": fixed(alignment.null.random_score, 3),
        "mean drop %": " / ".join(fixed(value, 1) for value in drops),
    }


def run(options: argparse.Namespace) -> None:
    """Make, save and compare what the command line asks for. Raises ValueError, before any work, for what cannot be."""
    root: Path = options.output_dir
    if root.exists():
        raise ValueError(f"{root} exists already: choose another OUTPUT_DIR, or remove it")
    if not 0 < options.keep < 1:
        raise ValueError(f"--keep is a share above 0 and below 1, not {options.keep:g}")
    if options.steps < 1:
        raise ValueError(f"--steps must be at least 1, not {options.steps}")
    if options.heal and options.kind not in (*CUT, "all"):
        raise ValueError(f"--heal is for {', '.join(CUT)}: training would undo {options.kind}, or is it already")
    teacher, parts = ck.load(options.teacher), split(ck.load_task(options.task, n=EXAMPLES, seed=0))
    recipe = Recipe(parts.train, options.keep, Training(options.steps), options.heal)
    held_out = replace(parts.test, name=f"{parts.test.name}, held out")
    rows = []
    for kind in possible(teacher, options.keep) if options.kind == "all" else [options.kind]:
        check(kind, teacher, options.keep)
        made = make(kind, teacher, recipe)
        folder = root / kind if options.kind == "all" else root
        folder.parent.mkdir(parents=True, exist_ok=True)
        student = save(made, teacher, folder)
        print(f"{kind}: {made[1]}", flush=True)
        if options.compare:
            rows.append(row_of(kind, ck.compare(teacher, student, held_out)))
    ck.write_task(held_out, root / "held-out.jsonl")
    if rows:
        print(f"\n{markdown(rows)}", end="")


def main(arguments: Sequence[str] | None = None) -> None:
    """The program."""
    parser = argparse.ArgumentParser(description="Make a compressed student from a teacher.")
    parser.add_argument("kind", metavar="KIND", choices=[*KINDS, "all"], help=f"{', '.join(KINDS)}, or all")
    parser.add_argument("teacher", metavar="TEACHER", help="a bundled model (zoo:llama-teacher), a folder, or a hub id")
    parser.add_argument("output_dir", metavar="OUTPUT_DIR", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--task", default="ioi", help="a built-in task or a .jsonl file (ioi)")
    parser.add_argument("--keep", type=float, default=0.5, help="share of heads, layers, neurons or factors kept (0.5)")
    parser.add_argument("--steps", type=int, default=100, help="training steps, where there is training (100)")
    parser.add_argument("--heal", action="store_true", help="also train the students of the first three kinds")
    parser.add_argument("--compare", action="store_true", help="compare with the teacher and print a table")
    try:
        run(parser.parse_args(arguments))
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    logging.disable_progress_bar()
    main()
