"""The tables of a study: results as rows, nothing computed anew but means, intervals and differences of what is there.

One table for everything of one kind, a row for each pair and task (and component, condition ...), and one for each
source of printed values, with ours beside the paper's. "inside": whether the printed value lies in our interval; empty
where we have none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from circuitkd.circuits.circuit import Circuit
from circuitkd.circuits.discovery import ThresholdSweep
from circuitkd.comparison.noise import NoiseCurve
from circuitkd.comparison.performance import Estimate
from circuitkd.comparison.result import Comparison
from circuitkd.comparison.variants import VARIANTS
from circuitkd.distill.conditions import CIRCUIT_CE
from circuitkd.roles.brittleness import Reliance
from circuitkd.roles.fate_result import KINDS
from circuitkd.roles.result import RolesResult
from circuitkd.studies.comparison_quantities import drop_difference
from circuitkd.studies.distillation import Distillation
from circuitkd.studies.distillation_quantities import TEACHER, accuracy, faithfulness
from circuitkd.studies.job_kinds import StudyCircuits
from circuitkd.studies.measured import SIDES
from circuitkd.studies.quantities import QUANTITIES, job_of
from circuitkd.studies.run_folders import safe_name
from circuitkd.studies.running import StudyRun
from circuitkd.studies.study_file import PrintedValue

Cell = str | int | float | Estimate
Row = tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """`name`: of its files. `rows`: text, counts, numbers, and estimates with their intervals. `note`: what the columns
    mean. `digits`: decimals of numbers."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""
    digits: int = 3


@dataclass(frozen=True)
class _Recipe:
    """A table of all results of one kind: `rows` gives the rows of one result."""

    kind: str
    name: str
    title: str
    columns: tuple[str, ...]
    rows: Callable[[Any], Iterator[Row]]
    note: str
    digits: int = 3


def study_tables(run: StudyRun) -> tuple[Table, ...]:
    """Every table that has a row, those with printed values first."""
    found = list(_printed(run))
    for recipe in RECIPES:
        rows = [
            (job.pair.name, job.task.key, *row)
            for job, result in run.of_kind(recipe.kind)
            for row in recipe.rows(result)
        ]
        columns = ("pair", "task", *recipe.columns)
        found.append(Table(recipe.name, recipe.title, columns, tuple(rows), recipe.note, recipe.digits))
    return tuple(table for table in found if table.rows)


def _printed(run: StudyRun) -> Iterator[Table]:
    """A table for each source of printed values."""
    for source in dict.fromkeys(p.source for p in run.study.printed):
        entries = [_beside(run, p) for p in run.study.printed if p.source == source]
        reasons = dict.fromkeys(reason for _, reason in entries if reason)
        yield Table(
            safe_name(source).lower(),
            f"{source}: ours beside the paper's",
            ("pair", "task", "quantity", "unit", "ours", "printed", "inside"),
            tuple(row for row, _ in entries),
            "; ".join(("Ours with 95 % intervals where there are any", *reasons)) + ".",
            4,
        )


def _beside(run: StudyRun, printed: PrintedValue) -> tuple[Row, str]:
    """The row of a printed value, and why ours is missing."""
    quantity, reason = QUANTITIES[printed.quantity], ""
    result = run.results.get(job_of(run.study, printed).folder)
    ours = Estimate(math.nan, math.nan, math.nan)
    if result is None:
        reason = f"{quantity.kind} of {printed.pair} on {printed.task} failed"
    else:
        try:
            ours = quantity.read(result, printed.of or "")
        except ValueError as error:
            reason = f"{printed.pair} on {printed.task}: {error}"
    name = printed.quantity + (f" of {printed.of}" if printed.of else "")
    paper = Estimate(*(math.nan if x is None else x for x in (printed.value, printed.low, printed.high)))
    return (printed.pair, printed.task, name, quantity.unit, ours, paper, _inside(ours, printed)), reason


def _inside(ours: Estimate, printed: PrintedValue) -> str:
    """Whether the printed value is in our interval, or a printed range touches it."""
    if math.isnan(ours.low) or math.isnan(ours.high):
        return ""
    ends = (printed.low, printed.high) if printed.value is None else (printed.value, printed.value)
    return "yes" if ours.low <= (ends[1] or 0.0) and (ends[0] or 0.0) <= ours.high else "no"


def _comparison(c: Comparison) -> Iterator[Row]:
    a = c.alignment
    agreement = Estimate(a.mean_agreement, *a.agreement_interval)
    random = math.nan if a.null.random_score is None else a.null.random_score
    yield (Estimate(a.score, *a.interval), a.mean_similarity, agreement, a.null.shuffled_mean, random)


def _performance(c: Comparison) -> Iterator[Row]:
    p, accuracies = c.performance, [100 * float(s.accuracy.mean()) for s in (c.teacher_sweep, c.student_sweep)]
    yield (p.n, p.teacher, p.student, p.gap, p.mean, *accuracies)


def _robustness(c: Comparison) -> Iterator[Row]:
    r = c.robustness
    sides = [Estimate(s.mean_drop, *s.interval) for s in (r.teacher, r.student)]
    shares = [100 * s.share_above_10 for s in (r.teacher, r.student)]
    slope = Estimate(*r.slope.per_tenth) if r.slope else math.nan
    yield (*sides, drop_difference(c), slope, *shares)


def _variants(c: Comparison) -> Iterator[Row]:
    yield tuple(c.variants[name] for name in VARIANTS)


def _circuits(result: StudyCircuits) -> Iterator[Row]:
    found = result.found
    for side in SIDES:
        circuit: Circuit | None = getattr(found, side)
        if circuit is None:
            yield (side, "none", *[""] * 6)
            continue
        e = circuit.require_evaluation()
        yield (
            side,
            *_sizes(circuit),
            Estimate(e.retained, *e.retained_interval),
            Estimate(e.faithfulness, *e.faithfulness_interval),
            Estimate(e.completeness, *e.completeness_interval),
        )


def _sizes(circuit: Circuit) -> tuple[int, int, int, int]:
    return len(circuit.components), len(circuit.heads), len(circuit.mlps), len(circuit.edges)


def _thresholds(result: StudyCircuits) -> Iterator[Row]:
    for side in SIDES:
        sweep: ThresholdSweep | None = getattr(result, f"{side}_thresholds")
        for threshold, circuit in zip(sweep.thresholds, sweep.circuits, strict=True) if sweep else ():
            yield (side, f"{threshold:g}", *_sizes(circuit), 100 * circuit.retained, 100 * (1 - circuit.completeness))


def _reliances(result: RolesResult) -> Iterator[Row]:
    for ours in zip(result.brittleness.teacher.reliances, result.brittleness.student.reliances, strict=True):
        yield (ours[0].role, *(cell for side in ours for cell in _reliance(side)))


def _reliance(side: Reliance) -> tuple[Cell, Cell]:
    if side.head is None:
        return "none", ""
    return str(side.head), Estimate(side.drop, *side.drop_interval)


def _fates(result: RolesResult) -> Iterator[Row]:
    counts = result.fates.counts(), result.fates.counts(influential=True)
    yield tuple(f"{counts[0][kind]} ({counts[1][kind]})" for kind in KINDS)


def _noise(curve: NoiseCurve) -> Iterator[Row]:
    columns = (curve.mean, curve.std, curve.similarities.mean(axis=1), curve.agreements.mean(axis=1))
    for std, *values in zip(curve.stds, *columns, strict=True):
        yield (f"{std:g}", *map(float, values))


def _distillations(result: Distillation) -> Iterator[Row]:
    for condition in (*result.experiment.conditions, TEACHER):
        shares = [accuracy(result, condition, what=what) for what in ("full", "circuit", "random")]
        yield (condition, *shares, faithfulness(result, condition), _p_value(result, condition))


def _p_value(result: Distillation, condition: str) -> str:
    """McNemar's p against plain distillation of the circuit."""
    rows = {row["condition"]: row for row in result.experiment.rows()}
    return rows.get(condition, {}).get(f"p, {CIRCUIT_CE.name}", "")


RECIPES = (
    _Recipe(
        "compare",
        "alignment",
        "Alignment",
        ("alignment", "similarity", "agreement", "null: shuffled", "null: untrained"),
        _comparison,
        "Alignment is the mean of similarity times agreement in influence. Nulls: the same with influences shuffled, and "
        "for an untrained student.",
    ),
    _Recipe(
        "compare",
        "performance",
        "Performance",
        ("examples", "teacher", "student", "gap", "mean", "teacher right %", "student right %"),
        _performance,
        "Teacher, student, gap (teacher - student) and mean of both: logit differences. Right: the most likely token is an "
        "answer.",
        2,
    ),
    _Recipe(
        "compare",
        "robustness",
        "Robustness to ablation",
        ("teacher", "student", "difference", "slope", "teacher > 10 %", "student > 10 %"),
        _robustness,
        "Mean over components of what ablating one costs, in % of the logit difference; slope: points per 0.1 of "
        "compression; > 10 %: share of components that cost more, in %.",
        2,
    ),
    _Recipe(
        "compare",
        "variants",
        "Definitions of alignment",
        VARIANTS,
        _variants,
        "Normalisation of influence + matching of components.",
    ),
    _Recipe(
        "circuits",
        "circuits",
        "Circuits",
        ("model", "nodes", "heads", "MLPs", "edges", "retained", "faithfulness", "completeness"),
        _circuits,
        "Shares of the model's logit difference: retained by the circuit alone; the same above what an empty circuit "
        "keeps; lost without the circuit.",
    ),
    _Recipe(
        "circuits",
        "thresholds",
        "Circuits by threshold",
        ("model", "threshold", "nodes", "heads", "MLPs", "edges", "retained %", "left without %"),
        _thresholds,
        "Retained by the circuit alone, and left of the model without it, in % of its logit difference.",
        1,
    ),
    _Recipe(
        "roles",
        "roles",
        "What hangs on the best head of each role",
        ("role", "teacher", "drop %", "student", "its drop %"),
        _reliances,
        "The head with the highest score in a role, and what ablating it costs of the logit difference.",
        1,
    ),
    _Recipe(
        "roles",
        "fates",
        "What became of the teacher's components",
        KINDS,
        _fates,
        "In brackets: of the influential ones.",
    ),
    _Recipe(
        "noise",
        "noise",
        "Alignment of a disturbed student",
        ("std", "alignment", "± over seeds", "similarity", "agreement"),
        _noise,
        "Gaussian noise on all head outputs and MLP outputs of the student.",
    ),
    _Recipe(
        "distill",
        "distillation",
        "Circuit distillation",
        ("condition", "full", "circuit", "random", "faithfulness", f"p, {CIRCUIT_CE.name}"),
        _distillations,
        "Accuracy on test examples, mean over seeds, with intervals over examples; circuit: all other heads ablated; "
        f"random: as many heads instead; p: McNemar against {CIRCUIT_CE.name!r}, median over seeds.",
    ),
)
