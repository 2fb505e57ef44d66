"""What the panel of one component shows, for all components of a comparison, as JSON values for the scripts.

Effects by example come from the sweeps; fates, role scores, patching rows, OV tests and probes where there is a
RolesResult.
Components are named as everywhere ("L2H1"), matrices are packed (see `packing`), rows in the order of the names.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from circuitkd.comparison.result import Comparison, MatchedPair
from circuitkd.interventions.sweep_result import SweepResult
from circuitkd.reports.packing import packed_matrix, significant
from circuitkd.reports.wording import place_names
from circuitkd.roles.fate_result import Fate, Side
from circuitkd.roles.head_probes import HeadProbes
from circuitkd.roles.ov import OvTest
from circuitkd.roles.patching_result import ActivationPatching
from circuitkd.roles.probe_sites import ProbeScores
from circuitkd.roles.probes import ProbeResult
from circuitkd.roles.result import ModelRoles, RolesResult


def drill_down(comparison: Comparison, roles: RolesResult | None) -> dict[str, Any]:
    """`examples` and `pairs`, for "teacher" and "student" what is known of each component, and `fates` by teacher
    component."""
    sweeps = comparison.teacher_sweep, comparison.student_sweep
    models = (roles.teacher, roles.student) if roles else (None, None)
    sides = {
        name: _effects(sweep) | (_roles(model) if model else {})
        for name, sweep, model in zip(("teacher", "student"), sweeps, models, strict=True)
    }
    fates = {str(f.teacher.component): _fate(f) for f in roles.fates.fates} if roles else {}
    pairs = [_pair(p) for p in comparison.alignment.pairs]
    return {"examples": list(sweeps[0].examples), "pairs": pairs, "fates": fates} | sides


def _pair(pair: MatchedPair) -> dict[str, Any]:
    numbers = {"similarity": pair.similarity, "agreement": pair.agreement, "contribution": pair.contribution}
    return {
        "teacher": str(pair.teacher),
        "student": str(pair.student),
        "weight": significant(pair.weight),
    } | significant(numbers)


def _effects(sweep: SweepResult) -> dict[str, Any]:
    """Per component: influence, percent retained, effects [component, example] in logits."""
    return {
        "names": [str(c) for c in sweep.components],
        "influence": significant(sweep.influence()),
        "retained": significant(sweep.retained_percent),
        "mean": significant(sweep.drops),
        "effects": packed_matrix(sweep.effects),
        "estimated": [str(c) for c in sweep.estimated],
    }


def _roles(model: ModelRoles) -> dict[str, Any]:
    s, a = model.scores, model.attribution
    return {
        "roles": {
            "heads": [str(h) for h in s.heads],
            "names": list(s.roles),
            "threshold": significant(s.threshold),
            "score": packed_matrix(s.score),
            "share": packed_matrix(s.share),
            "found": s.found.astype(int).tolist(),
        },
        "ov": [_ov(name, test) for name, test in (("weights", model.ov), ("prompts", model.ov_on_prompts)) if test],
        "patching": _patching(model.patching) if model.patching else None,
        "probes": _probes(model.probes, model.head_probes) if model.probes else None,
        "attribution": dict(zip(map(str, a.components), significant(a.mean), strict=True)),
    }


def _probes(stream: ProbeResult, heads: HeadProbes | None) -> dict[str, Any]:
    """Scores [target, layer] of the residual stream, and [target, head] of the heads' values where they were probed."""
    found: dict[str, Any] = {"targets": stream.targets, "chance": significant(stream.chance), "stream": _scores(stream)}
    if heads is None:
        return found | {"heads": None}
    names = {"names": [str(h) for h in heads.heads], "sources": [str(s) for s in heads.sources]}
    return found | {"heads": names | _scores(heads)}


def _scores(found: ProbeScores) -> dict[str, Any]:
    """Scores [target, site], with mean and deviation of those of shuffled labels."""
    matrices = {"score": found.scores, "control": found.control, "spread": found.control_std}
    return {name: packed_matrix(values) for name, values in matrices.items()}


def _ov(name: str, test: OvTest) -> dict[str, Any]:
    shares = {
        "successor": significant(test.successor),
        "copy": significant(test.copy),
        "chance": significant(test.chance),
    }
    return {"asked": name, "definition": test.definition, "heads": [str(h) for h in test.heads]} | shares


def _patching(found: ActivationPatching) -> dict[str, Any]:
    """Recovery [component, position + all of them], and of each head's pattern and values."""
    recovery = found.recovery(np.concatenate([found.effects, found.at_all[:, None]], axis=1))
    halves = np.stack([found.recovery(found.qk), found.recovery(found.ov)], axis=1)
    return {
        "components": [str(c) for c in found.components],
        "positions": list(place_names(found.positions)),
        "recovery": packed_matrix(recovery),
        "heads": [str(h) for h in found.heads],
        "halves": packed_matrix(halves),
        "gap": significant(found.gap),
    }


def _fate(fate: Fate) -> dict[str, Any]:
    return {
        "fate": fate.fate,
        "student": str(fate.student.component),
        "others": [str(c) for c in fate.others],
        "similarity": significant(fate.similarity),
        "null": significant(fate.null),
        "reason": fate.reason,
        "drops": [_drop(fate.teacher), _drop(fate.student)],
    }


def _drop(side: Side) -> Any:
    return significant([side.drop_percent, *side.drop_interval])
