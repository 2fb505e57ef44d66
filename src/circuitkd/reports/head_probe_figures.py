"""Plotly figures of what linear probes read from the value vectors of every head, one view for each target (DC Figure 26).

A heatmap layer x head for each model. Colours go from chance to 1 in both, so equal colours are equal scores; the axis
says what shuffled labels give. Where cells are wide enough, the scores stand in them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuitkd.reports.figures import Spec, base_layout
from circuitkd.reports.packing import significant
from circuitkd.reports.wording import fixed
from circuitkd.roles.head_probes import HeadProbes
from circuitkd.roles.result import RolesResult

NUMBERS = 16  # more heads than this leave no room for the score in a cell
AXIS = {"ticks": "", "zeroline": False, "showgrid": False, "fixedrange": True}


def probed_targets(result: RolesResult) -> tuple[str, ...]:
    """What the heads of either model were probed for."""
    found = [side.head_probes for side in (result.teacher, result.student)]
    return tuple(dict.fromkeys(target for probes in found if probes for target in probes.targets))


def head_probe_figures(result: RolesResult) -> dict[str, dict[str, Spec]]:
    """The figures of each model that was probed, by name and target."""
    sides = {"teacher": result.teacher.head_probes, "student": result.student.head_probes}
    probed = {name: probes for name, probes in sides.items() if probes}
    layers = max((len({h.layer for h in p.heads}) for p in probed.values()), default=1)
    cell = int(np.clip(400 / layers, 16, 30))
    lowest = {
        target: min(float(p.chance[p.targets.index(target)]) for p in probed.values() if target in p.targets)
        for target in probed_targets(result)
    }
    return {
        f"head-probes-{name}": {
            target: head_scores(probes, target, cell=cell, low=low) for target, low in lowest.items()
        }
        for name, probes in probed.items()
    }


def head_scores(probes: HeadProbes, target: str, *, cell: int, low: float) -> Spec:
    """Scores of one target by layer (row) and head (column); empty cells for a target that this model was not asked for.

    `cell`: height of a row in pixels. `low`: where the colours begin.
    """
    shape = (len({h.layer for h in probes.heads}), len({h.head for h in probes.heads}))
    values, about = _values(probes, target)
    score, control, deviation = significant(values.reshape(3, *shape).round(3))
    names, sources = (np.reshape(list(map(str, x)), shape).tolist() for x in (probes.heads, probes.sources))
    more = [sources] if probes.sources != probes.heads else []
    hover = ["<b>%{text}</b>", "score %{z:.2f}", "shuffled labels %{customdata[0]:.2f} ± %{customdata[1]:.2f}"]
    trace: dict[str, Any] = {
        "type": "heatmap",
        "z": score,
        "text": names,
        "customdata": np.stack([*map(np.array, (control, deviation, *more))], axis=-1, dtype=object).tolist(),
        "coloraxis": "coloraxis",
        "hoverongaps": False,
        "xgap": 1.5,
        "ygap": 1.5,
        "hovertemplate": "<br>".join([*hover, *["values of %{customdata[2]}" for _ in more]]) + "<extra></extra>",
    }
    if shape[1] <= NUMBERS:
        trace["texttemplate"] = "%{z:.2f}"
    columns = ["shuffled labels", "their deviation", *["values of" for _ in more]]
    layout = _layout(shape, about, cell=cell, low=low)
    return {"data": [trace], "layout": layout | {"meta": {"heads": shape[1], "columns": columns}}}


def _layout(shape: tuple[int, int], about: str, *, cell: int, low: float) -> dict[str, Any]:
    """Axes of layers and heads, `about` below them."""
    layers, heads = shape
    ticks = list(range(0, heads, max(1, heads // 12)))
    layout = base_layout(height=108 + layers * cell, meta={})
    numbered = {"tickvals": ticks, "ticktext": [str(t) for t in ticks]}
    return layout | {
        "margin": layout["margin"] | {"b": 68},
        "xaxis": AXIS | numbered | {"title": _title(f"head<br>{about}"), "range": [-0.5, heads - 0.5]},
        "yaxis": AXIS | {"title": _title("layer"), "range": [layers - 0.5, -0.5], "dtick": max(1, round(24 / cell))},
        "showlegend": False,
        "coloraxis": {"cmin": significant(low), "cmax": 1, "colorbar": _colours(low)},
    }


def _title(text: str) -> dict[str, Any]:
    return {"text": text, "standoff": 8}


def _values(probes: HeadProbes, target: str) -> tuple[NDArray[np.float64], str]:
    """Score, control and its deviation [3, head]; what the score is, and what to compare it with, in words."""
    if target not in probes.targets:
        return np.full((3, len(probes.heads)), np.nan), "not asked of this model"
    row = probes.targets.index(target)
    control = probes.control[row]
    compare = f"chance {fixed(float(probes.chance[row]))}, shuffled labels {fixed(float(control.mean()))}"
    return np.stack([probes.scores[row], control, probes.control_std[row]]), f"{probes.measures[row]}, {compare}"


def _colours(low: float) -> dict[str, Any]:
    """A colour bar from chance to 1."""
    steps = [v for v in (0.25, 0.5, 0.75, 1.0) if v > low + 0.08]
    bar = {"title": {"text": "score", "side": "right"}, "thickness": 10, "outlinewidth": 0}
    return bar | {"tickvals": [significant(low), *steps], "ticktext": ["chance", *(f"{v:g}" for v in steps)]}
