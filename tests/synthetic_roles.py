"""A RolesResult made of random numbers that fit a synthetic comparison; its fates come from the real rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from circuitkd.comparison.result import SAME
from circuitkd.components import Component
from circuitkd.roles.brittleness import Backup, Brittleness, ModelBrittleness, Reliance
from circuitkd.roles.direct_attribution import LogitAttribution
from circuitkd.roles.fates import find_fates
from circuitkd.roles.head_probes import HeadProbes
from circuitkd.roles.lens import LogitLens, StreamContributions
from circuitkd.roles.mlps import MlpComparison, MlpPlane
from circuitkd.roles.ov import OvTest
from circuitkd.roles.patching_result import ActivationPatching
from circuitkd.roles.probes import ProbeResult
from circuitkd.roles.result import ModelRoles, RolesResult
from circuitkd.roles.role_scoring import RoleScores
from circuitkd.roles.untrained_similarity import UntrainedSimilarity
from synthetic_comparison import synthetic

ROLES = ("previous token", "first-token sink", "duplicate token", "induction", "name mover", "S-inhibition")
PLACES = ("0", "and", "2", "IO", "4", "S2", "<s>", "end")
WHY = "needs the labels member_1, member_2, ..."


def roles_of(comparison=None, *, seed=0, places=PLACES) -> RolesResult:
    """Roles, their evidence and fates of the two models of a comparison."""
    comparison = comparison or synthetic()
    rng = np.random.default_rng(seed)
    sides = [_model_roles(rng, sweep, places) for sweep in (comparison.teacher_sweep, comparison.student_sweep)]
    similarity = comparison.similarity
    null = np.concatenate([similarity.head.max(axis=1), similarity.mlp.max(axis=1)])
    null[:] -= np.where(np.arange(len(null)) % 5 == 4, -0.01, 0.1)  # every fifth is no more alike than chance
    fates = find_fates(
        comparison, UntrainedSimilarity(null, (0, 1, 2), "cosine"), roles=(sides[0].scores, sides[1].scores)
    )
    mlps = [f for f in fates.fates if f.teacher.component.kind == "mlp"]
    return RolesResult(
        teacher=sides[0],
        student=sides[1],
        mlps=_mlps(rng, comparison, places),
        planes=tuple(_plane(rng, f.teacher.component, f.student.component, places) for f in mlps),
        fates=fates,
        brittleness=Brittleness(
            comparison.task,
            _brittle(sides[0].scores, comparison.teacher_sweep),
            _brittle(sides[1].scores, comparison.student_sweep),
            "logit[answer] - logit[distractor]",
        ),
        left_out={f"{what} of {side.scores.model}": WHY for side in sides for what in ("role mover", "probe member i")},
        warnings=(),
        manifest={key: comparison.manifest[key] for key in SAME if key in comparison.manifest},
    )


def bare(result: RolesResult) -> RolesResult:
    """The same result without all that a task or pair may not allow."""
    sides = [
        replace(side, ov=None, patching=None, probes=None, head_probes=None)
        for side in (result.teacher, result.student)
    ]
    return replace(result, teacher=sides[0], student=sides[1], mlps=None, planes=())


def _model_roles(rng, sweep, places) -> ModelRoles:
    heads = tuple(c for c in sweep.components if c.kind == "head")
    layers = tuple(range(1 + max(c.layer for c in heads)))
    names = (sweep.model, sweep.task)
    return ModelRoles(
        scores=_scores(rng, names, heads),
        ov=_ov(rng, sweep.model, heads, "weights"),
        ov_on_prompts=_ov(rng, sweep.model, heads, "prompts"),
        patching=_patching(rng, sweep, heads, places),
        probes=_probes(rng, names, layers),
        lens=_lens(rng, names, layers, n=len(sweep.base)),
        contributions=StreamContributions(
            *names,
            layers,
            places,
            size=rng.random((2, len(layers), len(places))),
            logits=rng.normal(size=(2, len(layers), len(places))),
            start=rng.normal(size=len(places)),
            prompts=9,
            left_out={"ex-1": "has 9 tokens, not 8"},
        ),
        attribution=_attribution(rng, sweep),
        head_probes=HeadProbes(**_probe_scores(rng, names, len(heads)), heads=heads, sources=heads),
    )


def _scores(rng, names, heads) -> RoleScores:
    score = rng.random((len(heads), len(ROLES))) ** 3
    threshold = np.full(len(ROLES), 0.3)
    found = score > threshold
    found[:, 0] = False  # a role that no head has
    owned = np.where(found, score, 0.0)
    total = owned.sum(axis=1, keepdims=True)
    return RoleScores(
        *names,
        heads,
        ROLES,
        attention=score,
        score=score,
        threshold=threshold,
        error_rates=np.full(len(ROLES), 0.01),
        found=found,
        share=owned / np.where(total > 0, total, 1.0),
        left_out={"mover": WHY},
        definition="random",
    )


def _ov(rng, model, heads, what) -> OvTest:
    return OvTest(model, heads, rng.random(len(heads)), rng.random(len(heads)), 20, 0.01, what)


def _patching(rng, sweep, heads, places) -> ActivationPatching:
    components = (Component("embed"), *sweep.components)
    layers = 1 + max(c.layer for c in heads)
    examples = sweep.examples[1:]
    return ActivationPatching(
        sweep.model,
        sweep.task,
        components,
        places,
        effects=rng.normal(size=(len(components), len(places))) ** 3 / 4,
        at_all=rng.normal(size=len(components)),
        blocks=rng.normal(size=(layers, len(places))),
        blocks_at_all=rng.normal(size=layers),
        qk=rng.normal(size=len(heads)),
        ov=rng.normal(size=len(heads)),
        clean=np.full(len(examples), 4.0),
        corrupted=np.zeros(len(examples)),
        examples=examples,
        left_out={sweep.examples[0]: "clean has 8 tokens, corrupted 9"},
    )


def _probes(rng, names, layers) -> ProbeResult:
    scores = _probe_scores(rng, names, len(layers))
    return ProbeResult(**scores, features="resid_mid", layers=layers, embedding=np.array([0.125, 0.5]))


def _probe_scores(rng, names, sites):
    shape = (2, sites)
    return {
        "model": names[0],
        "task": names[1],
        "targets": ("answer", "seen before"),
        "measures": ("balanced accuracy", "AUROC"),
        "scores": rng.random(shape),
        "control": np.full(shape, 0.25),
        "control_std": np.full(shape, 0.05),
        "chance": np.array([0.1, 0.5]),
        "outputs": np.array([10, 1]),
        "train_rows": np.array([80, 160]),
        "test_rows": np.array([20, 40]),
        "left_out": {"member i": WHY},
        "definition": "linear",
    }


def _lens(rng, names, layers, *, n) -> LogitLens:
    probability = np.sort(rng.random((len(layers), n)), axis=0)
    falling = np.geomspace(60, 1, len(layers)).round().astype(int)
    rank = np.maximum(1, falling[:, None] + rng.integers(-2, 1, (len(layers), n)))
    return LogitLens(*names, layers, rank, probability)


def _attribution(rng, sweep) -> LogitAttribution:
    components = (Component("embed"), *sweep.components)
    values = rng.normal(size=(len(components), 1)) * 0.5 + 0.1 * rng.normal(size=(len(components), len(sweep.base)))
    biases = np.zeros((2, len(sweep.base)))
    return LogitAttribution(
        sweep.model,
        sweep.task,
        components,
        values,
        biases,
        constant=sweep.base - values.sum(axis=0),
        total=sweep.base,
        definition="logit[answer] - logit[distractor] with the final norm's scale frozen",
    )


def _mlps(rng, comparison, places) -> MlpComparison:
    sides = [
        tuple(c for c in s.components if c.kind == "mlp") for s in (comparison.teacher_sweep, comparison.student_sweep)
    ]
    shape = (len(sides[0]), len(sides[1]))
    names = (comparison.teacher.name, comparison.student.name, comparison.task)
    return MlpComparison(
        *names,
        *sides,
        cosine=rng.random(shape),
        eigenvectors=rng.random(shape),
        positions=places,
        by_position=rng.uniform(-1, 1, (*shape, len(places))),
        prompts=9,
        left_out={},
    )


def _plane(rng, teacher, student, places) -> MlpPlane:
    points = rng.normal(size=(2, len(places), 2)) * [4, 2]
    explained = np.array([[0.6, 0.25]] * 2)
    return MlpPlane(teacher, student, places, points[0], points[1], explained, is_shared=True, prompts=9)


def _brittle(scores, sweep) -> ModelBrittleness:
    reliances = []
    for role in scores.roles:
        head = scores.best(role)
        if head is None:
            reliances.append(Reliance(role, None, np.nan, np.nan, (np.nan, np.nan), np.nan, ()))
            continue
        others = tuple(Backup(h, 0.1, 0.3) for h in scores.heads if h != head)[:5]
        reliances.append(Reliance(role, head, 0.5, 12.25, (10.5, 14.0), np.nan, others))
    order = tuple(sweep.components[i] for i in np.argsort(-sweep.drops)[:6])
    return ModelBrittleness(sweep.model, tuple(reliances), (), order, np.linspace(100, -5, 1 + len(order)))
