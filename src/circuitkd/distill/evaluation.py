"""How well a distilled student does: whole, its circuit alone, random circuits; against another student; and how close
to its teacher it is.

    circuit accuracy   all heads outside the circuit mean-ablated, MLPs kept (CD: "all other heads mean-ablated")
    random circuits    as many random heads kept instead, the mean over several draws
    faithfulness       circuit accuracy / full accuracy (CD)
    McNemar            exact two-sided binomial test on the examples that exactly one of two students gets right

Limits: faithfulness exceeds 1 where ablating the other heads helps, and is NaN for a student that gets nothing right;
McNemar's test speaks of these examples and this run, not of other seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from circuitkd.circuits.kept import KeptScorer
from circuitkd.comparison.alignment_of_tokens import common_units
from circuitkd.comparison.checks import finite
from circuitkd.comparison.measure import Asked, Measured, measure, sample_points
from circuitkd.comparison.pair_similarity import Measures, fields_for, pair_similarity
from circuitkd.comparison.robustness import drops
from circuitkd.comparison.scoring import ScoreOptions, score
from circuitkd.components import Component
from circuitkd.distill.data import rows_of
from circuitkd.distill.losses import alignment_loss, label_loss
from circuitkd.distill.signals import LiveTeacher, Needs, all_signals
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.execution import Execution, plan
from circuitkd.interventions.sweep import sweep
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.tasks.binding import BoundTask

Floats = NDArray[np.float64]
Side = tuple[CircuitModel, BoundTask]
Pairs = Sequence[tuple[Component, Component]]


@dataclass(frozen=True, eq=False)
class CircuitAccuracy:
    """Whether each example is right (1) or wrong (0): `full`, `circuit` [example], `random` [draw, example]."""

    full: Floats
    circuit: Floats
    random: Floats

    @property
    def faithfulness(self) -> float:
        """Circuit accuracy / full accuracy (NaN where the latter is 0)."""
        full = float(self.full.mean())
        return float(self.circuit.mean()) / full if full else float("nan")


@dataclass(frozen=True)
class McNemar:
    """Examples that only the first and only the second student gets right, and the two-sided exact p-value."""

    only_first: int
    only_second: int
    p_value: float


def circuit_accuracy(
    model: CircuitModel,
    task: BoundTask,
    *,
    heads: Sequence[Component],
    draws: int = 10,
    seed: int = 0,
    execution: Execution | None = None,
) -> CircuitAccuracy:
    """Accuracy of the model, of its circuit and of `draws` random circuits from `seed`; ablated heads are at their mean
    over corrupted prompts. Raises ValueError for heads the model does not have."""
    scorer = KeptScorer(model, task, ablation=Ablation(task.ablation), execution=execution, performance="accuracy")
    every = [c for c in model.components if c.kind == "head"]
    mlps = scorer.everything - frozenset(every)
    rng = np.random.default_rng(seed)
    drawn = [[every[i] for i in rng.choice(len(every), size=len(heads), replace=False)] for _ in range(draws)]
    return CircuitAccuracy(
        full=scorer.values(scorer.everything),
        circuit=scorer.values(mlps | set(heads)),
        random=np.array([scorer.values(mlps | set(chosen)) for chosen in drawn]).reshape(draws, len(task)),
    )


def mcnemar(first: Floats, second: Floats) -> McNemar:
    """Exact McNemar test of two students from whether each example is right [example]. p = 1 where they agree on all.

    Raises ValueError for different numbers of examples.
    """
    ours, theirs = (
        finite(x, f"{side} student", axes="example") > 0.5 for x, side in ((first, "first"), (second, "second"))
    )
    if len(ours) != len(theirs):
        raise ValueError(f"the students have {len(ours)} and {len(theirs)} examples: compare them on the same ones")
    counts = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    p_value = float(binomtest(counts[0], sum(counts), 0.5).pvalue) if sum(counts) else 1.0
    return McNemar(*counts, p_value)


def right_answers(model: CircuitModel, task: BoundTask) -> Floats:
    """1 for each example whose top token is an answer, else 0 [example]."""
    top = all_signals(LiveTeacher(model, Needs(labels=True)), rows_of(task))["labels"].tolist()
    return np.array([float(token in e.answers) for token, e in zip(top, task.examples, strict=True)])


@dataclass(frozen=True)
class Fit:
    """`ce`: mean cross-entropy on the teacher's top tokens; `cka`: mean CKA over pairs, at the answer position."""

    ce: float
    cka: float


def fit(teacher: Side, student: Side, *, pairs: Pairs, debiased: bool = False) -> Fit:
    """How close a student is to its teacher on a task. Raises ValueError as `losses.cka` for too few examples."""
    ours, theirs = (tuple(pair[i] for pair in pairs) for i in (0, 1))
    wanted = all_signals(LiveTeacher(teacher[0], Needs(theirs, labels=True)), rows_of(teacher[1]))
    found = all_signals(LiveTeacher(student[0], Needs(ours, logits=True)), rows_of(student[1]))
    aligned = alignment_loss(found["z"], wanted["z"], debiased=debiased, reduction="mean")
    return Fit(float(label_loss(found["logits"], wanted["labels"]).mean()), 1 - float(aligned))


class Scorer:
    """Alignment with the teacher (DC Eq. 8) and mean ablation-induced drop (DC Table 2) of students on one task.

    The definitions are the defaults of `compare`, without its intervals and nulls. The teacher is measured once.
    """

    def __init__(self, teacher: Side, student: Side, *, execution: Execution) -> None:
        self.task, self.execution = student[1], execution
        units = common_units(teacher[0], student[0], teacher_task=teacher[1], student_task=student[1])
        fields = fields_for(Measures(), models=(teacher[0], student[0]))
        self.units, self.asked = units, Asked(sample_points(units[0]), fields)
        self.teacher_drops = sweep(*teacher, execution=execution).drops
        self.teacher = self._measured(*teacher, side=0)

    def __call__(self, student: CircuitModel) -> tuple[float, float]:
        """(alignment, mean drop in percent points); NaN for the drop where the mean logit difference is 0."""
        found = sweep(student, self.task, execution=self.execution)
        measured = self._measured(student, self.task, side=1)
        similarity = pair_similarity(self.teacher, measured, measures=Measures(), device=student.device)
        total = score(similarity, (self.teacher_drops, found.drops), options=ScoreOptions()).total
        retained = found.retained_percent
        drop = float(drops(retained).mean()) if np.isfinite(retained).all() else float("nan")
        return total.score, drop

    def _measured(self, model: CircuitModel, task: BoundTask, *, side: int) -> Measured:
        size = plan(model, task, execution=self.execution).batch_size
        return measure(model, task, units=self.units[side], asked=self.asked, batch_size=size)
