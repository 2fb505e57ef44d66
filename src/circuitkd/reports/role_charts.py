"""Roles as small charts: what linear probes read at which layer, where the answer appears (logit lens), and what each
component writes towards it (direct logit attribution).

Layers of two models stand on one axis from the embedding (0) to the last layer (1), so that equal places are equal shares
of the depth; points name the layer. Only geometry; the templates draw SVG and table rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from circuitkd.reports.charts import Line, Panel, Point
from circuitkd.reports.strips import Axis, Mark, Strip, axis_for
from circuitkd.reports.wording import fixed
from circuitkd.roles.direct_attribution import LogitAttribution
from circuitkd.roles.probes import ProbeResult
from circuitkd.roles.result import RolesResult

SHOWN = 10
DEPTH = ((0.0, "embedding"), (50.0, "half"), (100.0, "last layer"))
SIDES = ("teacher", "student")
UNIT_AXIS = Axis(0.0, 1.0, 0.2)


def probe_panels(result: RolesResult) -> list[Panel]:
    """One chart for each target of either model: its score by layer, beside what shuffled labels give."""
    found = [(side, s.probes) for side, s in zip(SIDES, (result.teacher, result.student), strict=True)]
    probes = [(side, p) for side, p in found if p is not None]
    targets = dict.fromkeys(target for _, p in probes for target in p.targets)
    return [_probe_panel(target, [(side, p) for side, p in probes if target in p.targets]) for target in targets]


def lens_panels(result: RolesResult) -> list[Panel]:
    """How often the answer is the most likely token, and its mean probability, by layer."""
    shares: list[Line] = []
    means: list[Line] = []
    for side, lens in zip(SIDES, (result.teacher.lens, result.student.lens), strict=True):
        ranks = [f"median rank {fixed(float(r), 1).removesuffix('.0')}" for r in np.median(lens.rank, axis=1)]
        shares.append(Line(side, side, _by_layer(side, lens.layers, lens.top_share.tolist(), notes=ranks)))
        means.append(Line(side, side, _by_layer(side, lens.layers, lens.probability.mean(axis=1).tolist())))
    return [
        Panel(title, tuple(lines), UNIT_AXIS, DEPTH, "depth", ("layer", title.lower()))
        for title, lines in (
            ("Prompts with the answer on top, share", shares),
            ("Probability of the answer, mean", means),
        )
    ]


def attribution_strips(result: RolesResult) -> tuple[Strip, Strip]:
    """What the components of the teacher, and of the student, write towards the answer; one axis for both."""
    sides = [_marks(side, s.attribution) for side, s in zip(SIDES, (result.teacher, result.student), strict=True)]
    values = [v for marks in sides for m in marks for v in (m.value, *m.rug)]
    axis = axis_for([*values, 0.0])
    unit = "logits towards the answer and away from the distractor, mean over prompts"
    first, second = (tuple(replace(m, rug=_apart(m.rug, axis)) for m in marks) for marks in sides)
    return Strip(first, axis, unit), Strip(second, axis, unit)


def _apart(values: Sequence[float], axis: Axis) -> tuple[float, ...]:
    """One value for each half percent of the axis: more lines than that cannot be told apart."""
    return tuple({round(2 * axis.at(v)): v for v in values}.values())


def _probe_panel(target: str, probes: Sequence[tuple[str, ProbeResult]]) -> Panel:
    lines = []
    for side, p in probes:
        i = p.targets.index(target)
        start = float(p.embedding[i])
        first = Point(0.0, UNIT_AXIS.at(start), f"{side}, embedding: {fixed(start)}", start, "embedding")
        spread = [f"± {fixed(float(s))} over shuffles" for s in p.control_std[i]]
        name = f"{side}, shuffled labels"
        shuffled = _by_layer(name, p.layers, p.control[i].tolist(), notes=spread)
        scores = (first, *_by_layer(side, p.layers, p.scores[i].tolist()))
        lines += [Line(side, side, _finite(scores)), Line(name, side, shuffled, is_reference=True)]
    title, measure = f"{target[:1].upper()}{target[1:]}", probes[0][1].measures[probes[0][1].targets.index(target)]
    return Panel(title, tuple(lines), UNIT_AXIS, DEPTH, f"depth; {measure}", ("layer", f"{target} ({measure})"))


def _by_layer(
    name: str, layers: Sequence[int], values: Sequence[float], *, notes: Sequence[str] = ()
) -> tuple[Point, ...]:
    """A point for each layer with a value, at its share of the depth."""
    points = []
    for i, (layer, value, note) in enumerate(zip(layers, values, notes or [""] * len(layers), strict=True)):
        title = f"{name}, layer {layer}: {fixed(value)}{f' ({note})' if note else ''}"
        depth = round(100 * (i + 1) / len(layers), 2)
        points.append(Point(depth, UNIT_AXIS.at(value), title, value, layer, note))
    return _finite(points)


def _finite(points: Sequence[Point]) -> tuple[Point, ...]:
    return tuple(p for p in points if math.isfinite(p.value))


def _marks(side: str, found: LogitAttribution) -> tuple[Mark, ...]:
    """The logit difference, the components that write most, all others, and what no component writes."""
    mean = found.mean
    order = [int(i) for i in np.argsort(-np.abs(mean), kind="stable")]
    most = SHOWN if len(order) > SHOWN + 1 else len(order)
    shown, rest = sorted(order[:most], key=lambda i: -mean[i]), order[most:]
    marks = [Mark("Logit difference", float(found.total.mean()), "score", fixed(float(found.total.mean())))]
    for i in shown:
        name = "embedding" if found.components[i].kind == "embed" else str(found.components[i])
        rug = tuple(float(v) for v in found.values[i])
        is_part = found.components[i].kind != "embed"
        marks.append(Mark(name, float(mean[i]), side, fixed(float(mean[i])), rug=rug, is_component=is_part))
    if rest:
        marks.append(Mark(f"the other {len(rest)}", float(mean[rest].sum()), "null", fixed(float(mean[rest].sum()))))
    outside = float(found.biases.sum(axis=0).mean() + found.constant.mean())
    marks.append(Mark("biases and constants", outside, "null", fixed(outside)))
    return tuple(marks)
