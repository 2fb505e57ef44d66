"""Teacher and student MLPs side by side, by what they put out at the same tokens (DC 3.1.2, 3.2.2, Appendix D, Figure 2).

    token-wise cosine    of the two outputs at a position, averaged over prompts: for each position, and over all tokens
                         of all prompts; DC tells the first token from the others
    eigenvectors         DC Eq. 6, from `comparison.similarity`
    plane                2-D PCA of the mean outputs per position: teacher's and student's together where the widths are
                         equal, so that both are in one plane; each in its own where they aren't

Positions are tokens, or the last tokens of words where the tokenizers differ (`comparison.alignment_of_tokens`). Maps by
position need prompts of one form: those of the most frequent one are used, the others left out and named; the cosine over
all tokens and the eigenvectors use every prompt.

Limits: cosines and eigenvectors compare directions of the residual basis, so they mean something only for models that
share it (a student initialised from its teacher); models of unequal width have neither: take debiased CKA of the MLP
outputs, which `compare` reports.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from circuitkd.comparison.alignment_of_tokens import Units, common_units
from circuitkd.comparison.checks import finite
from circuitkd.comparison.directions import Directions
from circuitkd.comparison.similarity import rank_cosine, same_width
from circuitkd.components import Component
from circuitkd.interventions.capture import Batch, batches, make_batch, walk_batch
from circuitkd.interventions.execution import Execution, plan
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.roles.equal_length import equal_length
from circuitkd.tasks.binding import BoundTask

Floats = NDArray[np.float64]
Pair = tuple[Component, Component]


@dataclass(frozen=True, eq=False)
class MlpComparison:
    """Every teacher MLP with every student MLP.

    `cosine` [teacher, student]: mean over all tokens of all prompts; `eigenvectors` likewise (DC Eq. 6).
    `by_position` [teacher, student, pos]: cosine averaged over the `prompts` prompts of the most frequent form, whose
    `positions` have these names. `left_out`: id -> why an example is not in `by_position`.
    """

    teacher: str
    student: str
    task: str
    teacher_mlps: tuple[Component, ...]
    student_mlps: tuple[Component, ...]
    cosine: Floats
    eigenvectors: Floats
    positions: tuple[str, ...]
    by_position: Floats
    prompts: int
    left_out: dict[str, str]

    @property
    def first_token(self) -> Floats:
        """Cosine at the first position [teacher, student]."""
        return self.by_position[:, :, 0]

    @property
    def other_tokens(self) -> Floats:
        """Mean cosine at the positions after the first [teacher, student]; NaN for prompts of one word."""
        others = self.by_position[:, :, 1:]
        return np.asarray(others.mean(axis=2)) if others.size else np.full(others.shape[:2], np.nan)

    def to_pandas(self) -> pd.DataFrame:
        """One row for each pair."""
        rows = [
            (str(t), str(s), *(x[i, j] for x in (self.cosine, self.first_token, self.other_tokens, self.eigenvectors)))
            for i, t in enumerate(self.teacher_mlps)
            for j, s in enumerate(self.student_mlps)
        ]
        return pd.DataFrame(rows, columns=["teacher", "student", "cosine", "first", "others", "eigenvectors"])


@dataclass(frozen=True, eq=False)
class MlpPlane:
    """Mean outputs of a teacher's and a student's MLP in two dimensions.

    `positions` [pos]: their names. `teacher_points`, `student_points` [pos, 2]. `explained` [side, 2]: shares of the
    variance along the two axes. `is_shared`: both sides are in one plane (then the rows of `explained` are equal).
    """

    teacher: Component
    student: Component
    positions: tuple[str, ...]
    teacher_points: Floats
    student_points: Floats
    explained: Floats
    is_shared: bool
    prompts: int


@dataclass(frozen=True, eq=False)
class _Form:
    """Examples that can be laid over each other: their indexes, names of the positions, and who is left out."""

    rows: tuple[int, ...]
    positions: tuple[str, ...]
    left_out: dict[str, str]


def compare_mlps(
    teacher: CircuitModel,
    student: CircuitModel,
    *,
    tasks: tuple[BoundTask, BoundTask],
    execution: Execution | None = None,
) -> MlpComparison:
    """Cosines and eigenvector similarity of all pairs; `tasks` are the same examples in the tokens of each model.

    Raises ValueError for models of unequal width, and for different examples.
    """
    same_width(teacher.d_model, student.d_model)
    units, execution = _common_units(teacher, student, tasks), execution or Execution()
    form, done = _most_frequent_form(teacher, tasks[0], units[0]), 0
    by_position = np.zeros((teacher.n_layers, student.n_layers, len(form.positions)))
    total = np.zeros((teacher.n_layers, student.n_layers))
    directions = tuple(_directions(model, task) for model, task in zip((teacher, student), tasks, strict=True))
    with torch.inference_mode():
        for rows in batches(tasks[0], _prompts_at_a_time((teacher, student), tasks, execution)):
            student_points = torch.stack(_outputs(student, make_batch(tasks[1], rows), units[1], directions[1]))
            teacher_points = _outputs(teacher, make_batch(tasks[0], rows), units[0], directions[0])
            counts = [units[0].count[row] for row in rows]
            for layer, points in enumerate(teacher_points):
                cosines = torch.einsum("pd,spd->sp", _unit(points), _unit(student_points).to(points)).numpy()
                total[layer] += cosines.sum(axis=1)
                for row, here in zip(rows, np.split(cosines, np.cumsum(counts)[:-1], axis=1), strict=True):
                    by_position[layer] += here if row in form.rows else 0.0
            done += len(rows)
            execution.report("MLPs", done, total=len(tasks[0]))
    vectors = [np.stack([one.result() for one in side]) for side in directions]
    return MlpComparison(
        teacher=teacher.name,
        student=student.name,
        task=tasks[0].name,
        teacher_mlps=_mlps(teacher),
        student_mlps=_mlps(student),
        cosine=total / sum(units[0].count),
        eigenvectors=rank_cosine(*vectors),
        positions=form.positions,
        by_position=by_position / len(form.rows),
        prompts=len(form.rows),
        left_out=form.left_out,
    )


def mlp_planes(
    teacher: CircuitModel,
    student: CircuitModel,
    *,
    tasks: tuple[BoundTask, BoundTask],
    pairs: Sequence[Pair],
    execution: Execution | None = None,
) -> tuple[MlpPlane, ...]:
    """The planes of these pairs (teacher's MLP, student's MLP).

    Raises ValueError for a component that is no MLP of its model, fewer than three positions, and different examples.
    """
    for pair in pairs:
        for component, model in zip(pair, (teacher, student), strict=True):
            if component not in _mlps(model):
                raise ValueError(f"{model.name} has no MLP {component}: give pairs of a teacher's and a student's MLP")
    units = _common_units(teacher, student, tasks)
    form = _most_frequent_form(teacher, tasks[0], units[0])
    sides = zip((teacher, student), tasks, units, strict=True)
    means = [_mean_outputs(m, t, units=u, rows=form.rows, execution=execution or Execution()) for m, t, u in sides]
    is_shared, found = teacher.d_model == student.d_model, []
    for one, other in pairs:
        outputs = [side[component.layer or 0] for side, component in zip(means, (one, other), strict=True)]
        groups = [np.concatenate(outputs)] if is_shared else outputs
        planes = [principal_plane(group) for group in groups]
        points = np.concatenate([p for p, _ in planes])
        explained = np.stack([planes[0][1], planes[-1][1]])
        halves = (points[: len(form.positions)], points[len(form.positions) :])
        found.append(MlpPlane(one, other, form.positions, *halves, explained, is_shared, len(form.rows)))
    return tuple(found)


def principal_plane(points: ArrayLike) -> tuple[Floats, Floats]:
    """Points [point, d] projected on their two leading principal axes [point, 2], and the shares of the variance along
    these [2]. Each axis points to where its largest coordinate in the space is positive.

    Raises ValueError for fewer than three points, one dimension, and NaN.
    """
    rows = finite(points, "points", axes="point d")
    if len(rows) < 3 or rows.shape[1] < 2:
        raise ValueError(
            f"a plane needs three points and two dimensions or more, got shape {rows.shape}: use longer prompts"
        )
    centred = rows - rows.mean(axis=0)
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * np.sign(axes[np.arange(2), np.abs(axes[:2]).argmax(axis=1)])[:, None]
    variance = lengths**2
    return centred @ axes.T, variance[:2] / (variance.sum() or 1.0)


def _prompts_at_a_time(
    models: tuple[CircuitModel, CircuitModel], tasks: tuple[BoundTask, BoundTask], execution: Execution
) -> int:
    """As many prompts as fit with the MLP outputs of all layers; a plan counts one layer at a time, with room for 14
    values of the width d_model."""
    sides = zip(models, tasks, strict=True)
    return min(max(1, plan(m, t, execution=execution).batch_size * 14 // (14 + m.n_layers)) for m, t in sides)


def _mlps(model: CircuitModel) -> tuple[Component, ...]:
    return tuple(c for c in model.components if c.kind == "mlp")


def _common_units(
    teacher: CircuitModel, student: CircuitModel, tasks: tuple[BoundTask, BoundTask]
) -> tuple[Units, Units]:
    if [e.id for e in tasks[0].examples] != [e.id for e in tasks[1].examples]:
        raise ValueError(
            f"{teacher.name} and {student.name} have different examples of {tasks[0].name!r}: keep those that both can "
            "take, in one order (BoundTask.select)"
        )
    return common_units(teacher, student, teacher_task=tasks[0], student_task=tasks[1])


def _most_frequent_form(model: CircuitModel, task: BoundTask, units: Units) -> _Form:
    """The examples whose tokens make up their units in the most frequent way (for tokens as units: of that length)."""
    frequent = Counter(units.of_token).most_common(1)[0][0]
    rows = tuple(row for row, form in enumerate(units.of_token) if form == frequent)
    alike = equal_length(model, replace(task, examples=tuple(task.examples[row] for row in rows)))
    left_out = {
        e.id: "its tokens are not of the most frequent form" for row, e in enumerate(task.examples) if row not in rows
    }
    return _Form(rows, tuple(alike.positions[place] for place in units.last_tokens(rows[0])), left_out)


def _outputs(model: CircuitModel, batch: Batch, units: Units, directions: Sequence[Directions]) -> list[Tensor]:
    """Per layer the MLP outputs [point, d_model] at the units of all rows, one row after the other, float32 or wider; all
    real tokens go into `directions`."""
    places = [(i, place) for i, row in enumerate(batch.rows) for place in units.last_tokens(row)]
    rows, positions = (torch.tensor(column) for column in zip(*places, strict=True))
    is_real = torch.arange(batch.tokens.shape[1])[None] < batch.lengths[:, None]
    found = []
    for state in walk_batch(model, batch):
        wide = state.mlp_out.to(torch.promote_types(state.mlp_out.dtype, torch.float32)).cpu()
        directions[state.layer].update(wide[is_real])
        found.append(wide[rows, positions])
    return found


def _directions(model: CircuitModel, task: BoundTask) -> list[Directions]:
    """Of the outputs of every MLP at all real tokens."""
    tokens = sum(len(e.clean) for e in task.examples)
    return [Directions(tokens, model.d_model, device=model.device) for _ in range(model.n_layers)]


def _unit(x: Tensor) -> Tensor:
    """Vectors scaled to length 1; zero stays zero."""
    return x / x.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)


def _mean_outputs(
    model: CircuitModel, task: BoundTask, *, units: Units, rows: Sequence[int], execution: Execution
) -> Floats:
    """Mean MLP outputs at the units of these examples [mlp, unit, d_model]."""
    size = plan(model, task, execution=execution).batch_size
    total = np.zeros((model.n_layers, units.count[rows[0]], model.d_model))
    with torch.inference_mode():
        for start in range(0, len(rows), size):
            batch = make_batch(task, rows[start : start + size])
            last = torch.tensor([units.last_tokens(row) for row in batch.rows])
            for state in walk_batch(model, batch):
                outputs = state.mlp_out.cpu()[torch.arange(len(batch))[:, None], last]
                total[state.layer] += outputs.double().sum(0).numpy()
    return total / len(rows)
