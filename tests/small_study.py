"""A study of tiny random models in folders, small enough to be run whole in seconds."""

from __future__ import annotations

from pathlib import Path

from circuitkd.zoo.vocabulary import tokenizer
from tiny_models import tiny_hf

# Seeds with which the random models are "shown to do" the task.
TEACHER_SEED, STUDENT_SEED = 23, 19
HEAD = """
title: Tiny models
pairs:
  - {name: tiny, teacher: big, student: small}
tasks:
  - {name: numeral-sequence, label: numerals, n: 16}
"""
QUICK = (
    HEAD
    + """
analyses:
  - {kind: compare, options: {random_null: false}}
  - {kind: noise, options: {steps: 2, seeds: 1}}
"""
)
EVERYTHING = (
    HEAD
    + """
  - {name: entity-tracking-object-first, label: boxes, n: 20}
analyses:
  - {kind: compare, tasks: [numerals], options: {preset: released-notebook}}
  - {kind: circuits, tasks: [numerals], options: {edge_share: null, thresholds: [0.2, 0.3]}}
  - {kind: roles, tasks: [numerals]}
  - {kind: noise, tasks: [numerals], options: {steps: 2, seeds: 2}}
  - {kind: distill, tasks: [boxes], options: {circuit: path-patching, group_size: 1, steps: 2, seeds: 1, batch_size: 4}}
  - {kind: distill, tasks: [numerals], options: {heads: 2, steps: 2, seeds: 1, batch_size: 4, conditions: all}}
printed:
  - {source: Paper Table 1, pair: tiny, task: numerals, quantity: alignment, value: 0.9, low: 0.8, high: 1.0}
  - {source: Paper Table 1, pair: tiny, task: numerals, quantity: teacher-drop, of: L0H9, value: 12}
  - {source: Paper Table 2, pair: tiny, task: boxes, quantity: full-accuracy, of: "circuit, CE", low: 0.0, high: 0.3}
"""
)


def save_models(folder: Path) -> None:
    """The tiny GPT-2 models `big` (two layers) and `small` (one layer) with the zoo's tokenizer."""
    words = tokenizer()
    for name, layers, seed in (("big", 2, TEACHER_SEED), ("small", 1, STUDENT_SEED)):
        tiny_hf("gpt2", seed=seed, vocab_size=len(words), n_layer=layers).save_pretrained(folder / name)
        words.save_pretrained(folder / name)
