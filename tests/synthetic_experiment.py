"""An ExperimentResult of made-up runs: nothing is trained, and every number is set by the test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from circuitkd.components import Component
from circuitkd.distill.circuit_parameters import Untouched
from circuitkd.distill.conditions import PAPER
from circuitkd.distill.evaluation import CircuitAccuracy
from circuitkd.distill.experiment_result import DistillationRun, ExperimentResult
from circuitkd.distill.head_map import HeadMap

UNTRAINED, ALL_CE, CIRCUIT_CE, CKA_ONLY, RANDOM, MAPPED = (c.name for c in PAPER)
HEADS = tuple(Component.parse(h) for h in ("L0H1", "L1H0", "L1H3"))
TEACHER_HEADS = tuple(Component.parse(h) for h in ("L0H0", "L2H1", "L0H0"))
MAP = HeadMap(
    "impact", "least |dP_s - dP_t|", HEADS, TEACHER_HEADS, (0.02, 0.1, 0.3), (0.1, 0.2, 0.4), (0.12, 0.3, 0.7)
)
EXAMPLES = 20
STEPS = np.array([1.0, 2.0, 3.0])


def run(condition: str, seed: int, *, right: int, mean_drop: float = 15.0) -> DistillationRun:
    """A run that gets the first `right` of the 20 test examples right."""
    full = (np.arange(EXAMPLES) < right).astype(float)
    trained = condition != UNTRAINED
    only_circuit = condition.startswith("circuit")
    accuracy = CircuitAccuracy(full, full * (np.arange(EXAMPLES) % 2), np.tile(full * 0, (3, 1)))
    return DistillationRun(
        condition=condition,
        seed=seed,
        accuracy=accuracy,
        validation_accuracy=0.5,
        ce=0.2,
        cka=0.5 + 0.01 * seed,
        alignment=0.45 + 0.01 * seed,
        mean_drop=mean_drop,
        head_share=0.375 if only_circuit else float(trained),
        parameter_share=0.125 if only_circuit else float(trained),
        loss_steps=STEPS if trained else np.zeros(0),
        losses=np.array([3.0, 2.0, 1.0]) + 0.1 * seed if trained else np.zeros(0),
        seconds=1.0,
        untouched=Untouched("aa", "aa", 12_345) if only_circuit else None,
        task_losses=np.array([2.0, 1.0, 0.5]) + 0.1 * seed if trained and condition != CKA_ONLY else np.zeros(0),
    )


def experiment(
    right: Mapping[str, Sequence[int]], drops: Mapping[str, Sequence[float]] | None = None
) -> ExperimentResult:
    """Conditions with the numbers of right answers of each seed, and their mean drops (15 where not given)."""
    runs = [
        run(condition, seed, right=n, mean_drop=(drops or {}).get(condition, [15.0] * len(counts))[seed])
        for condition, counts in right.items()
        for seed, n in enumerate(counts)
    ]
    return ExperimentResult(
        teacher="models/big-teacher",
        student="models/small-student",
        task="belief-tracking",
        heads=HEADS,
        head_map=MAP,
        examples=tuple(f"ex-{i}" for i in range(EXAMPLES)),
        teacher_accuracy=np.ones(EXAMPLES),
        runs=tuple(runs),
        warnings=("few rows <for> CKA",),
        manifest={"task": "belief-tracking", "examples": "60 training, 20 validation, 20 test", "request": "hidden"},
    )


def plain() -> ExperimentResult:
    """All conditions of the paper with three seeds; the mapped one is as accurate as the baselines and more fragile than
    training the circuit by CE."""
    counts = {UNTRAINED: (10, 10, 10), ALL_CE: (14, 15, 16), CIRCUIT_CE: (15, 14, 15), CKA_ONLY: (5, 4, 6)}
    counts |= {RANDOM: (14, 15, 14), MAPPED: (15, 15, 14)}
    drops = {ALL_CE: (20.0, 26.0, 18.0), CIRCUIT_CE: (18.0, 18.2, 17.9), MAPPED: (21.0, 21.5, 20.8)}
    return experiment(counts, drops)


def with_text(result: ExperimentResult, text: str) -> ExperimentResult:
    """The same with `text` wherever a user's own words reach the page."""
    return replace(result, teacher=text, student=text + "2", task=text, warnings=(text,), manifest={text: text})
