"""How much a model depends on the one head that is best at each role (DC Table 1), and what stands in for it.

For each role and model, with m the mean logit difference, M the model, C its circuit and h the head with the highest
score among those that have the role:

    drop            100 (m(M) - m(M without h)) / |m(M)|       in percent of the full model
    circuit drop    100 (m(C) - m(C without h)) / m(M)         in points of the full model; NaN where h is not in C
    backups         heads b whose effect grows when h is gone: with e(b) = m(M) - m(M without b) and
                    e'(b) = m(M without h) - m(M without h and b), those with e'(b) > 0 and e'(b) - e(b) at least GROWTH
                    of |m(M)| and above 0 by a one-sided t-test over examples at ALPHA / (number of other heads)

Robustness curve: what is retained, 100 m / m(M), after ablating the most influential components one after the other, up
to STEPS of them (semantics, section 6; influence measured once, in the full model).

Limits: the best head by pattern need not be the most influential one; a head may have several roles, and then its drop is
that of all of them; backups are found one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student_t

from circuitkd.circuits.evaluation import share
from circuitkd.circuits.kept import KeptScorer
from circuitkd.comparison.resampling import interval, resampled_means
from circuitkd.components import Component
from circuitkd.interventions.sweep_result import SweepResult
from circuitkd.roles.role_scoring import RoleScores

Floats = NDArray[np.float64]
ALPHA, GROWTH, STEPS, DRAWS, SEED = 0.05, 0.01, 30, 2000, 0


@dataclass(frozen=True)
class Backup:
    """A head that does more when the main head is gone: its effects `before` and `after`, in logits."""

    head: Component
    before: float
    after: float


@dataclass(frozen=True)
class Reliance:
    """A model's best head in a role (None: no head has it). `drop` in percent of the full model, with the 95 % interval of
    the effect over examples; `circuit_drop` in points of it, NaN outside the circuit."""

    role: str
    head: Component | None
    score: float
    drop: float
    drop_interval: tuple[float, float]
    circuit_drop: float
    backups: tuple[Backup, ...]


@dataclass(frozen=True, eq=False)
class ModelBrittleness:
    """`reliances`: a role each. `circuit`: the components that circuit drops are about, empty where there is none. `order`:
    components, most influential first, and `retained` [1 + step]: percent left after ablating that many of them."""

    model: str
    reliances: tuple[Reliance, ...]
    circuit: tuple[Component, ...]
    order: tuple[Component, ...]
    retained: Floats


@dataclass(frozen=True, eq=False)
class Brittleness:
    """Teacher and student beside each other, with the same roles in the same order."""

    task: str
    teacher: ModelBrittleness
    student: ModelBrittleness
    definition: str

    def to_pandas(self) -> pd.DataFrame:
        """One row a role, as in DC Table 1."""
        pairs = zip(self.teacher.reliances, self.student.reliances, strict=True)
        return pd.DataFrame(
            [{"role": t.role} | _columns("teacher", t) | _columns("student", s) for t, s in pairs],
            columns=["role", *_columns("teacher", _NOBODY), *_columns("student", _NOBODY)],
        )

    def curve(self) -> pd.DataFrame:
        """The robustness curves: one row for each model and number of ablated components."""
        rows = [
            {"model": side, "ablated": step, "component": str(component) if component else "", "retained_percent": left}
            for side, found in (("teacher", self.teacher), ("student", self.student))
            for step, (component, left) in enumerate(zip((None, *found.order), found.retained.tolist(), strict=True))
        ]
        return pd.DataFrame(rows)


def brittleness(
    scorers: tuple[KeptScorer, KeptScorer],
    roles: tuple[RoleScores, RoleScores],
    *,
    sweeps: tuple[SweepResult, SweepResult],
    circuits: tuple[Sequence[Component], Sequence[Component]],
) -> Brittleness:
    """DC Table 1 and the curves of (teacher, student). `circuits`: each model's components, empty for none.

    Raises ValueError for roles or sweeps of other models than those of the scorers.
    """
    names = tuple(dict.fromkeys((*roles[0].roles, *roles[1].roles)))
    sides = []
    for scorer, found, sweep, circuit in zip(scorers, roles, sweeps, circuits, strict=True):
        _check_fit(scorer, found, sweep)
        reliances = tuple(_reliance(scorer, found, role, circuit) for role in names)
        order, retained = _curve(scorer, sweep)
        sides.append(ModelBrittleness(scorer.model.name, reliances, tuple(circuit), order, retained))
    return Brittleness(
        task=scorers[0].task.name,
        teacher=sides[0],
        student=sides[1],
        definition=(
            f"{scorers[0].describe()}; backups: effect grows by {100 * GROWTH:g} % of the model or more, one-sided t-test at "
            f"{ALPHA:g} over the other heads (Bonferroni)"
        ),
    )


def backup_heads(scorer: KeptScorer, head: Component) -> tuple[Backup, ...]:
    """The heads whose effect grows when `head` is ablated, those that grow most first."""
    everything, full = scorer.everything, scorer.values(scorer.everything)
    without = scorer.values(everything - {head})
    others = [c for c in scorer.model.components if c.kind == "head" and c != head]
    least = GROWTH * abs(float(full.mean()))
    found: list[tuple[float, Backup]] = []
    # Last layer first: what lies below a candidate is then always in the scorer's cache.
    for other in sorted(others, reverse=True):
        before = full - scorer.values(everything - {other})
        after = without - scorer.values(everything - {head, other})
        grown = float((after - before).mean())
        if after.mean() > 0 and grown >= least and _is_positive(after - before, ALPHA / len(others)):
            found.append((grown, Backup(other, float(before.mean()), float(after.mean()))))
    return tuple(backup for _, backup in sorted(found, key=lambda item: -item[0]))


def _is_positive(values: Floats, alpha: float) -> bool:
    """Whether a mean over examples is above 0 by a one-sided t-test."""
    if len(values) < 2:
        return False
    error = values.std(ddof=1) / np.sqrt(len(values))
    return bool(values.mean() > student_t.ppf(1 - alpha, len(values) - 1) * error)


NAN = float("nan")
_NOBODY = Reliance("", None, NAN, NAN, (NAN, NAN), NAN, ())


def _reliance(scorer: KeptScorer, roles: RoleScores, role: str, circuit: Sequence[Component]) -> Reliance:
    head = roles.best(role)
    if head is None:
        return replace(_NOBODY, role=role)
    full = scorer.values(scorer.everything)
    effect = full - scorer.values(scorer.everything - {head})
    draws = np.concatenate(list(resampled_means(effect[None], draws=DRAWS, seed=SEED)))[:, 0]
    chosen, points = frozenset(circuit), NAN
    if head in chosen:
        points = 100 * share(scorer.values(chosen) - scorer.values(chosen - {head}), full)
    return Reliance(
        role=role,
        head=head,
        score=float(roles.score[roles.heads.index(head), roles.roles.index(role)]),
        drop=_percent(float(effect.mean()), float(full.mean())),
        drop_interval=interval(100 * draws / (abs(float(full.mean())) or NAN)),
        circuit_drop=points,
        backups=backup_heads(scorer, head),
    )


def _percent(part: float, whole: float) -> float:
    return 100 * part / (abs(whole) or NAN)


def _curve(scorer: KeptScorer, sweep: SweepResult) -> tuple[tuple[Component, ...], Floats]:
    """The most influential components in order, and what is retained without the first 0, 1, 2, ... of them."""
    order = tuple(sweep.components[i] for i in np.argsort(-sweep.drops, kind="stable")[:STEPS])
    full = scorer(scorer.everything)
    left = [scorer(scorer.everything - frozenset(order[:step])) for step in range(len(order) + 1)]
    return order, np.array([100 - _percent(full - value, full) for value in left])


def _columns(side: str, found: Reliance) -> dict[str, object]:
    return {
        f"{side}_head": str(found.head) if found.head else "",
        f"{side}_score": found.score,
        f"{side}_drop": found.drop,
        f"{side}_circuit_drop": found.circuit_drop,
        f"{side}_backups": len(found.backups) if found.head else np.nan,
    }


def _check_fit(scorer: KeptScorer, roles: RoleScores, sweep: SweepResult) -> None:
    for what, model in (("roles", roles.model), ("the sweep", sweep.model)):
        if model != scorer.model.name:
            raise ValueError(
                f"{what} of {model} do not belong to {scorer.model.name}: give roles, sweeps and scorers of the same "
                "(teacher, student)"
            )
