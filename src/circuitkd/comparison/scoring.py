"""From two sweeps and a similarity to the alignment score with everything that must stand beside it (semantics,
section 5)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from circuitkd.comparison.alignment import (
    Alignment,
    InfluenceOptions,
    PairScore,
    alignment_from,
    pair_influences,
)
from circuitkd.comparison.checks import at_least
from circuitkd.comparison.matching import match
from circuitkd.comparison.pair_similarity import Measures, Similarity
from circuitkd.comparison.pairs import MatchOptions, TypedSimilarity
from circuitkd.comparison.result import AlignmentResult, MatchedPair, Null
from circuitkd.comparison.uncertainty import bootstrap_alignment, shuffled_null
from circuitkd.interventions.sweep_result import SweepResult

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ScoreOptions:
    """Similarity measures, matching and influence: as the paper has them unless told otherwise.

    Raises ValueError for a matching that does not exist.
    """

    measures: Measures = field(default_factory=Measures)
    matching: MatchOptions = field(default_factory=MatchOptions)
    influences: InfluenceOptions = field(default_factory=InfluenceOptions)

    def __post_init__(self) -> None:
        options = self.matching
        # A trial on one pair: a misspelled option must not be found after two sweeps.
        match([[1.0]], method=options.method, direction=options.direction, k=options.k, temperature=options.temperature)
        at_least(1 if options.top is None else options.top, 1, name="top")


def align(
    teacher: SweepResult,
    student: SweepResult,
    *,
    similarity: Similarity,
    options: ScoreOptions,
    random_student: PairScore | None = None,
    random_largest: Floats | None = None,
) -> AlignmentResult:
    """Match and score (DC Eqs. 7, 8), with interval, nulls, and the score of each type under each measure.

    `random_student`: the same score for a randomly initialised student, `random_largest`: see `Null`.
    """
    effects = (teacher.drops, student.drops)
    found = score(similarity, effects, options=options)
    interval = bootstrap_alignment(teacher.effects, student.effects, pairs=found.pairs, influences=options.influences)
    return AlignmentResult(
        score=found.total.score,
        mean_similarity=found.total.mean_similarity,
        mean_agreement=found.total.mean_agreement,
        interval=interval.score,
        agreement_interval=interval.agreement,
        head=found.head,
        mlp=found.mlp,
        null=replace(_null(found, effects, options, random_student), random_largest=random_largest),
        pairs=_matched(found, teacher, student, options),
        definition=definition(similarity, options),
        comparable=similarity.is_paper and options == replace(ScoreOptions(), measures=options.measures),
        by_measure=by_measure(similarity, effects, options=options),
    )


def score(
    similarity: Similarity | TypedSimilarity, effects: tuple[Floats, Floats], *, options: ScoreOptions
) -> Alignment:
    """Match within types and score; `effects` are mean effects [component] of teacher and student."""
    typed = similarity.typed if isinstance(similarity, Similarity) else similarity
    return alignment_from(typed, effects, matching=options.matching, influences=options.influences)


def by_measure(
    similarity: Similarity, effects: tuple[Floats, Floats], *, options: ScoreOptions
) -> dict[str, PairScore]:
    """Heads alone and MLPs alone: under the measure in use, and under debiased CKA, which needs no common basis."""
    under_cka = TypedSimilarity(similarity.others["head cka"], similarity.others["mlp cka"])
    used, cka = score(similarity, effects, options=options), score(under_cka, effects, options=options)
    named = {
        f"heads, {similarity.head_measure}": used.head,
        "heads, debiased linear CKA of z": cka.head,
        f"MLPs, {similarity.mlp_measure}": used.mlp,
        "MLPs, debiased linear CKA of MLP outputs": cka.mlp,
    }
    return {name: value for name, value in named.items() if value is not None}


def definition(similarity: Similarity, options: ScoreOptions) -> str:
    """What the score is, in words."""
    matching, influences = options.matching, options.influences
    scale = f"{influences.normalization} normalised over all {influences.over}"
    parts = [
        "A = mean over matched pairs of S (1 - |I_T - I_S|)",
        f"S of heads: {similarity.head_measure}",
        f"S of MLPs: {similarity.mlp_measure}",
        f"I: {'|mean effect|' if influences.absolute else 'max(0, mean effect)'} in logits, "
        + (scale if influences.normalization else "not normalised"),
        f"matching: {matching.method}, {matching.direction}"
        + (f", top {matching.top} components of both" if matching.top else ""),
    ]
    return "; ".join(parts)


def _null(
    found: Alignment, effects: tuple[Floats, Floats], options: ScoreOptions, random_student: PairScore | None
) -> Null:
    shuffled = shuffled_null(found.pairs, effects, influences=options.influences)
    return Null(
        shuffled_mean=shuffled.mean,
        shuffled_interval=(shuffled.percentiles[0], shuffled.percentiles[2]),
        shuffled_share_at_least=shuffled.share_at_least,
        shuffled_scores=shuffled.scores,
        random_score=random_student.score if random_student else None,
        random_similarity=random_student.mean_similarity if random_student else None,
        random_agreement=random_student.mean_agreement if random_student else None,
    )


def _matched(
    found: Alignment, teacher: SweepResult, student: SweepResult, options: ScoreOptions
) -> tuple[MatchedPair, ...]:
    pairs = found.pairs
    influence = pair_influences(pairs, (teacher.drops, student.drops), options=options.influences)
    rows = zip(pairs.teacher, pairs.student, pairs.weight, pairs.similarity, *influence, strict=True)
    return tuple(
        MatchedPair(
            teacher=teacher.components[t],
            student=student.components[s],
            weight=float(weight),
            similarity=float(alike),
            teacher_influence=float(i_t),
            student_influence=float(i_s),
            agreement=1 - abs(float(i_t - i_s)),
            contribution=float(alike) * (1 - abs(float(i_t - i_s))),
        )
        for t, s, weight, alike, i_t, i_s in rows
    )
