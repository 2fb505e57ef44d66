"""Making a bundled model from its recipe: train, round to half precision, save, load again, measure, write the card."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from circuitkd.artifacts import write_atomically
from circuitkd.models.loading import load
from circuitkd.provenance import software
from circuitkd.zoo import catalog, training, vocabulary
from circuitkd.zoo.evaluation import held_out_accuracies


def make(
    name: str, *, folder: Path | None = None, steps: int | None = None, report: training.Report | None = None
) -> dict[str, Any]:
    """Train `name` and write it to `folder` (its place in the package by default); returns the card.

    A student learns from the teacher beside its folder, else from the bundled one. `steps` other than the recipe's give a
    less (or more) trained model, which must not take the bundled one's place. Raises ValueError for that, for an unknown
    name and for a missing teacher.
    """
    made = catalog.recipe(name)
    if steps is not None:
        if folder is None or steps < 1:
            raise ValueError(
                "a number of steps other than the recipe's must be at least 1, and needs a folder of its own"
            )
        made = replace(made, steps=steps)
    target = folder or catalog.folder(name)
    teacher = None
    if made.teacher is not None:
        sources = [target.parent / made.teacher, catalog.folder(made.teacher)]
        found = [source for source in sources if (source / "card.json").exists()]
        if not found:
            raise ValueError(f"{name} is distilled from {made.teacher}, which is not in {sources[0]}: train that first")
        teacher = load(str(found[0])).hf
    model = training.train(made, report=report, teacher=teacher)
    (target / "card.json").unlink(missing_ok=True)
    training.save(model, vocabulary.tokenizer(), path=target)
    card = measure(made, target)
    write_atomically(target / "card.json", (json.dumps(card, indent=1) + "\n").encode())
    return card


def measure(made: catalog.Recipe, path: Path) -> dict[str, Any]:
    """The card of the saved, rounded weights at `path`."""
    model = load(str(path))
    return {
        "name": made.name,
        "role": made.role,
        "architecture": model.architecture.hf_class,
        "teacher": made.teacher,
        "layers": model.n_layers,
        "heads": model.n_heads,
        "kv_heads": model.n_kv_heads,
        "d_model": model.d_model,
        "parameters": model.parameter_count,
        "megabytes": round(sum(f.stat().st_size for f in path.glob("*.safetensors")) / 1e6, 2),
        "steps": made.steps,
        "seed": made.seed,
        "circuitkd": software()["circuitkd"],
        "torch": torch.__version__,
        "held_out": held_out_accuracies(model),
    }
