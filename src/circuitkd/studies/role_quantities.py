"""What study files may ask of roles and their validation (DC sections 3.2.1, 3.2.2, Appendices I and J)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from circuitkd.comparison.performance import Estimate
from circuitkd.components import Component
from circuitkd.roles.mlps import MlpComparison
from circuitkd.roles.patching_result import ActivationPatching
from circuitkd.roles.probe_sites import ProbeScores
from circuitkd.roles.result import ModelRoles, RolesResult
from circuitkd.studies.measured import SIDES, Quantity, chosen, numbered, plain, two_components

AVERAGE = "mean"
HEAD = "a head like L9H1"


def _ov(side: ModelRoles, what: str, head: str) -> Estimate:
    if side.ov is None:
        raise ValueError("the OV test was left out")
    values = getattr(side.ov, what)
    if head == AVERAGE:
        return plain(100 * float(values.mean()))
    return plain(100 * float(values[_index(side.ov.heads, head)]))


def _attention(side: ModelRoles, where: str) -> Estimate:
    head, _, role = where.partition(" as ")
    scores = side.scores
    return plain(float(scores.attention[_index(scores.heads, head), chosen(role, scores.roles, what="role")]))


def _probe(side: ModelRoles, where: str) -> Estimate:
    probes = side.probes
    if probes is None:
        raise ValueError("probes were left out")
    name, layer = numbered(where, "layer")
    rows = _targets(probes, name)
    column = chosen(f"{layer:g}", [str(n) for n in probes.layers], what="layer")
    return plain(100 * float(probes.scores[rows, column].mean()))


def _head_probe(side: ModelRoles, where: str) -> Estimate:
    probes = side.head_probes
    if probes is None:
        raise ValueError("probes of heads were left out, or a version without them made this result: make it again")
    name, comma, head = where.rpartition(",")
    if not comma:
        raise ValueError(f"{where!r} names no head: write it as in 'next member, L9H1', or 'next member, {AVERAGE}'")
    scores = probes.scores[_targets(probes, name.strip())]
    if head.strip() == AVERAGE:
        return plain(100 * float(scores.mean()))
    return plain(100 * float(scores[:, _index(probes.heads, head)].mean()))


def _targets(probes: ProbeScores, name: str) -> list[int]:
    rows = [i for i, target in enumerate(probes.targets) if target == name or _is_member(target, name)]
    if not rows:
        raise ValueError(f"there is no probe target {name!r}: there are {', '.join(probes.targets)}")
    return rows


def _is_member(target: str, name: str) -> bool:
    """ "member" stands for all of "member 1", "member 2" ..."""
    return name == "member" and target.startswith("member ")


def _patching(side: ModelRoles) -> ActivationPatching:
    if side.patching is None:
        raise ValueError("activation patching was left out")
    return side.patching


def _block(side: ModelRoles, where: str) -> Estimate:
    found, (_, layer) = _patching(side), numbered(where, "layer")
    names = [str(i) for i in range(len(found.blocks_at_all))]
    return plain(float(found.blocks_at_all[chosen(f"{layer:g}", names, what="layer")]))


def _ov_patching(side: ModelRoles, head: str) -> Estimate:
    found = _patching(side)
    return plain(float(found.ov[_index(found.heads, head)]))


def _ov_z_score(side: ModelRoles, head: str) -> Estimate:
    found = _patching(side)
    return plain(float(found.z_scores(found.ov)[_index(found.heads, head)]))


def _mlps(what: str) -> Callable[[RolesResult, str], Estimate]:
    def read(result: RolesResult, pair: str) -> Estimate:
        found: MlpComparison | None = result.mlps
        if found is None:
            raise ValueError("MLP cosines were left out")
        values: NDArray[np.float64] = getattr(found, what)
        teacher, student = two_components(pair)
        row = chosen(teacher, [str(c) for c in found.teacher_mlps], what="MLP")
        return plain(float(values[row, chosen(student, [str(c) for c in found.student_mlps], what="MLP")]))

    return read


def _index(heads: tuple[Component, ...], head: str) -> int:
    return chosen(str(Component.parse(head)), [str(h) for h in heads], what="head")


def _of_side(side: str) -> dict[str, Quantity]:
    def at(read: Callable[[ModelRoles, str], Estimate]) -> Callable[[RolesResult, str], Estimate]:
        return lambda result, of: read(getattr(result, side), of)

    return {
        f"{side}-successor": Quantity("roles", "%", at(lambda s, of: _ov(s, "successor", of)), f"{HEAD}, or mean"),
        f"{side}-copy": Quantity("roles", "%", at(lambda s, of: _ov(s, "copy", of)), f"{HEAD}, or mean"),
        f"{side}-attention": Quantity("roles", "", at(_attention), "a head in a role, like L9H1 as successor"),
        f"{side}-probe": Quantity("roles", "%", at(_probe), "a target and a layer, like next member, layer 9"),
        f"{side}-head-probe": Quantity(
            "roles", "%", at(_head_probe), "a target and a head, like next member, L9H1, or next member, mean"
        ),
        f"{side}-block-patching": Quantity("roles", "logits", at(_block), "a layer, like layer 4"),
        f"{side}-ov-patching": Quantity("roles", "logits", at(_ov_patching), HEAD),
        f"{side}-ov-z-score": Quantity("roles", "", at(_ov_z_score), HEAD),
    }


PAIR = "a teacher's and a student's MLP, like MLP9->MLP4"
ROLE_QUANTITIES: Mapping[str, Quantity] = {
    "mlp-cosine": Quantity("roles", "", _mlps("cosine"), PAIR),
    "mlp-cosine-first-token": Quantity("roles", "", _mlps("first_token"), PAIR),
    "mlp-cosine-other-tokens": Quantity("roles", "", _mlps("other_tokens"), PAIR),
} | {k: v for side in SIDES for k, v in _of_side(side).items()}
