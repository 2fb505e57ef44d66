"""What `compare` returns: labelled, frozen, and complete enough to draw the report from.

Pairs are always (teacher, student). Arrays are heads first, layer by layer, then MLPs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from circuitkd.artifacts import load_run, read_manifest, save_run
from circuitkd.comparison.alignment import PairScore
from circuitkd.comparison.notebook_preset import NotebookAlignment
from circuitkd.comparison.pair_similarity import Similarity
from circuitkd.comparison.performance import Performance
from circuitkd.comparison.robustness import ModelRobustness, drops
from circuitkd.components import Component
from circuitkd.interventions.sweep_result import SweepResult

Floats = NDArray[np.float64]
Interval = tuple[float, float]
PAIR_COLUMNS = ("weight", "similarity", "teacher_influence", "student_influence", "agreement", "contribution")
SAME = ("teacher", "student", "data_sha256", "ablation")  # what other results share with their comparison's manifest


@dataclass(frozen=True)
class ModelSummary:
    """The facts about a model that a reader of the result needs."""

    name: str
    hf_class: str
    is_causal: bool
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    parameter_count: int
    dtype: str
    fingerprint: str


@dataclass(frozen=True)
class MatchedPair:
    """One matched pair: influences by DC Eq. 5, `agreement` = 1 - |difference|, `contribution` = similarity x
    agreement.

    `weight` is the pair's share in the mean (1 for nearest and one-to-one matching).
    """

    teacher: Component
    student: Component
    weight: float
    similarity: float
    teacher_influence: float
    student_influence: float
    agreement: float
    contribution: float


@dataclass(frozen=True, eq=False)
class Null:
    """What the score would be without a correspondence of influences, and without training.

    `shuffled_*`: the same pairs with influences shuffled within type. `random_*`: the same teacher against a
    randomly initialised student of the same shape (None where it was not asked for); `random_largest` [teacher
    component]: the largest similarity of each to any of that student's components of its type.
    """

    shuffled_mean: float
    shuffled_interval: Interval
    shuffled_share_at_least: float
    shuffled_scores: Floats
    random_score: float | None
    random_similarity: float | None
    random_agreement: float | None
    random_largest: Floats | None = None


@dataclass(frozen=True, eq=False)
class AlignmentResult:
    """DC Eq. 8 with its two factors. `interval`: 95 %, examples resampled jointly, similarity and matching
    held fixed.

    `head` and `mlp`: the same over the pairs of one type. `comparable`: whether the definition is the paper's
    Eq. 6-8; `definition` says it in words.
    """

    score: float
    mean_similarity: float
    mean_agreement: float
    interval: Interval
    agreement_interval: Interval
    head: PairScore | None
    mlp: PairScore | None
    null: Null
    pairs: tuple[MatchedPair, ...]
    definition: str
    comparable: bool
    by_measure: dict[str, PairScore] = field(default_factory=dict)


@dataclass(frozen=True)
class Slope:
    """Extra drop of the student per unit of compression 1 - P_s/P_t, in percentage points (DC Appendix L)."""

    compression: float
    per_unit: float
    interval: Interval

    @property
    def per_tenth(self) -> tuple[float, float, float]:
        """Mean, low and high per 0.1 of compression."""
        return self.per_unit / 10, self.interval[0] / 10, self.interval[1] / 10


@dataclass(frozen=True)
class Robustness:
    """Drops under ablation of both models (DC Table 2); `slope` is None unless the student has fewer
    parameters."""

    teacher: ModelRobustness
    student: ModelRobustness
    slope: Slope | None


@dataclass(frozen=True, eq=False)
class ExamplePatterns:
    """Attention of both models on one example: `teacher_tokens`, `student_tokens` [pos]; `teacher`, `student`
    [head, pos, pos]."""

    example: str
    teacher_tokens: tuple[str, ...]
    student_tokens: tuple[str, ...]
    teacher: NDArray[np.float32]
    student: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Comparison:
    """A teacher and a student on one task. `variants`: the score of each row of DC Table 5 by name.
    `dropped`: examples that one of the models could not take, with the reason."""

    teacher: ModelSummary
    student: ModelSummary
    task: str
    teacher_sweep: SweepResult
    student_sweep: SweepResult
    similarity: Similarity
    alignment: AlignmentResult
    performance: Performance
    robustness: Robustness
    variants: dict[str, float]
    patterns: tuple[ExamplePatterns, ...]
    dropped: dict[str, str]
    warnings: tuple[str, ...]
    manifest: dict[str, str]
    notebook: NotebookAlignment | None = None

    def save(self, folder: str | Path) -> Path:
        """Write a run folder: manifest.json, result.json, arrays.safetensors. Raises ValueError when it
        cannot be written."""
        return save_run(folder, self, manifest=self.manifest)

    @classmethod
    def load(cls, folder: str | Path) -> Comparison:
        """Read a run folder. Raises ValueError for one that is unfinished, damaged or of another kind."""
        read_manifest(folder)
        return load_run(folder, cls)

    def is_basis_of(self, manifest: Mapping[str, str]) -> bool:
        """Whether a result with this manifest is of these models, examples and ablation."""
        return all(key in manifest and manifest[key] == self.manifest.get(key) for key in SAME)

    def push_to_model_card(
        self,
        path: str | Path | None = None,
        *,
        repo_id: str | None = None,
        token: str | None = None,
        create_pr: bool = False,
    ) -> Path | str:
        """Write this comparison into the student's model card, as a section and as `model-index` metadata.

        `path`: a README.md or a model folder; or `repo_id`: a model on the hub, whose card gets a commit (with
        `create_pr` a pull request; `token`: the stored one unless given). Writing again replaces what was written for
        this teacher and task; the rest of the card stays. Returns the path or the commit's address. Raises ValueError
        for both or neither of the two, and for a card that cannot be read, edited or written.
        """
        from circuitkd.comparison.model_card import push

        return push(self, path, repo_id=repo_id, token=token, create_pr=create_pr)

    def to_pandas(self) -> pd.DataFrame:
        """The matched pairs, one a row: `kind` is head or mlp; `*_effect_logits` is the mean of base - ablated,
        `*_drop_percent` the share of the logit difference lost, clamped to 0..100; the other numbers have no unit."""
        sides = {"teacher": self.teacher_sweep, "student": self.student_sweep}
        effects = {side: dict(zip(s.components, s.drops, strict=True)) for side, s in sides.items()}
        lost = {side: dict(zip(s.components, drops(s.retained_percent), strict=True)) for side, s in sides.items()}
        rows = [
            {"teacher": str(p.teacher), "student": str(p.student), "kind": p.teacher.kind}
            | {name: getattr(p, name) for name in PAIR_COLUMNS}
            | {f"{side}_effect_logits": effects[side][getattr(p, side)] for side in sides}
            | {f"{side}_drop_percent": lost[side][getattr(p, side)] for side in sides}
            for p in self.alignment.pairs
        ]
        return pd.DataFrame(rows)
