"""Two conditions of an experiment seed by seed: the difference of a measure, with what it takes to call it one.

Seeds are paired (the same order of rows, the same random draws), so the differences d of each seed are summarised:

    interval    mean d ± t(0.975, n - 1) sd(d) / sqrt(n)    95 %, over training runs on these examples; none for one seed
    p           accuracy only: the median over seeds of McNemar's exact p-value, over examples within one run

A difference is shown where there are at least three seeds, the interval leaves out 0 and, for accuracies, the median p is
below 0.05 too: the interval says nothing about other examples, p nothing about other runs.

Limits: intervals of few seeds are wide and rest on normality; no correction is made for making several comparisons.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import t

from circuitkd.distill.conditions import ALL_CE, CIRCUIT_CE, MAPPED, UNTRAINED
from circuitkd.distill.experiment_result import DistillationRun, ExperimentResult

Measure = Literal["full", "circuit", "mean drop", "alignment"]
LEVEL, LEAST_SEEDS = 0.05, 3
COMPARED = (ALL_CE.name, CIRCUIT_CE.name, "circuit, CE + CKA of random pairs", UNTRAINED.name)


@dataclass(frozen=True)
class Difference:
    """`condition` minus `baseline` in a measure: accuracies and the mean drop in percent points. `values` [seed]."""

    condition: str
    baseline: str
    measure: str
    values: tuple[float, ...]
    interval: tuple[float, float] | None
    p_value: float | None

    @property
    def mean(self) -> float:
        """Mean over seeds (NaN where a run has no value)."""
        return float(np.mean(self.values))

    @property
    def shown(self) -> Literal["higher", "lower", "no"]:
        """Whether the difference is shown, and its direction."""
        too_few = self.interval is None or len(self.values) < LEAST_SEEDS
        if too_few or (self.p_value is not None and not self.p_value < LEVEL):
            return "no"
        assert self.interval is not None
        return "higher" if self.interval[0] > 0 else "lower" if self.interval[1] < 0 else "no"


def main_condition(result: ExperimentResult) -> str:
    """The condition an experiment is about: the circuit trained with CE and the CKA of mapped pairs, else the last one."""
    return MAPPED.name if MAPPED.name in result.conditions else result.conditions[-1]


def differences(result: ExperimentResult, condition: str, *, measure: Measure) -> tuple[Difference, ...]:
    """A condition minus each of COMPARED that was run. Raises ValueError for a condition that was not run."""
    others = [name for name in COMPARED if name in result.conditions and name != condition]
    return tuple(difference(result, condition, baseline=baseline, measure=measure) for baseline in others)


def difference(result: ExperimentResult, condition: str, *, baseline: str, measure: Measure) -> Difference:
    """A condition minus another, over the seeds that both have. Raises ValueError for a condition that was not run, and
    for two without a seed in common."""
    ours, theirs = ({r.seed: value_of(r, measure) for r in result.of(name)} for name in (condition, baseline))
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        raise ValueError(f"{condition!r} and {baseline!r} have no seed in common: run both with the same seeds")
    values = tuple(ours[s] - theirs[s] for s in seeds)
    p_value = None
    if measure == "full":
        p_value = float(np.median([test.p_value for test in result.tests(condition, baseline)]))
    return Difference(condition, baseline, measure, values, _interval(values), p_value)


def value_of(run: DistillationRun, measure: Measure) -> float:
    """The measure of a run; accuracies and the mean drop in percent points."""
    values: dict[str, float] = {
        "full": 100 * float(run.accuracy.full.mean()),
        "circuit": 100 * float(run.accuracy.circuit.mean()),
        "mean drop": run.mean_drop,
        "alignment": run.alignment,
    }
    return values[measure]


def _interval(values: tuple[float, ...]) -> tuple[float, float] | None:
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    mean = float(np.mean(values))
    reach = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return mean - reach, mean + reach
