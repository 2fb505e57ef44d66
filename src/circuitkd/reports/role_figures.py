"""Plotly figures of a RolesResult, as plain specifications that go beside those of its comparison (see `figures`).

A figure of which the reader chooses a view is a dict of specifications by the name of the view. Teacher and student share
their colour range, so equal colours are equal values. Names of positions are escaped: plotly reads markup in text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuitkd.reports.figures import Spec, base_layout
from circuitkd.reports.head_probe_figures import head_probe_figures
from circuitkd.reports.label_places import place_labels
from circuitkd.reports.packing import significant
from circuitkd.reports.wording import fixed, place_names
from circuitkd.roles.brittleness import Brittleness
from circuitkd.roles.lens import StreamContributions
from circuitkd.roles.mlps import MlpPlane
from circuitkd.roles.patching_result import ActivationPatching
from circuitkd.roles.result import ModelRoles, RolesResult

Floats = NDArray[np.float64]
ROWS = 40  # more components than this are cut to those with the largest effects
SIDES = ("teacher", "student")
PLANE = (1040.0, 380.0)  # about the size of the plotted area of a plane, in pixels, which names are placed for


def role_figures(result: RolesResult) -> dict[str, Any]:
    """All figures by name; those that could not be drawn are absent."""
    sides = dict(zip(SIDES, (result.teacher, result.student), strict=True))
    found: dict[str, Any] = {"robustness": robustness(result.brittleness)}
    if result.planes:
        found["planes"] = {str(p.teacher): plane(p) for p in result.planes}
    reach = _reach(sides.values())
    largest = {
        view: max(float(np.abs(getattr(s.contributions, view)).max(initial=0.0)) for s in sides.values()) or 1.0
        for view in ("logits", "size")
    }
    for name, side in sides.items():
        if side.patching is not None:
            views = {"positions": patched_positions, "split": patched_halves}
            found[f"patching-{name}"] = {view: draw(side.patching, reach=reach) for view, draw in views.items()}
        found[f"contributions-{name}"] = {
            view: contributions(side.contributions, view=view, reach=largest[view]) for view in largest
        }
    return found | head_probe_figures(result)


def strongest_rows(patching: ActivationPatching, *, heads: bool = False) -> list[int]:
    """The components [component] (or [head]) to draw, in their order: all, or the ROWS with the largest effects."""
    if heads:
        size = np.abs(np.stack([patching.qk, patching.ov])).max(axis=0)
    else:
        size = np.maximum(np.abs(patching.effects).max(axis=1), np.abs(patching.at_all))
    return sorted(int(i) for i in np.argsort(-size, kind="stable")[:ROWS])


def patched_positions(patching: ActivationPatching, *, reach: float) -> Spec:
    """Recovery by component (row) and position (column); the last column is all positions at once."""
    rows = strongest_rows(patching)
    effects = np.full((len(rows), len(patching.positions) + 2), np.nan)
    effects[:, :-2], effects[:, -1] = patching.effects[rows], patching.at_all[rows]
    places = [*place_names(patching.positions), "", "all"]
    return _recoveries(patching, effects, rows=[str(patching.components[i]) for i in rows], places=places, reach=reach)


def patched_halves(patching: ActivationPatching, *, reach: float) -> Spec:
    """Recovery by head (row): whole, its pattern alone (QK), its values alone (OV), each at all positions."""
    rows, heads = strongest_rows(patching, heads=True), patching.heads
    whole = patching.at_all[[patching.components.index(heads[i]) for i in rows]]
    effects = np.stack([whole, patching.qk[rows], patching.ov[rows]], axis=1)
    places = ["whole head", "QK: its pattern", "OV: its values"]
    spec = _recoveries(patching, effects, rows=[str(heads[i]) for i in rows], places=places, reach=reach)
    spec["layout"]["meta"]["width"] = 460
    spec["layout"]["xaxis"]["tickangle"] = 0
    return spec


def contributions(found: StreamContributions, *, view: str, reach: float) -> Spec:
    """What attention and MLP of each layer (rows, from the first) add at each position (columns): `view` is logits, or
    size."""
    attention, mlp = getattr(found, view)
    rows = [r for i in range(len(found.layers)) for r in (attention[i], mlp[i])]
    names = [name for layer in found.layers for name in (f"attn {layer}", f"MLP{layer}")]
    if view == "logits":
        rows, names = [found.start, *rows], ["embedding", *names]
    unit = "%{z:.3f} logits" if view == "logits" else "%{z:.3f} of the stream’s length"
    spec = _heatmap(np.stack(rows), rows=names, places=place_names(found.positions), hover=unit)
    _colour(spec, reach, title="logits" if view == "logits" else "share of length", is_diverging=view == "logits")
    return spec


def plane(found: MlpPlane) -> Spec:
    """Mean outputs of two MLPs at each position in two dimensions; both in one plane, or each in its own."""
    both = (found.teacher_points, found.student_points)
    names = place_names(found.positions)
    unit = "unit of the residual stream"
    meta = {"axes": [f"axis 2 ({unit})", f"axis 1 ({unit})"], "columns": ["token"]}
    layout = base_layout(height=480, meta=meta) | {"showlegend": True}
    if found.is_shared:
        layout |= _plane_axes(np.concatenate(both), found.explained[0], number="")
        where = _places(np.concatenate(both), [*names, *names], share=1.0)
        data = [_links(both)]
        for i, side in enumerate(SIDES):
            data.append(_labelled(both[i], names, side=side, where=where[i * len(names) : (i + 1) * len(names)]))
        return {"data": data, "layout": layout}
    data = []
    for i, side in enumerate(SIDES):
        number = "2" if i else ""
        layout |= _plane_axes(both[i], found.explained[i], number=number)
        layout[f"xaxis{number}"]["domain"] = [(0.0, 0.46), (0.54, 1.0)][i]
        trace = _labelled(both[i], names, side=side, where=_places(both[i], names, share=0.46))
        data.append(trace | {"xaxis": f"x{number}", "yaxis": f"y{number}"})
    return {"data": data, "layout": layout}


def robustness(found: Brittleness) -> Spec:
    """What is retained after ablating the most influential components one after the other, of both models."""
    data = []
    for side, model in zip(SIDES, (found.teacher, found.student), strict=True):
        gone = ["", *map(str, model.order)]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": list(range(len(model.retained))),
                "y": significant(model.retained),
                "customdata": gone,
                "name": side.capitalize(),
                "meta": {"role": side},
                "cliponaxis": False,
                "marker": {"size": 7, "symbol": "circle" if side == "teacher" else "circle-open"},
                "hovertemplate": f"%{{x}} ablated, last %{{customdata}}<br>%{{y:.1f}} % left<extra>{side}</extra>",
            }
        )
    layout = base_layout(height=340, meta={"columns": ["ablated last"]}) | {
        "xaxis": _axis("components ablated, most influential first", rangemode="tozero"),
        "yaxis": _axis("logit difference left, %", rangemode="tozero", showgrid=True),
        "showlegend": True,
    }
    return {"data": data, "layout": layout}


def _reach(sides: Any) -> float:
    """The largest recovery of both models, for one colour range."""
    patched = [s.patching for s in sides if isinstance(s, ModelRoles) and s.patching is not None]
    values = [p.recovery(x) for p in patched for x in (p.effects, p.at_all, p.qk, p.ov)]
    finite = [float(np.abs(v[np.isfinite(v)]).max(initial=0.0)) for v in values]
    return min(max(finite, default=1.0) or 1.0, 1.0)


def _recoveries(
    patching: ActivationPatching, effects: Floats, *, rows: list[str], places: list[str], reach: float
) -> Spec:
    hover = "recovery %{z:.3f}<br>effect %{customdata[1]:.3f} logits"
    spec = _heatmap(patching.recovery(effects), rows=rows, places=places, hover=hover)
    for row, values in zip(spec["data"][0]["customdata"], significant(effects), strict=True):
        for cell, value in zip(row, values, strict=True):
            cell.append(value)
    spec["layout"]["meta"]["columns"].append("effect, logits")
    _colour(spec, reach, title="recovery", is_diverging=True)
    return spec


def _heatmap(values: Floats, *, rows: list[str], places: Sequence[str], hover: str) -> Spec:
    """Values [row, place] with the first row on top. Places are numbered, as their names may repeat."""
    texts = [_escaped(name) for name in places]
    cell = 21 if len(rows) <= 24 else 14
    step = max(1, round(len(places) / 32))
    ticks = [i for i in range(len(places)) if i % step == 0 or i == len(places) - 1]
    trace = {
        "type": "heatmap",
        "x": list(range(len(places))),
        "y": rows,
        "z": significant(values),
        "customdata": [[[text] for text in texts] for _ in rows],
        "coloraxis": "coloraxis",
        "hoverongaps": False,
        "xgap": 1,
        "ygap": 1,
        "hovertemplate": f"<b>%{{y}}</b> at %{{customdata[0]}}<br>{hover}<extra></extra>",
    }
    meta = {"axes": ["component", "position"], "columns": ["token"]}
    layout = base_layout(height=104 + cell * len(rows), meta=meta) | {
        "xaxis": _axis("", tickvals=ticks, ticktext=[texts[i] for i in ticks], tickangle=-45, showgrid=False),
        "yaxis": _axis("", **_row_axis(rows), range=[len(rows) - 0.5, -0.5], showgrid=False),
        "showlegend": False,
    }
    layout["margin"] = layout["margin"] | {"l": 70, "b": 66}
    return {"data": [trace], "layout": layout}


def _row_axis(rows: list[str]) -> dict[str, Any]:
    """Every name where there is room for it."""
    return {
        "type": "category",
        "tickvals": rows,
        "ticktext": rows,
        "tickfont": {"size": 11 if len(rows) <= ROWS else 8},
    }


def _colour(spec: Spec, reach: float, *, title: str, is_diverging: bool) -> None:
    bar = {"title": {"text": title, "side": "right"}, "thickness": 10, "outlinewidth": 0, "nticks": 5}
    low = -reach if is_diverging else 0.0
    spec["layout"]["coloraxis"] = {"cmin": significant(low), "cmax": significant(reach), "colorbar": bar}
    spec["layout"]["meta"]["diverging"] = is_diverging


def _links(points: tuple[Floats, Floats]) -> dict[str, Any]:
    """A line between the two places of each position."""
    ends = np.stack([*points, np.full_like(points[0], np.nan)], axis=1).reshape(-1, 2)
    line: dict[str, Any] = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False}
    return line | {
        "x": significant(ends[:, 0]),
        "y": significant(ends[:, 1]),
        "meta": {"role": "null"},
        "line": {"width": 1},
    }


def _ends(points: Floats) -> tuple[Floats, Floats]:
    """Lower and upper ends [2] of the axes around points [point, 2], with room for names."""
    low, high = points.min(axis=0), points.max(axis=0)
    room = np.maximum(high - low, 1e-9) * np.array([0.08, 0.1])
    return low - room, high + room


def _plane_axes(points: Floats, explained: Floats, *, number: str) -> dict[str, Any]:
    """Both axes of a plane around these points."""
    low, high = _ends(points)
    axes = {}
    for k, axis in enumerate(("x", "y")):
        title = f"axis {k + 1}: {fixed(100 * float(explained[k]), 0)} % of the variance"
        axes[f"{axis}axis{number}"] = _axis(title, showgrid=True, range=significant([float(low[k]), float(high[k])]))
    axes[f"yaxis{number}"]["anchor"] = f"x{number}"
    return axes


def _places(points: Floats, names: Sequence[str], *, share: float) -> list[str]:
    """Where each name is written, in a plane that has this share of the figure's width."""
    low, high = _ends(points)
    return place_labels((points - low) / (high - low) * (share * PLANE[0], PLANE[1]), names)


def _labelled(points: Floats, names: Sequence[str], *, side: str, where: Sequence[str]) -> dict[str, Any]:
    """Points with those of their names that have a place."""
    texts = [_escaped(name) for name in names]
    return {
        "type": "scatter",
        "mode": "markers+text",
        "x": significant(points[:, 0]),
        "y": significant(points[:, 1]),
        "text": [text if place else "" for text, place in zip(texts, where, strict=True)],
        "customdata": texts,
        "textposition": [place or "middle right" for place in where],
        "textfont": {"size": 11},
        "name": side.capitalize(),
        "meta": {"role": side},
        "marker": {
            "size": 8,
            "symbol": "circle" if side == "teacher" else "circle-open",
            "line": {"width": 2 * (side != "teacher")},
        },
        "hovertemplate": f"%{{customdata}}<br>%{{x:.3f}}, %{{y:.3f}}<extra>{side}</extra>",
    }


def _axis(title: str, **more: Any) -> dict[str, Any]:
    return {"title": {"text": title, "standoff": 8}, "ticks": "", "zeroline": False, "fixedrange": True} | more


def _escaped(text: str) -> str:
    """Text that plotly shows as it is."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
