"""Similarity of two measured models: which measure for heads, which for MLPs, and what else is reported beside them.

Heads: cosine of dataset-mean attention patterns ("pattern"), the same row by row ("pattern-rows"), of dataset-mean z
("z") or of its projection z W_O ("result"), or linear CKA of z ("cka"). MLPs: DC Eq. 6 ("eigenvectors"), or debiased
CKA, which "auto" takes where the widths differ and Eq. 6 is not defined.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from circuitkd.comparison.cka import cka_matrix
from circuitkd.comparison.measure import Field, Measured
from circuitkd.comparison.notebook_preset import notebook_mlp_similarity
from circuitkd.comparison.pairs import TypedSimilarity
from circuitkd.comparison.similarity import (
    flattened_cosine,
    rank_cosine,
    row_cosine,
    subspace_overlap,
)
from circuitkd.models.circuit_model import CircuitModel

Floats = NDArray[np.float64]
HeadMeasure = Literal["pattern", "pattern-rows", "z", "result", "cka"]
MlpMeasure = Literal["auto", "eigenvectors", "cka"]


@dataclass(frozen=True)
class Measures:
    """Which similarity to match and score with."""

    head: HeadMeasure = "pattern"
    mlp: MlpMeasure = "auto"

    def __post_init__(self) -> None:
        for name, value, allowed in (("head", self.head, HeadMeasure), ("mlp", self.mlp, MlpMeasure)):
            if value not in get_args(allowed):
                raise ValueError(f"unknown {name} similarity {value!r}: choose one of {', '.join(get_args(allowed))}")


@dataclass(frozen=True, eq=False)
class Similarity:
    """Similarity of every teacher component with every student component of its type.

    `head` [teacher head, student head] and `mlp` [teacher MLP, student MLP] are what the matching used,
    `head_measure` and `mlp_measure` say what they are. `others`: further measures by name, [teacher, student] each
    ("mlp subspace overlap", "mlp cka", "head cka"), where they were asked for. `is_paper`: heads by patterns and MLPs by Eq. 6.
    """

    head: Floats
    mlp: Floats
    head_measure: str
    mlp_measure: str
    others: dict[str, Floats]
    is_paper: bool

    @property
    def typed(self) -> TypedSimilarity:
        """The two matrices as the matching takes them."""
        return TypedSimilarity(self.head, self.mlp)


HEAD_NAMES = {
    "pattern": "cosine of mean attention patterns",
    "pattern-rows": "cosine of mean attention patterns, row by row",
    "z": "cosine of mean z",
    "result": "cosine of mean z W_O",
    "cka": "debiased linear CKA of z",
}
_HEAD_FIELDS: dict[str, Field] = {
    "pattern": "patterns",
    "pattern-rows": "patterns",
    "z": "mean_z",
    "result": "mean_results",
    "cka": "z",
}
_MLP_FIELDS: dict[str, Field] = {"eigenvectors": "mlp_vectors", "cka": "mlp_points"}
MLP_NAMES = {
    "eigenvectors": "mean |cos| of three leading covariance eigenvectors (DC Eq. 6)",
    "cka": "debiased linear CKA of MLP outputs",
}


def fields_for(
    measures: Measures, *, models: tuple[CircuitModel, CircuitModel], others: bool = False
) -> frozenset[Field]:
    """What `measure` must keep for `pair_similarity` of these models, with the same `others`."""
    same_width = models[0].d_model == models[1].d_model
    fields = {_HEAD_FIELDS[measures.head], _MLP_FIELDS[_mlp_measure(measures, same_width)]}
    if others:
        fields.update(("z", "mlp_points", "mlp_vectors") if same_width else ("z", "mlp_points"))
    return frozenset(fields)


def _mlp_measure(measures: Measures, same_width: bool) -> MlpMeasure:
    """What "auto" stands for."""
    return measures.mlp if measures.mlp != "auto" else ("eigenvectors" if same_width else "cka")


def pair_similarity(
    teacher: Measured,
    student: Measured,
    *,
    measures: Measures,
    others: bool = False,
    device: torch.device | str = "cpu",
) -> Similarity:
    """The similarities that `measures` asks for, with `others` all that are reported beside them too; CKA multiplies on
    `device`. Raises ValueError for measures that need equal widths where they differ."""
    check_widths(teacher.widths, student.widths, measures=measures)
    same_width = teacher.widths[0] == student.widths[0]
    mlp = _mlp_measure(measures, same_width)
    made: dict[str, Floats] = {}
    if others or measures.head == "cka":
        made["head cka"] = _cka(teacher.z, student.z, device)
    if others or mlp == "cka":
        made["mlp cka"] = _cka(teacher.mlp_points, student.mlp_points, device)
    if others and same_width:
        made["mlp subspace overlap"] = subspace_overlap(teacher.mlp_vectors, student.mlp_vectors)
    if mlp == "eigenvectors" or (others and same_width):
        made["mlp eigenvectors"] = rank_cosine(teacher.mlp_vectors, student.mlp_vectors)
    return Similarity(
        head=made["head cka"] if measures.head == "cka" else _heads(teacher, student, measures.head),
        mlp=made[f"mlp {mlp}"],
        head_measure=HEAD_NAMES[measures.head],
        mlp_measure=MLP_NAMES[mlp],
        others=made if others else {},
        is_paper=measures.head == "pattern" and mlp == "eigenvectors",
    )


def check_widths(
    teacher: tuple[int, int], student: tuple[int, int], *, measures: Measures, notebook: bool = False
) -> None:
    """Raise ValueError for measures that need widths (d_model, d_head) to be equal where they differ."""
    wanted = []
    if teacher[0] != student[0]:
        wanted += ["the MLP similarity 'eigenvectors' (Eq. 6)"] if measures.mlp == "eigenvectors" else []
        wanted += ["the head similarity 'result'"] if measures.head == "result" else []
        wanted += ["the preset of the released notebooks"] if notebook else []
    if teacher[1] != student[1] and measures.head == "z":
        wanted.append("the head similarity 'z'")
    if wanted:
        raise ValueError(
            f"{wanted[0]} needs models of equal width, and these have d_model {teacher[0]} and {student[0]}, d_head "
            f"{teacher[1]} and {student[1]}: use the head similarity 'pattern' or 'cka' and the MLP similarity 'cka', "
            "without the preset"
        )


NOTEBOOK_FIELDS: frozenset[Field] = frozenset({"patterns", "mlp_centred"})


def notebook_similarity(teacher: Measured, student: Measured) -> TypedSimilarity:
    """The raw similarities of the preset `released-notebook`."""
    moments = [np.stack([g.second_moment for g in side.mlp_centred]) for side in (teacher, student)]
    return TypedSimilarity(_heads(teacher, student, "pattern-rows"), notebook_mlp_similarity(*moments))


def _cka(teacher: NDArray[np.float32], student: NDArray[np.float32], device: torch.device | str) -> Floats:
    x, y = (side.transpose(1, 0, 2) for side in (teacher, student))
    return np.clip(cka_matrix(x, y, debiased=True, undefined="zero", device=device), 0.0, 1.0)


def _heads(teacher: Measured, student: Measured, measure: HeadMeasure) -> Floats:
    if measure in ("z", "result"):
        sides = [side.mean_z if measure == "z" else side.mean_results for side in (teacher, student)]
        return flattened_cosine(*(_flat(side) for side in sides), undefined="zero")
    if measure == "pattern":
        return flattened_cosine(_flat(teacher.patterns), _flat(student.patterns), undefined="zero")
    return row_cosine(_rows(teacher.patterns), _rows(student.patterns), undefined="zero")


def _flat(by_length: dict[int, Floats]) -> Floats:
    """Mean arrays [head, ...] of every prompt length, flattened and concatenated [head, F]."""
    return np.concatenate([by_length[n].reshape(len(by_length[n]), -1) for n in sorted(by_length)], axis=1)


def _rows(by_length: dict[int, Floats]) -> Floats:
    """Pattern rows of every prompt length [head, row, key], padded to the longest."""
    width = max(by_length)
    padded = [np.pad(by_length[n], ((0, 0), (0, 0), (0, width - n))) for n in sorted(by_length)]
    return np.concatenate(padded, axis=1)
