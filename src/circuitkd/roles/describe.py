"""`describe_roles`: what every component of a pair does on a task, how sure that is, and what the student kept of it (DC
sections 3.1.2, 3.1.3 and 3.2, which the paper does by hand)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from circuitkd.circuits.kept import KeptScorer
from circuitkd.circuits.pruning import prune
from circuitkd.comparison.result import Comparison
from circuitkd.components import Component
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.execution import Execution, fingerprint
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.provenance import software
from circuitkd.roles.activation_patching import activation_patching
from circuitkd.roles.brittleness import brittleness
from circuitkd.roles.direct_attribution import logit_attribution
from circuitkd.roles.fates import find_fates
from circuitkd.roles.head_probes import probe_heads
from circuitkd.roles.lens import logit_lens, stream_contributions
from circuitkd.roles.mlps import compare_mlps, mlp_planes
from circuitkd.roles.ov import ov_test, ov_test_on_prompts
from circuitkd.roles.patterns import role_scores
from circuitkd.roles.probes import probe
from circuitkd.roles.result import ModelRoles, RolesResult
from circuitkd.roles.untrained_similarity import untrained_similarity
from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import BoundTask
from circuitkd.tasks.sequences import NUMERALS
from circuitkd.tasks.words import MONTHS, NUMBER_WORDS

T = TypeVar("T")
Pair = tuple[CircuitModel, CircuitModel]
BoundPair = tuple[BoundTask, BoundTask]
# What the successor test counts in; tasks that are no sequences are asked for numerals.
ALPHABETS = {"word-sequence": NUMBER_WORDS, "months-sequence": MONTHS}


def describe_roles(
    teacher: CircuitModel,
    student: CircuitModel,
    task: Task,
    *,
    comparison: Comparison,
    ablation: Ablation | None = None,
    execution: Execution | None = None,
) -> RolesResult:
    """Roles of all heads with their validation, MLPs side by side, fates, and brittleness by function.

    `comparison`: what `compare` found for this pair, task and ablation; its examples are used. What the task or the models
    do not allow (roles without labels, patching without prompts of equal length, probes of a single class, MLPs of unequal
    width) is left out and named. Raises ValueError for a comparison of something else.
    """
    ablation, execution = ablation or Ablation(task.ablation), execution or Execution()
    models, left_out = (teacher, student), dict[str, str]()
    _check_fit(comparison, models, task=task, ablation=ablation)
    tasks = _bound(models, task, comparison, ablation)
    names = _names(teacher, student)
    sides = (
        _model_roles(teacher, tasks[0], name=names[0], execution=execution, left_out=left_out),
        _model_roles(student, tasks[1], name=names[1], execution=execution, left_out=left_out),
    )
    scores = (sides[0].scores, sides[1].scores)
    mlps = _attempt(
        "MLP cosines", lambda: compare_mlps(teacher, student, tasks=tasks, execution=execution), left_out=left_out
    )
    null = untrained_similarity(models, tasks, like=comparison.similarity, execution=execution)
    fates = find_fates(comparison, null, roles=scores)
    pairs = [(f.teacher.component, f.student.component) for f in fates.fates if f.teacher.component.kind == "mlp"]
    planes = _attempt(
        "MLP planes",
        lambda: mlp_planes(teacher, student, tasks=tasks, pairs=pairs, execution=execution),
        left_out=left_out,
    )
    scorers = tuple(
        KeptScorer(m, t, ablation=ablation, execution=execution) for m, t in zip(models, tasks, strict=True)
    )
    circuits = tuple(_circuit(scorer, name, left_out=left_out) for scorer, name in zip(scorers, names, strict=True))
    fragile = brittleness(
        (scorers[0], scorers[1]),
        scores,
        sweeps=(comparison.teacher_sweep, comparison.student_sweep),
        circuits=(circuits[0], circuits[1]),
    )
    return RolesResult(
        teacher=sides[0],
        student=sides[1],
        mlps=mlps,
        planes=planes or (),
        fates=fates,
        brittleness=fragile,
        left_out=left_out,
        warnings=comparison.warnings,
        manifest=_manifest(comparison),
    )


def _names(teacher: CircuitModel, student: CircuitModel) -> tuple[str, str]:
    """What the models are called in `left_out`, two of one name so that they can be told apart."""
    if teacher.name != student.name:
        return teacher.name, student.name
    return f"{teacher.name} (teacher)", f"{student.name} (student)"


def _model_roles(
    model: CircuitModel, task: BoundTask, *, name: str, execution: Execution, left_out: dict[str, str]
) -> ModelRoles:
    """Everything that concerns one model alone."""
    alphabet = ALPHABETS.get(task.name, NUMERALS)

    def attempt(what: str, function: Callable[[], T]) -> T | None:
        return _attempt(f"{what} of {name}", function, left_out=left_out)

    found = ModelRoles(
        scores=role_scores(model, task, execution=execution),
        ov=attempt("OV test", lambda: ov_test(model, alphabet)),
        ov_on_prompts=ov_test_on_prompts(model, task, execution=execution),
        patching=attempt("activation patching", lambda: activation_patching(model, task, execution=execution)),
        probes=attempt("probes", lambda: probe(model, task, execution=execution)),
        head_probes=attempt("head probes", lambda: probe_heads(model, task, execution=execution)),
        lens=logit_lens(model, task, execution=execution),
        contributions=stream_contributions(model, task, execution=execution),
        attribution=logit_attribution(model, task, execution=execution),
    )
    left_out.update({f"role {role} of {name}": why for role, why in found.scores.left_out.items()})
    if found.probes is not None:
        left_out.update({f"probe {target} of {name}": why for target, why in found.probes.left_out.items()})
    return found


def _attempt(what: str, function: Callable[[], T], *, left_out: dict[str, str]) -> T | None:
    """What the function gives, or None and a reason where the task or the models do not allow it."""
    try:
        return function()
    except ValueError as error:
        left_out[what] = str(error)
        return None


def _circuit(scorer: KeptScorer, name: str, *, left_out: dict[str, str]) -> tuple[Component, ...]:
    """The nodes of the model's circuit at the usual threshold; none for a model that cannot do the task."""
    if scorer(scorer.everything) <= 0:
        left_out[f"circuit of {name}"] = "its mean logit difference is not positive, so no part does the task"
        return ()
    return prune(scorer.model.n_layers, scorer.model.n_heads, scorer).components


def _bound(models: Pair, task: Task, comparison: Comparison, ablation: Ablation) -> BoundPair:
    """The comparison's examples in the tokens of each model."""
    lenient, ids = replace(task, origin="generated"), comparison.teacher_sweep.examples
    teacher, student = (lenient.bind(model, aligned=ablation.needs_alignment).select(ids) for model in models)
    return teacher, student


def _check_fit(comparison: Comparison, models: Pair, *, task: Task, ablation: Ablation) -> None:
    wrong = [
        what
        for what, here, there in (
            ("teacher", fingerprint(models[0]), comparison.teacher.fingerprint),
            ("student", fingerprint(models[1]), comparison.student.fingerprint),
            ("data", task.digest(), comparison.manifest.get("data_sha256")),
            ("ablation", ablation.describe(), comparison.teacher_sweep.ablation),
        )
        if here != there
    ]
    if wrong:
        raise ValueError(
            f"this comparison has another {' and '.join(wrong)}: give the result of compare(teacher, student, task) for "
            "these models, this task and this ablation"
        )


def _manifest(comparison: Comparison) -> dict[str, str]:
    kept = {k: v for k, v in comparison.manifest.items() if k not in software()}
    return kept | {"roles": "describe_roles"} | software()
