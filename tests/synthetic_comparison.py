"""A Comparison made of random numbers that fit together: scores, intervals and nulls come from the real pure
cores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from circuitkd.comparison.alignment import Alignment, alignment_from
from circuitkd.comparison.pair_similarity import Similarity
from circuitkd.comparison.pairs import TypedSimilarity
from circuitkd.comparison.performance import performance
from circuitkd.comparison.result import (
    AlignmentResult,
    Comparison,
    ExamplePatterns,
    MatchedPair,
    ModelSummary,
    Null,
    Robustness,
    Slope,
)
from circuitkd.comparison.robustness import compression_fraction, drops, model_robustness, slope
from circuitkd.comparison.similarity import flattened_cosine
from circuitkd.comparison.uncertainty import bootstrap_alignment, shuffled_null
from circuitkd.comparison.variants import score_variants
from circuitkd.components import model_components
from circuitkd.interventions.sweep_result import SweepResult

WORDS = "When Mary and John went to the store , John gave a bottle to".split()
SHOWN = 3
D_MODEL = 64


def synthetic(task="ioi", teacher_layers=4, student_layers=2, *, heads=4, examples=12, seed=0) -> Comparison:
    """A teacher and a student whose heads are noisy copies of some of the teacher's."""
    rng = np.random.default_rng(seed)
    layers = (teacher_layers, student_layers)
    patterns, copies = _patterns(rng, layers, heads)
    sweeps = _sweeps(rng, task, layers, heads=heads, examples=examples, copies=copies)
    similarity = _similarity(rng, patterns, layers)
    effects = (sweeps[0].drops, sweeps[1].drops)
    models = tuple(_summary(name, n, heads) for name, n in zip(("tiny-teacher", "tiny-student"), layers, strict=True))
    return Comparison(
        teacher=models[0],
        student=models[1],
        task=task,
        teacher_sweep=sweeps[0],
        student_sweep=sweeps[1],
        similarity=similarity,
        alignment=_alignment(similarity, sweeps),
        performance=performance(sweeps[0].base, sweeps[1].base, draws=500),
        robustness=_robustness(sweeps, models),
        variants={name: score.score for name, score in score_variants(similarity.typed, effects).items()},
        patterns=_examples(*patterns),
        dropped={"ex-99": "its answer is two tokens for tiny-student"},
        warnings=("fewer than 8 examples in the group of length 15",),
        manifest={"circuitkd": "0.1.0", "seed": str(seed), "data sha256": "0f" * 8, "dtype": "float32"}
        | {"teacher": models[0].name, "student": models[1].name, "data_sha256": f"{task} {seed}", "ablation": "mean"},
    )


def with_text(comparison: Comparison, text: str) -> Comparison:
    """The same comparison with `text` wherever a user's own words reach the page."""
    shown = tuple(
        replace(
            p,
            example=text,
            teacher_tokens=(text, *p.teacher_tokens[1:]),
            student_tokens=(text, *p.student_tokens[1:]),
        )
        for p in comparison.patterns
    )
    return replace(
        comparison,
        task=text,
        teacher=replace(comparison.teacher, name=text, hf_class=text),
        student=replace(comparison.student, name=text + "2"),
        alignment=replace(comparison.alignment, definition=text),
        similarity=replace(comparison.similarity, others={f"head {text}": comparison.similarity.head**2}),
        patterns=shown,
        dropped={text: text},
        warnings=(text,),
        manifest={text: text},
    )


def _summary(name, layers, heads) -> ModelSummary:
    parameters = 40_000 + layers * 12 * D_MODEL**2
    return ModelSummary(
        name, "GPT2LMHeadModel", True, layers, heads, heads, D_MODEL, parameters, "float32", f"{parameters:x}"
    )


def _softmax(scores):
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _patterns(rng, layers, heads):
    """Causal attention weights of both models, [example, head, pos, pos] each, and the teacher head that each
    student head copies."""
    n, pos = layers[0] * heads, len(WORDS)
    row, key = np.mgrid[:pos, :pos]
    kinds = np.stack(
        [
            4.0 * (key == row - 1),
            5.0 * (key == 0),
            3.0 * (key == 1) + 2.0 * (key == 3),
            2.5 * (key == row),
            0.15 * key,
        ]
    )
    teacher = kinds[rng.integers(0, len(kinds), n)] + 0.6 * rng.normal(size=(n, pos, pos))
    copies = np.sort(rng.permutation(n)[: layers[1] * heads])
    student = teacher[copies] + 0.7 * rng.normal(size=(len(copies), pos, pos))
    mask = np.where(key > row, -np.inf, 0.0)
    both = tuple(_softmax(side + 0.3 * rng.normal(size=(SHOWN, *side.shape)) + mask) for side in (teacher, student))
    return both, copies


def _sweeps(rng, task, layers, *, heads, examples, copies):
    """Sweeps of both models; a student's head has about the effect of the teacher's head it copies."""
    ids = tuple(f"ex-{i}" for i in range(examples))
    teacher = np.maximum(rng.exponential(0.25, layers[0] * (heads + 1)) - 0.1, -0.1)
    teacher[: layers[0] * heads] *= rng.random(layers[0] * heads) ** 3
    teacher[rng.integers(0, layers[0] * heads)] = 2.2
    student = np.concatenate([1.6 * teacher[copies], rng.exponential(0.6, layers[1])])
    student += rng.normal(scale=0.08, size=len(student))
    made = []
    for name, n, means, level in (
        ("tiny-teacher", layers[0], teacher, 4.0),
        ("tiny-student", layers[1], student, 2.8),
    ):
        base = level + 0.6 * rng.normal(size=examples)
        effects = means[:, None] * (1 + 0.3 * rng.normal(size=(1, examples)))
        effects = effects + 0.05 * rng.normal(size=(len(means), examples))
        right = (base > level - 0.7).astype(float)
        made.append(
            SweepResult(
                name,
                task,
                model_components(n, heads),
                ids,
                base,
                effects,
                right,
                7.5 * n,
                "mean-positional (corrupted)",
            )
        )
    return tuple(made)


def _similarity(rng, patterns, layers) -> Similarity:
    mean = [side.mean(axis=0).reshape(side.shape[1], -1) for side in patterns]
    head = flattened_cosine(*mean)
    depth = np.arange(layers[0])[:, None] / layers[0] - np.arange(layers[1])[None] / layers[1]  # like to like in depth
    mlp = np.clip(0.9 - np.abs(depth) - 0.1 * rng.random(depth.shape), 0, 1)
    others = {
        "mlp subspace overlap": mlp**2,
        "mlp cka": np.clip(mlp + 0.05 * rng.normal(size=mlp.shape), -1, 1),
        "head cka": np.clip(head - 0.2, -1, 1),
    }
    return Similarity(
        head,
        mlp,
        "cosine of mean attention patterns",
        "mean |cos| of three leading covariance eigenvectors",
        others,
        is_paper=True,
    )


def _alignment(similarity, sweeps) -> AlignmentResult:
    effects = (sweeps[0].drops, sweeps[1].drops)
    scored: Alignment = alignment_from(similarity.typed, effects)
    others = TypedSimilarity(similarity.others["head cka"], similarity.others["mlp cka"])
    null = shuffled_null(scored.pairs, effects)
    spread = bootstrap_alignment(sweeps[0].effects, sweeps[1].effects, pairs=scored.pairs, draws=300)
    influences = sweeps[0].influence(), sweeps[1].influence()
    pairs = []
    listed = zip(
        scored.pairs.teacher,
        scored.pairs.student,
        scored.pairs.weight,
        scored.pairs.similarity,
        strict=True,
    )
    for t, s, weight, value in listed:
        sides = float(influences[0][t]), float(influences[1][s])
        agreement = 1 - abs(sides[0] - sides[1])
        ends = sweeps[0].components[t], sweeps[1].components[s]
        pairs.append(MatchedPair(*ends, float(weight), float(value), *sides, agreement, float(value) * agreement))
    return AlignmentResult(
        score=scored.total.score,
        mean_similarity=scored.total.mean_similarity,
        mean_agreement=scored.total.mean_agreement,
        interval=spread.score,
        agreement_interval=spread.agreement,
        head=scored.head,
        mlp=scored.mlp,
        null=Null(
            null.mean,
            (null.percentiles[0], null.percentiles[2]),
            null.share_at_least,
            null.scores,
            0.61,
            0.66,
            0.92,
            np.concatenate([np.full(similarity.head.shape[0], 0.7), np.full(similarity.mlp.shape[0], 0.3)]),
        ),
        pairs=tuple(pairs),
        definition="DC Eq. 5-8: influence by the maximum, nearest student, mean of S (1 - |dI|)",
        comparable=True,
        by_measure={"heads and MLPs by CKA": alignment_from(others, effects).total},
    )


def _robustness(sweeps, models) -> Robustness:
    retained = [sweep.retained_percent for sweep in sweeps]
    compression = compression_fraction(models[0].parameter_count, models[1].parameter_count)
    mean, low, high = slope(drops(retained[0]), drops(retained[1]), compression, draws=500)
    sides = [model_robustness(side, draws=500) for side in retained]
    return Robustness(sides[0], sides[1], Slope(compression, mean, (low, high)))


def _examples(teacher, student) -> tuple[ExamplePatterns, ...]:
    names = ("Mary", "Anna", "Tom")
    words = [(WORDS[0], names[i], *WORDS[2:]) for i in range(SHOWN)]
    return tuple(
        ExamplePatterns(f"ex-{i}", words[i], words[i], teacher[i].astype(np.float32), student[i].astype(np.float32))
        for i in range(SHOWN)
    )
