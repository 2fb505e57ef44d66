"""`compare`: a teacher and a student on one task, as in section 4 of Distilled Circuits, with what the paper leaves
out beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from circuitkd.circuits.screening import screened_sweep
from circuitkd.comparison.alignment import PairScore
from circuitkd.comparison.alignment_of_tokens import Units, common_units
from circuitkd.comparison.measure import Asked, Measured, example_patterns, measure, sample_points
from circuitkd.comparison.noise import SEEDS, STDS, GaussianNoise, NoiseCurve
from circuitkd.comparison.notebook_preset import NotebookAlignment, released_notebook
from circuitkd.comparison.pair_similarity import (
    NOTEBOOK_FIELDS,
    Measures,
    check_widths,
    fields_for,
    notebook_similarity,
    pair_similarity,
)
from circuitkd.comparison.pairs import TypedSimilarity
from circuitkd.comparison.performance import performance
from circuitkd.comparison.result import Comparison, ExamplePatterns, ModelSummary, Robustness, Slope
from circuitkd.comparison.robustness import drops, model_robustness, slope
from circuitkd.comparison.scoring import ScoreOptions, align, score
from circuitkd.comparison.variants import score_variants
from circuitkd.interventions.ablations import Ablation, find_reference
from circuitkd.interventions.capture import Noise
from circuitkd.interventions.execution import Execution, fingerprint, plan
from circuitkd.interventions.sweep import sweep
from circuitkd.interventions.sweep_result import SweepResult
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.models.random_model import randomly_initialised
from circuitkd.provenance import software
from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import BoundTask, bind_both

Floats = NDArray[np.float64]
NULL_SEED = 42
SHOWN_EXAMPLES = 2


@dataclass(frozen=True)
class CompareOptions:
    """`score`: measures, matching, influence. `random_null`: also score a randomly initialised student. `notebook`:
    also score as the released notebooks do ("ioi": as the IOI notebook, which neither rescales nor duplicates).
    `screen`: ablate only so many components of each model, those with the largest effects by attribution, and take
    the estimates for the rest (None: ablate all)."""

    score: ScoreOptions = field(default_factory=ScoreOptions)
    random_null: bool = True
    notebook: bool | str = False
    screen: int | None = None

    def __post_init__(self) -> None:
        if self.screen is not None and self.screen < 1:
            raise ValueError(f"screen must be at least 1 component, not {self.screen}: leave it out to ablate all")
        if self.notebook not in (True, False, "ioi"):
            raise ValueError(f"unknown notebook {self.notebook!r}: choose True, False, or 'ioi' for the IOI notebook")


@dataclass(frozen=True, eq=False)
class PreparedPair:
    """Two models, their tokens of the same examples, where they are compared, and what a similarity pass is asked for.
    `screen`: see `CompareOptions`."""

    models: tuple[CircuitModel, CircuitModel]
    tasks: tuple[BoundTask, BoundTask]
    units: tuple[Units, Units]
    asked: Asked
    ablation: Ablation
    execution: Execution
    screen: int | None = None


def compare(
    teacher: CircuitModel,
    student: CircuitModel,
    task: Task,
    *,
    ablation: Ablation | None = None,
    options: CompareOptions | None = None,
    execution: Execution | None = None,
) -> Comparison:
    """Sweep both models, match their components, and score alignment, performance and robustness.

    An example that only one model can take is dropped for both and counted. Raises ValueError, before any long run,
    when the task does not fit, and for measures that the pair does not allow. Source: DC sections 3.2.3 and 4,
    Appendices K to M.
    """
    options = options or CompareOptions()
    widths = ((teacher.d_model, teacher.d_head), (student.d_model, student.d_head))
    check_widths(*widths, measures=options.score.measures, notebook=bool(options.notebook))
    pair = replace(prepare(teacher, student, task, ablation=ablation, execution=execution), screen=options.screen)
    sweeps = (run_sweep(pair, 0), run_sweep(pair, 1))
    reported = _asking(pair, options.score.measures, others=True)
    measured = (run_measure(reported, 0), run_measure(reported, 1))
    similarity = pair_similarity(*measured, measures=options.score.measures, others=True, device=student.device)
    untrained = _random_student(pair, sweeps[0], measured[0], options.score) if options.random_null else (None, None)
    effects = (sweeps[0].drops, sweeps[1].drops)
    summaries = (summary(teacher), summary(student))
    return Comparison(
        teacher=summaries[0],
        student=summaries[1],
        task=task.name,
        teacher_sweep=sweeps[0],
        student_sweep=sweeps[1],
        similarity=similarity,
        alignment=align(
            *sweeps,
            similarity=similarity,
            options=options.score,
            random_student=untrained[0],
            random_largest=untrained[1],
        ),
        performance=performance(sweeps[0].base, sweeps[1].base),
        robustness=_robustness(pair.models, sweeps),
        variants={name: v.score for name, v in score_variants(similarity.typed, effects).items()},
        patterns=_shown_patterns(pair),
        dropped=dict(pair.tasks[0].dropped),
        warnings=_warnings(pair, sweeps),
        manifest=_manifest(pair, task, summaries),
        notebook=_notebook(pair, task, sweeps, options.notebook) if options.notebook else None,
    )


def noise_curve(
    teacher: CircuitModel,
    student: CircuitModel,
    task: Task,
    *,
    stds: Sequence[float] = STDS,
    seeds: Sequence[int] = SEEDS,
    execution: Execution | None = None,
) -> NoiseCurve:
    """Alignment as Gaussian noise disturbs the student more and more (DC section 4.2.1, Figure 3).

    Raises ValueError as `compare`, and for a deviation or seed below 0 or none at all.
    """
    if not len(stds) or not len(seeds):
        raise ValueError("the noise experiment needs at least one standard deviation and one seed")
    noises = [[GaussianNoise(std, seed) for seed in seeds] for std in stds]
    options = ScoreOptions()
    pair = _asking(prepare(teacher, student, task, execution=execution), options.measures)
    teacher_side = run_sweep(pair, 0), run_measure(pair, 0)
    found = np.zeros((3, len(stds), len(seeds)))
    for i, row in enumerate(noises):
        for j, noise in enumerate(row):
            total = _scored(pair, *teacher_side, options=options, noise=noise)[0]
            found[:, i, j] = total.score, total.mean_similarity, total.mean_agreement
            done = i * len(seeds) + j + 1
            pair.execution.report("noise experiment", done, total=len(stds) * len(seeds))
    return NoiseCurve(tuple(stds), tuple(seeds), *found)


def prepare(
    teacher: CircuitModel,
    student: CircuitModel,
    task: Task,
    *,
    ablation: Ablation | None = None,
    execution: Execution | None = None,
) -> PreparedPair:
    """Bind the task to both models, keep the examples both can take, and align their tokens. Checks that fail, fail
    here."""
    ablation = ablation or Ablation(task.ablation)
    bound = bind_both(task, teacher, student=student, aligned=ablation.needs_alignment)
    for model, of_model in zip((teacher, student), bound, strict=True):
        find_reference(model, of_model, ablation=ablation)
    units = common_units(teacher, student, teacher_task=bound[0], student_task=bound[1])
    asked = Asked(sample_points(units[0]))
    return PreparedPair((teacher, student), bound, units, asked, ablation, execution or Execution())


def run_sweep(pair: PreparedPair, side: int, *, noise: Noise | None = None) -> SweepResult:
    """The sweep of the teacher (0) or the student (1), screened where the pair says so."""
    model, task, ablation, execution = pair.models[side], pair.tasks[side], pair.ablation, pair.execution
    if pair.screen is None or pair.screen >= len(model.components):
        return sweep(model, task, ablation=ablation, execution=execution, noise=noise)
    assert noise is None, "attribution knows no noise"
    return screened_sweep(model, task, top=pair.screen, ablation=ablation, execution=execution).sweep


def run_measure(pair: PreparedPair, side: int, *, noise: Noise | None = None) -> Measured:
    """The similarity pass of the teacher (0) or the student (1), with fewer prompts at a time when memory runs out."""
    model, task, units = pair.models[side], pair.tasks[side], pair.units[side]
    size = plan(model, task, execution=pair.execution).batch_size
    while True:
        try:
            return measure(model, task, units=units, asked=pair.asked, batch_size=size, noise=noise)
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size //= 2


def _asking(pair: PreparedPair, measures: Measures, *, others: bool = False) -> PreparedPair:
    """The pair, whose similarity passes keep no more than these measures need."""
    return replace(pair, asked=replace(pair.asked, fields=fields_for(measures, models=pair.models, others=others)))


def summary(model: CircuitModel) -> ModelSummary:
    """The facts about a model that go into a result."""
    return ModelSummary(
        name=model.name,
        hf_class=model.architecture.hf_class,
        is_causal=model.is_causal,
        n_layers=model.n_layers,
        n_heads=model.n_heads,
        n_kv_heads=model.n_kv_heads,
        d_model=model.d_model,
        parameter_count=model.parameter_count,
        dtype=str(model.dtype).removeprefix("torch."),
        fingerprint=fingerprint(model),
    )


def _random_student(
    pair: PreparedPair, teacher_sweep: SweepResult, teacher: Measured, options: ScoreOptions
) -> tuple[PairScore, Floats]:
    """The untrained student's score, and the largest similarity of each teacher component to one of its own."""
    models = (pair.models[0], randomly_initialised(pair.models[1], seed=NULL_SEED))
    untrained = _asking(replace(pair, models=models), options.measures)
    total, similarity = _scored(untrained, teacher_sweep, teacher, options=options)
    return total, np.concatenate([similarity.head.max(axis=1), similarity.mlp.max(axis=1)])


def _scored(
    pair: PreparedPair,
    teacher_sweep: SweepResult,
    teacher: Measured,
    *,
    options: ScoreOptions,
    noise: Noise | None = None,
) -> tuple[PairScore, TypedSimilarity]:
    """The student's score and what it was matched by, with nothing beside them."""
    found, student = run_sweep(pair, 1, noise=noise), run_measure(pair, 1, noise=noise)
    similarity = pair_similarity(teacher, student, measures=options.measures, device=pair.models[1].device)
    return score(similarity, (teacher_sweep.drops, found.drops), options=options).total, similarity.typed


def _robustness(models: tuple[CircuitModel, CircuitModel], sweeps: tuple[SweepResult, SweepResult]) -> Robustness:
    for found in sweeps:
        if not found.base.mean():
            raise ValueError(
                f"{found.model}: the mean logit difference on {found.task!r} is exactly 0, so effects have no percentages: "
                "use a task on which the model prefers answers or distractors"
            )
    retained = [s.retained_percent for s in sweeps]
    sizes = [m.parameter_count for m in models]
    steepness = None
    if sizes[1] < sizes[0]:
        compression = 1 - sizes[1] / sizes[0]
        mean, low, high = slope(drops(retained[0]), drops(retained[1]), compression)
        steepness = Slope(compression, mean, (low, high))
    return Robustness(model_robustness(retained[0]), model_robustness(retained[1]), steepness)


def _shown_patterns(pair: PreparedPair) -> tuple[ExamplePatterns, ...]:
    shown = []
    for row in range(min(SHOWN_EXAMPLES, len(pair.tasks[0]))):
        sides = [(m, t.examples[row]) for m, t in zip(pair.models, pair.tasks, strict=True)]
        tokens = [tuple(m.tokenizer.convert_ids_to_tokens(list(e.clean))) for m, e in sides]
        found = [example_patterns(m, t, row=row) for m, t in zip(pair.models, pair.tasks, strict=True)]
        shown.append(ExamplePatterns(sides[0][1].id, tokens[0], tokens[1], teacher=found[0], student=found[1]))
    return tuple(shown)


def _warnings(pair: PreparedPair, sweeps: tuple[SweepResult, SweepResult]) -> tuple[str, ...]:
    found = [f"{m.name}: {w}" for m, s in zip(pair.models, sweeps, strict=True) for w in s.warnings]
    if pair.units[0].are_words:
        found.append("the models read different tokens: patterns are compared word by word")
    return tuple(dict.fromkeys(found))


def _notebook(
    pair: PreparedPair, task: Task, sweeps: tuple[SweepResult, SweepResult], wanted: bool | str
) -> NotebookAlignment:
    """The preset `released-notebook`, whose similarity pass alone has a BOS (where the tokenizer knows one)."""
    again = prepare(*pair.models, replace(task, bos=True), ablation=pair.ablation, execution=pair.execution)
    again = replace(again, asked=replace(again.asked, fields=NOTEBOOK_FIELDS))
    similarity = notebook_similarity(run_measure(again, 0), run_measure(again, 1))
    retained = (sweeps[0].retained_percent, sweeps[1].retained_percent)
    return released_notebook(similarity, retained, ioi=wanted == "ioi")


def _manifest(pair: PreparedPair, task: Task, summaries: tuple[ModelSummary, ModelSummary]) -> dict[str, str]:
    facts = {
        "task": task.name,
        "data_sha256": task.digest(),
        "examples": str(len(pair.tasks[0])),
        "ablation": pair.ablation.describe(),
        "metric": "logit[answer] - logit[distractor] at the answer position (logsumexp over sets)",
        "null_seed": str(NULL_SEED),
        "patterns": "by word" if pair.units[0].are_words else "by token",
    }
    if pair.screen is not None:
        facts["effects"] = f"ablation of the {pair.screen} components of largest attribution, attribution for the rest"
    for side, model, facts_of in zip(("teacher", "student"), pair.models, summaries, strict=True):
        facts[side] = f"{model.name} {facts_of.hf_class} {facts_of.dtype} {facts_of.fingerprint}"
        facts[f"{side}_tokenizer"] = f"{type(model.tokenizer).__name__}, {len(model.tokenizer)} tokens"
    return facts | software()
