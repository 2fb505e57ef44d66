"""Plotly figures of a comparison, as specifications for `Plotly.newPlot`: {"data", "layout"} of plain JSON values.

Only layout is decided here. Colours are left to the page, which has a light and a dark theme: traces that belong
to a model say so in `meta`, sequential colours come from the layout's `coloraxis`. Matrices are packed (see
`packing`) and `layout.meta` holds what the page needs to mark a component in the figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs

from circuitkd.comparison.result import Comparison
from circuitkd.comparison.robustness import drops
from circuitkd.components import Component
from circuitkd.interventions.sweep_result import SweepResult
from circuitkd.reports.packing import packed_matrix, significant

Spec = dict[str, Any]
BIN = 5.0  # percent points
_ALL_NAMES = 24  # above it an axis names layers only


@cache
def plotly_js() -> str:
    """The source of plotly.js that the installed package ships."""
    return str(get_plotlyjs())


def comparison_figures(comparison: Comparison) -> dict[str, Any]:
    """All figures of a comparison by name; "similarity" is a list with one figure for each measure."""
    cell = int(np.clip(400 / max(comparison.teacher.n_layers, comparison.student.n_layers), 12, 30))
    return {
        "influence-teacher": influence(comparison.teacher_sweep, cell=cell),
        "influence-student": influence(comparison.student_sweep, cell=cell),
        "drops": ablation_drops(comparison),
        "similarity": similarities(comparison),
    }


def influence(sweep: SweepResult, *, cell: int = 30) -> Spec:
    """Influence (DC Eq. 5, by the maximum) as a heatmap layer x head, with the MLPs as a column of their own.

    `cell`: height of a row in pixels, the same for models that are to be compared.
    """
    layers = 1 + max(c.layer or 0 for c in sweep.components)
    heads = 1 + max((c.head or 0 for c in sweep.components if c.kind == "head"), default=-1)
    grid = np.full((layers, heads + 2, 3), np.nan)  # the last but one column stays empty: a gap before the MLPs
    names = np.full((layers, heads + 2), "", dtype=object)
    values = np.stack([sweep.influence(), sweep.drops, sweep.retained_percent], axis=1)
    for component, value in zip(sweep.components, values, strict=True):
        row, column = _cell(component, heads)
        grid[row, column], names[row, column] = value, str(component)
    figure = go.Figure(
        go.Heatmap(
            z=significant(grid[..., 0]),
            customdata=significant(grid[..., 1:]),
            text=names.tolist(),
            coloraxis="coloraxis",
            hoverongaps=False,
            xgap=1.5,
            ygap=1.5,
            hovertemplate=(
                "<b>%{text}</b><br>influence %{z:.3f}<br>mean effect %{customdata[0]:.3f} logits"
                "<br>retained %{customdata[1]:.1f} %<extra></extra>"
            ),
        )
    )
    step = max(1, heads // 12)
    ticks = [*range(0, heads, step), heads + 1]
    figure.update_xaxes(tickvals=ticks, ticktext=[*map(str, ticks[:-1]), "MLP"], title="head")
    figure.update_yaxes(autorange="reversed", title="layer", dtick=max(1, round(24 / cell)))
    return _spec(
        figure,
        height=92 + layers * cell,
        colour_title="influence",
        meta={"heads": heads, "columns": ["mean effect (logits)", "retained (%)"]},
    )


def similarities(comparison: Comparison) -> list[dict[str, Any]]:
    """One {"kind", "measure", "used", "figure"} for each similarity matrix, those that the matching used first."""
    s = comparison.similarity
    components = comparison.teacher_sweep.components, comparison.student_sweep.components
    listed = [("head", s.head_measure, s.head, True), ("mlp", s.mlp_measure, s.mlp, True)]
    used = {"head": s.head, "mlp": s.mlp}
    for name, values in s.others.items():
        kind = _kind_of(name, values, s.head.shape)
        if not np.array_equal(values, used[kind]):
            listed.append((kind, name, values, False))
    made = []
    for kind, measure, values, is_used in listed:
        names = [[str(c) for c in side if c.kind == kind] for side in components]
        if values.size and values.shape == (len(names[0]), len(names[1])):
            matched = [(str(p.teacher), str(p.student)) for p in comparison.alignment.pairs if p.teacher.kind == kind]
            figure = similarity(values, names, matched=matched)
            made.append({"kind": kind, "measure": measure, "used": is_used, "figure": figure})
    return made


def similarity(values: NDArray[np.float64], names: Sequence[list[str]], *, matched: Sequence[tuple[str, str]]) -> Spec:
    """Similarity [teacher, student] as a heatmap; `names` = those of the teacher's and of the student's
    components, `matched` cells are marked."""
    rows, columns = names
    size = float(np.clip(min(560 / len(rows), 900 / len(columns)) * 0.5, 6, 10))
    figure = go.Figure(
        [
            go.Heatmap(
                x=columns,
                y=rows,
                coloraxis="coloraxis",
                hovertemplate="%{y} and %{x}<br>similarity %{z:.3f}<extra></extra>",
            ),
            go.Scatter(
                x=[s for _, s in matched],
                y=[t for t, _ in matched],
                mode="markers",
                marker={"size": size, "symbol": "circle"},
                hoverinfo="skip",
                meta={"role": "matched"},
            ),
        ]
    )
    figure.update_xaxes(title="student", **_names_axis(columns), range=[-0.5, len(columns) - 0.5])
    figure.update_yaxes(title="teacher", **_names_axis(rows), range=[len(rows) - 0.5, -0.5])
    for edge in _layer_edges(columns):
        figure.add_vline(edge, line_width=1.5)
    for edge in _layer_edges(rows):
        figure.add_hline(edge, line_width=1.5)
    height = 92 + int(np.clip(len(rows) * 30, 150, 640))
    meta = {"width": int(np.clip(170 + len(columns) * 46, 380, 1160)), "zoom": len(rows) > _ALL_NAMES}
    figure.update_layout(uirevision=rows[0])  # the reader's zoom outlives a redraw of the same type
    spec = _spec(figure, height=height, colour_title="similarity", meta=meta)
    spec["data"][0]["z"] = packed_matrix(values)
    return spec


def ablation_drops(comparison: Comparison) -> Spec:
    """Shares of the components by their drop under ablation, in bins of five points, of both models."""
    edges = np.arange(0, 100 + BIN, BIN)
    labels = [f"{low:.0f} to {high:.0f}" for low, high in pairwise(edges)]
    figure = go.Figure()
    for role, sweep in (("teacher", comparison.teacher_sweep), ("student", comparison.student_sweep)):
        counts, _ = np.histogram(drops(sweep.retained_percent), bins=edges)
        figure.add_bar(
            x=significant(edges[:-1] + BIN / 2),
            y=significant(100 * counts / counts.sum()),
            customdata=[[label, int(n), int(counts.sum())] for label, n in zip(labels, counts, strict=True)],
            name=role.capitalize(),
            meta={"role": role},
            hovertemplate=(
                "drop of %{customdata[0]} %<br>%{customdata[1]} of %{customdata[2]} components (%{y:.1f} %)<extra>"
                + role
                + "</extra>"
            ),
        )
    figure.update_xaxes(title="drop when one component is ablated, %", dtick=10, range=[0, 100])
    figure.update_yaxes(title="share of components, %", rangemode="tozero", showgrid=True)
    figure.update_layout(barmode="group", bargap=0.14, bargroupgap=0.06, showlegend=True)
    return _spec(figure, height=320, meta={"columns": ["bin (%)", "components in it", "components in all"]})


def base_layout(*, height: int, meta: dict[str, Any]) -> dict[str, Any]:
    """What the layouts of all figures share; `meta` is for the page."""
    return {
        "height": height,
        "margin": {"l": 62, "r": 14, "t": 12, "b": 52},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "dragmode": "zoom" if meta.get("zoom") else False,
        "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom"},
        "meta": meta,
    }


def _spec(figure: go.Figure, *, height: int, meta: dict[str, Any], colour_title: str = "") -> Spec:
    figure.update_layout(template="none", **base_layout(height=height, meta=meta))
    if colour_title:
        bar = {"title": {"text": colour_title, "side": "right"}, "thickness": 10, "outlinewidth": 0, "dtick": 0.25}
        figure.update_layout(coloraxis={"cmin": 0, "cmax": 1, "colorbar": bar}, showlegend=False)
    figure.update_xaxes(ticks="", zeroline=False, title_standoff=8)
    figure.update_yaxes(ticks="", zeroline=False, title_standoff=8)
    figure.for_each_xaxis(lambda axis: axis.update(showgrid=bool(axis.showgrid), fixedrange=not meta.get("zoom")))
    figure.for_each_yaxis(lambda axis: axis.update(showgrid=bool(axis.showgrid), fixedrange=not meta.get("zoom")))
    return dict(figure.to_plotly_json())


def _cell(component: Component, heads: int) -> tuple[int, int]:
    return component.layer or 0, heads + 1 if component.head is None else component.head


def _kind_of(name: str, values: NDArray[np.float64], head_shape: tuple[int, ...]) -> str:
    """What a further measure is about: its name says it, or else its shape."""
    if name.split()[0].lower() in ("head", "heads", "mlp", "mlps"):
        return name.split()[0].lower().rstrip("s")
    return "head" if values.shape == head_shape else "mlp"


def _names_axis(names: list[str]) -> dict[str, Any]:
    """A category axis: every name where there are few, else one label in the middle of each layer."""
    if len(names) <= _ALL_NAMES:
        return {"type": "category", "tickvals": names, "ticktext": names}
    by_layer: dict[int | None, list[str]] = {}
    for name in names:
        by_layer.setdefault(Component.parse(name).layer, []).append(name)
    middles = [inside[len(inside) // 2] for inside in by_layer.values()]
    return {"type": "category", "tickvals": middles, "ticktext": [f"L{layer}" for layer in by_layer]}


def _layer_edges(names: list[str]) -> list[float]:
    """Positions between the heads of one layer and the next; none for MLPs."""
    layers = [Component.parse(name).layer for name in names]
    if len(set(layers)) == len(layers):
        return []
    return [i - 0.5 for i in range(1, len(layers)) if layers[i] != layers[i - 1]]
