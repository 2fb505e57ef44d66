"""What the experiment found: every run of every condition, and the table of the paper with more columns.

All numbers are of the test split, which nothing was trained or chosen on; `validation_accuracy` is there to choose
weights, learning rates or mappings by. Over seeds: mean and standard deviation (ddof 1). McNemar's test is made for each
seed, on the same examples; the table gives the median p-value over seeds, which is no combined significance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from circuitkd.artifacts import load_run, save_run
from circuitkd.components import Component
from circuitkd.distill.circuit_parameters import Untouched
from circuitkd.distill.conditions import ALL_CE, CIRCUIT_CE
from circuitkd.distill.evaluation import CircuitAccuracy, McNemar, mcnemar
from circuitkd.distill.head_map import HeadMap
from circuitkd.distill.search import SearchResult

Floats = NDArray[np.float64]
BASELINES = (ALL_CE.name, CIRCUIT_CE.name)


@dataclass(frozen=True, eq=False)
class DistillationRun:
    """One condition trained with one seed.

    `accuracy`: whole, circuit and random circuits, by test example. `ce`: on the teacher's top tokens, `cka`: mean over
    the mapped pairs (same kind as trained on), `alignment`: DC Eq. 8, `mean_drop`: DC Table 2, in percent points; all on
    the test split. `loss_steps`, `losses` [logged step]: the training loss, a mean since the step before; `task_losses`
    [logged step]: the part of it that is the task's (cross-entropy in CD), empty where the condition has none. `untouched`
    is None where all parameters, or none, were trained. `pairs`: the random ones, where they were used.
    """

    condition: str
    seed: int
    accuracy: CircuitAccuracy
    validation_accuracy: float
    ce: float
    cka: float
    alignment: float
    mean_drop: float
    head_share: float
    parameter_share: float
    loss_steps: Floats
    losses: Floats
    seconds: float
    untouched: Untouched | None = None
    pairs: HeadMap | None = None
    task_losses: Floats = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, eq=False)
class ExperimentResult:
    """All runs. `heads`: the circuit, `head_map`: its mapped pairs. `teacher_accuracy` [test example]. `search`: how the
    weight of the alignment was chosen, where it was."""

    teacher: str
    student: str
    task: str
    heads: tuple[Component, ...]
    head_map: HeadMap
    examples: tuple[str, ...]
    teacher_accuracy: Floats
    runs: tuple[DistillationRun, ...]
    warnings: tuple[str, ...]
    manifest: dict[str, str]
    search: SearchResult | None = None

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the conditions, in order."""
        return tuple(dict.fromkeys(r.condition for r in self.runs))

    def of(self, condition: str) -> tuple[DistillationRun, ...]:
        """The runs of a condition, seed by seed. Raises ValueError for one that was not run."""
        found = tuple(r for r in self.runs if r.condition == condition)
        if not found:
            raise ValueError(f"no condition {condition!r} in this experiment: there are {', '.join(self.conditions)}")
        return found

    def tests(self, first: str, second: str) -> tuple[McNemar, ...]:
        """McNemar's exact test of two conditions on the test split, seed by seed."""
        ours, theirs = ({r.seed: r for r in self.of(c)} for c in (first, second))
        seeds = sorted(ours.keys() & theirs.keys())
        return tuple(mcnemar(ours[s].accuracy.full, theirs[s].accuracy.full) for s in seeds)

    def to_pandas(self) -> pd.DataFrame:
        """One row for each run; shares and accuracies in [0, 1], the mean drop in percent points."""
        return pd.DataFrame([{"condition": r.condition, "seed": r.seed} | _numbers(r) for r in self.runs])

    def curves(self) -> pd.DataFrame:
        """The training losses, and their part that is the task's: one row for each logged step of each run."""
        parts = [
            pd.DataFrame(
                {
                    "condition": r.condition,
                    "seed": r.seed,
                    "step": r.loss_steps.astype(int),
                    "loss": r.losses,
                    "task_loss": r.task_losses if len(r.task_losses) else np.nan,
                }
            )
            for r in self.runs
        ]
        return pd.concat(parts, ignore_index=True)

    def rows(self) -> list[dict[str, str]]:
        """The table as text, a row for each condition, accuracies in percent; `reports.tables.markdown` prints it."""
        return [self._row(c) for c in self.conditions]

    def save(self, folder: str | Path) -> Path:
        """Write a run folder: manifest.json, result.json, arrays.safetensors. Raises ValueError when it cannot be
        written."""
        return save_run(folder, self, manifest=self.manifest)

    @classmethod
    def load(cls, folder: str | Path) -> ExperimentResult:
        """Read what `save` wrote. Raises ValueError for a folder that is unfinished, damaged or of another kind."""
        return load_run(folder, cls)

    def _row(self, condition: str) -> dict[str, str]:
        runs = self.of(condition)

        def text(value: Callable[[DistillationRun], float], digits: int, scale: float = 1.0) -> str:
            return mean_and_std([scale * value(r) for r in runs], digits)

        row = {
            "condition": condition,
            "full": text(lambda r: float(r.accuracy.full.mean()), 1, 100),
            "circuit": text(lambda r: float(r.accuracy.circuit.mean()), 1, 100),
            "random": text(lambda r: float(r.accuracy.random.mean()), 1, 100),
            "faithfulness": text(lambda r: r.accuracy.faithfulness, 2),
            "CE": text(lambda r: r.ce, 3),
            "CKA": text(lambda r: r.cka, 3),
            "alignment": text(lambda r: r.alignment, 3),
            "mean drop": text(lambda r: r.mean_drop, 1),
            "heads": f"{100 * runs[0].head_share:.0f} %",
            "parameters": f"{100 * runs[0].parameter_share:.1f} %",
        }
        return row | {f"p, {name}": self._p_value(condition, name) for name in BASELINES if name in self.conditions}

    def _p_value(self, condition: str, baseline: str) -> str:
        if condition == baseline:
            return "–"
        found = self.tests(condition, baseline)
        return f"{np.median([t.p_value for t in found]):.3f}" if found else "–"


def mean_and_std(values: Sequence[float], digits: int) -> str:
    """ "0.81 ± 0.02" over seeds; a single value stands alone, and NaN is a dash."""
    if not np.isfinite(values).all():
        return "–"
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


def _numbers(r: DistillationRun) -> dict[str, float]:
    return {
        "full": float(r.accuracy.full.mean()),
        "circuit": float(r.accuracy.circuit.mean()),
        "random": float(r.accuracy.random.mean()),
        "faithfulness": r.accuracy.faithfulness,
        "validation": r.validation_accuracy,
        "ce": r.ce,
        "cka": r.cka,
        "alignment": r.alignment,
        "mean_drop": r.mean_drop,
        "head_share": r.head_share,
        "parameter_share": r.parameter_share,
        "seconds": r.seconds,
    }
