"""Which teacher head each student head is trained towards (CD, "Mapping heads"; semantics, section 11).

With P the performance of a model on the task, and mean ablation,

    dP_s(h) = P_s - P_s(without h)      dP_t(h) = P_s - P_t(without h)      d = |dP_s - dP_t|

both against the *student's* P_s; each student head goes to the teacher head of least d, many-to-one. P is accuracy, as
CD reports, or the answers' log-probability; with logit differences, whose sizes differ between models, each model has
its own baseline and dP is divided by its largest |dP|.

Other methods: "one-to-one" (the assignment of least total d), "similarity" (the teacher head of largest debiased CKA
of z at the answer position), "random" (the control: distinct teacher heads while there are enough).

Limits: accuracies are multiples of 1 / examples, so ties are common; among equals (within 1e-9) the first head, layer by
layer, is taken. Against the student's baseline a teacher that is much better has negative dP throughout, and all
student heads may go to one teacher head: `distinct` counts the teacher heads in use, and fewer than half is a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from circuitkd.circuits.circuit import Circuit
from circuitkd.circuits.kept import KeptScorer
from circuitkd.comparison.checks import finite, one_of
from circuitkd.comparison.cka import cka_matrix
from circuitkd.components import Component
from circuitkd.distill.data import rows_of
from circuitkd.distill.signals import LiveTeacher, Needs, all_signals
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.execution import Execution
from circuitkd.interventions.sweep_result import SweepResult
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.tasks.binding import BoundTask

Floats = NDArray[np.float64]
Method = Literal["impact", "one-to-one", "similarity", "random"]
METHODS: tuple[Method, ...] = get_args(Method)
TIE = 1e-9
Pairs = Sequence[tuple[Component, Component]]
Side = tuple[CircuitModel, BoundTask]


@dataclass(frozen=True)
class HeadMap:
    """Pairs of heads: `student[i]` is trained towards `teacher[i]`.

    `distance`: |dP_s - dP_t| of each pair, or 1 - similarity (NaN for random pairs). `student_impact`,
    `teacher_impact`: dP of each pair's heads (NaN where the method has none).
    """

    method: str
    definition: str
    student: tuple[Component, ...]
    teacher: tuple[Component, ...]
    distance: tuple[float, ...]
    student_impact: tuple[float, ...]
    teacher_impact: tuple[float, ...]

    @property
    def pairs(self) -> tuple[tuple[Component, Component], ...]:
        """(student head, teacher head) of each pair."""
        return tuple(zip(self.student, self.teacher, strict=True))

    @property
    def distinct(self) -> int:
        """How many different teacher heads are in use."""
        return len(set(self.teacher))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader should know about the map."""
        if 2 * self.distinct >= len(self.student):
            return ()
        return (
            f"{len(self.student)} student heads are mapped to only {self.distinct} teacher heads: their impacts differ "
            "too little to tell heads apart; try another measure of performance, 'similarity' or 'one-to-one'",
        )


def map_heads(*, student_impact: ArrayLike, teacher_impact: ArrayLike) -> NDArray[np.intp]:
    """Index of the teacher head for each student head [student head], from impacts dP_s [student head] and dP_t
    [teacher head] (module docstring). Raises ValueError for NaN and for no heads."""
    distance = _distances(student_impact, teacher_impact)
    return np.asarray((distance <= distance.min(axis=1, keepdims=True) + TIE).argmax(axis=1))


def choose_heads(
    model: CircuitModel, which: int | Circuit | Iterable[Component | str], *, effects: SweepResult | None = None
) -> tuple[Component, ...]:
    """The heads to train: the `which` most influential by a sweep's `effects`, those of a circuit, or a list of names.

    In the order of the model's components. Raises ValueError for no heads, for heads the model does not have, for
    other components, and for a number without a sweep or larger than the number of heads.
    """
    every = [c for c in model.components if c.kind == "head"]
    if isinstance(which, int):
        return _most_influential(model, which, every, effects)
    if isinstance(which, Circuit):
        which.require_model(model)
        which = which.heads
    chosen = {Component.parse(c) if isinstance(c, str) else c for c in which}
    unknown = sorted(str(c) for c in chosen if c not in every)
    if unknown:
        raise ValueError(
            f"{model.name} has no head {', '.join(unknown)}: its heads are L0H0 to L{model.n_layers - 1}H{model.n_heads - 1}"
        )
    if not chosen:
        raise ValueError("no heads are selected: name at least one head, or a number of heads")
    return tuple(c for c in every if c in chosen)


def _most_influential(
    model: CircuitModel, n: int, every: Sequence[Component], effects: SweepResult | None
) -> tuple[Component, ...]:
    if not 1 <= n <= len(every):
        raise ValueError(f"no heads are selected: choose 1 to {len(every)} heads of {model.name}, not {n}")
    if effects is None:
        raise ValueError(
            f"the {n} most influential heads are known only after a sweep: pass effects=sweep(model, task)"
        )
    drops = {c: float(d) for c, d in zip(effects.components, effects.drops, strict=True)}
    ranked = sorted(every, key=lambda c: -drops[c])
    return tuple(c for c in every if c in set(ranked[:n]))


def map_pairs(
    teacher: Side,
    student: Side,
    *,
    heads: Sequence[Component],
    method: Method = "impact",
    performance: str = "accuracy",
    execution: Execution | None = None,
) -> HeadMap:
    """A teacher head for each of the student's `heads`; each side is a model and the task bound to it.

    Raises ValueError for an unknown method or measure, random pairs (see `random_pairs`), and more student than
    teacher heads in a one-to-one map.
    """
    one_of(method, [m for m in METHODS if m != "random"], name="method of mapping heads")
    pool = tuple(c for c in teacher[0].components if c.kind == "head")
    if method == "similarity":
        similar = head_similarity(teacher, student, heads=heads)
        chosen = (similar >= similar.max(axis=0) - TIE).argmax(axis=0)
        distances = 1 - similar[chosen, range(len(heads))]
        none = (float("nan"),) * len(heads)
        definition = "the teacher head of largest debiased CKA of z at the answer position"
        return HeadMap(method, definition, tuple(heads), _picked(pool, chosen), _floats(distances), none, none)
    ours, theirs = impacts(teacher, student, heads=heads, performance=performance, execution=execution)
    distance = _distances(ours, theirs)
    if method == "impact":
        chosen = map_heads(student_impact=ours, teacher_impact=theirs)
    else:
        if len(heads) > len(pool):
            raise ValueError(
                f"{len(heads)} student heads cannot go one-to-one to {len(pool)} teacher heads: select fewer"
            )
        chosen = linear_sum_assignment(distance)[1]
    return HeadMap(
        method,
        f"least |dP_s - dP_t|, P: {performance}" + (", one-to-one" if method == "one-to-one" else ""),
        tuple(heads),
        _picked(pool, chosen),
        _floats(distance[range(len(heads)), chosen]),
        _floats(ours),
        _floats(theirs[chosen]),
    )


def random_pairs(teacher: CircuitModel, heads: Sequence[Component], *, seed: int) -> HeadMap:
    """The control: a random teacher head for each of the student's `heads`. Raises ValueError for no heads."""
    if not heads:
        raise ValueError("no heads are selected: name at least one head, or a number of heads")
    pool = tuple(c for c in teacher.components if c.kind == "head")
    chosen = np.random.default_rng(seed).choice(len(pool), size=len(heads), replace=len(pool) < len(heads))
    none = (float("nan"),) * len(heads)
    return HeadMap("random", f"random, seed {seed}", tuple(heads), _picked(pool, chosen), none, none, none)


def check_pairs(teacher: CircuitModel, student: CircuitModel, *, pairs: Pairs) -> None:
    """Raise ValueError for pairs (student head, teacher head) that name a head one of the models does not have."""
    for model, side, heads in (
        (student, "student", [s for s, _ in pairs]),
        (teacher, "teacher", [t for _, t in pairs]),
    ):
        missing = sorted({str(h) for h in heads if h.kind != "head" or h not in model.components})
        if missing:
            raise ValueError(
                f"the pairs name {', '.join(missing)}, which the {side} {model.name} does not have: its heads are L0H0 to "
                f"L{model.n_layers - 1}H{model.n_heads - 1}; pairs are (student head, teacher head)"
            )


def impacts(
    teacher: Side,
    student: Side,
    *,
    heads: Sequence[Component],
    performance: str = "accuracy",
    execution: Execution | None = None,
) -> tuple[Floats, Floats]:
    """dP_s [student head of `heads`] and dP_t [teacher head, all of them]. Raises ValueError for an unknown measure."""
    pool = [c for c in teacher[0].components if c.kind == "head"]
    sides = []
    for (model, task), chosen in ((student, heads), (teacher, pool)):
        scorer = KeptScorer(model, task, ablation=Ablation(task.ablation), execution=execution, performance=performance)
        # Last layer first: what lies below the ablated head is then always in the scorer's cache.
        without = {c: scorer(scorer.everything - {c}) for c in sorted(chosen, reverse=True)}
        sides.append((scorer(scorer.everything), np.array([without[c] for c in chosen])))
    (base, ours), (own_base, theirs) = sides
    if performance != "logit-difference":
        return base - ours, base - theirs
    return _scaled(base - ours), _scaled(own_base - theirs)


def head_similarity(teacher: Side, student: Side, *, heads: Sequence[Component]) -> Floats:
    """Debiased CKA of z at the answer position [teacher head, student head of `heads`]; 0 for constant heads."""
    pool = tuple(c for c in teacher[0].components if c.kind == "head")
    x, y = activations(*teacher, heads=pool), activations(*student, heads=tuple(heads))
    return cka_matrix(x, y, debiased=True, undefined="zero")


def activations(model: CircuitModel, task: BoundTask, *, heads: tuple[Component, ...]) -> Floats:
    """z of these heads at the answer position [head, example, d_head], in the order of the task's examples."""
    z = all_signals(LiveTeacher(model, Needs(heads)), rows_of(task))["z"]
    return z.double().numpy()


def _distances(student_impact: ArrayLike, teacher_impact: ArrayLike) -> Floats:
    ours = finite(student_impact, "student impact", axes="student_head")
    theirs = finite(teacher_impact, "teacher impact", axes="teacher_head")
    return np.abs(ours[:, None] - theirs[None])


def _scaled(values: Floats) -> Floats:
    largest = float(np.abs(values).max())
    return values / largest if largest else values


def _picked(pool: Sequence[Component], chosen: NDArray[np.intp]) -> tuple[Component, ...]:
    return tuple(pool[i] for i in chosen)


def _floats(values: Floats) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
