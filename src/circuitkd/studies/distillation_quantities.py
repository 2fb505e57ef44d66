"""What study files may ask of the distillation experiment (the tables of CD).

Accuracies are shares in [0, 1], as CD prints them, averaged over seeds; intervals resample the test examples. "teacher"
stands for the teacher and its own circuit among the conditions.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from circuitkd.comparison.performance import Estimate
from circuitkd.comparison.resampling import interval, resampled_means
from circuitkd.distill.conditions import MAPPED
from circuitkd.distill.evaluation import CircuitAccuracy
from circuitkd.studies.distillation import Distillation
from circuitkd.studies.measured import DRAWS, SEED, Floats, Quantity, chosen, numbered, over_examples, plain

TEACHER = "teacher"
CONDITION = "a condition, or teacher"


def accuracies(result: Distillation, condition: str) -> tuple[CircuitAccuracy, ...]:
    """Per seed, or the teacher's once. Raises ValueError for a condition that was not run."""
    if condition == TEACHER:
        return (result.teacher_accuracy,)
    return tuple(run.accuracy for run in result.experiment.of(condition))


def accuracy(result: Distillation, condition: str, *, what: str) -> Estimate:
    """`what`: full, circuit or random. Raises ValueError for a condition that was not run."""
    return over_examples(_by_example(result, condition, what))


def faithfulness(result: Distillation, condition: str) -> Estimate:
    """Circuit over full accuracy, examples resampled for both; NaN where nothing is right."""
    series = np.stack([_by_example(result, condition, what) for what in ("circuit", "full")])
    if not series[1].any():
        return plain(float("nan"))
    samples = np.concatenate(list(resampled_means(series, draws=DRAWS, seed=SEED)))
    defined = samples[samples[:, 1] > 0]
    means = series.mean(axis=1)
    return Estimate(float(means[0] / means[1]), *interval(defined[:, 0] / defined[:, 1]))


def _by_example(result: Distillation, condition: str, what: str) -> Floats:
    """Share of seeds (and draws) that get each example right [example]."""
    found = [getattr(a, what) for a in accuracies(result, condition)]
    return np.mean([x.reshape(-1, x.shape[-1]).mean(axis=0) for x in found], axis=0)


def _p_value(result: Distillation, baseline: str) -> Estimate:
    return plain(float(np.median([t.p_value for t in result.experiment.tests(MAPPED.name, baseline)])))


def _task_loss(result: Distillation, where: str) -> Estimate:
    condition, step = numbered(where, "step")
    runs = result.experiment.of(condition)
    if not all(len(run.task_losses) for run in runs):
        raise ValueError(f"{condition!r} has no task loss: it was not trained on one")
    logged = [f"{s:g}" for s in runs[0].loss_steps]
    return plain(float(np.mean([run.task_losses[chosen(f"{step:g}", logged, what="logged step")] for run in runs])))


DISTILLATION_QUANTITIES: Mapping[str, Quantity] = {
    "full-accuracy": Quantity("distill", "", lambda r, of: accuracy(r, of, what="full"), CONDITION),
    "circuit-accuracy": Quantity("distill", "", lambda r, of: accuracy(r, of, what="circuit"), CONDITION),
    "random-circuit-accuracy": Quantity("distill", "", lambda r, of: accuracy(r, of, what="random"), CONDITION),
    "circuit-faithfulness": Quantity("distill", "", faithfulness, CONDITION),
    "task-loss": Quantity("distill", "nats", _task_loss, "a condition and a logged step, like circuit, CE, step 200"),
    "p-against": Quantity("distill", "", _p_value, "a baseline condition; McNemar, median over seeds"),
}
