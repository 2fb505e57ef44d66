"""The page of circuits, and a circuit's diagram as an SVG file that stands alone.

The page has no script but what lights up wires under the pointer: everything can be read and printed without.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from circuitkd.circuit_analysis import CircuitFindings
from circuitkd.circuits.circuit import Circuit, write_text
from circuitkd.reports import charts, circuit_tables, diagram, strips
from circuitkd.reports.rendering import render_page, source, templates, write_page
from circuitkd.reports.wording import short_names


def write(findings: Sequence[CircuitFindings], path: str | Path, *, title: str | None = None) -> Path:
    """Write the page of these circuits, whole or not at all.

    Raises ValueError for none, for circuits that were never evaluated, and where the file cannot be written.
    """
    return write_page(path, render(findings, title=title))


def render(findings: Sequence[CircuitFindings], *, title: str | None = None) -> str:
    """The page of one or more circuits as HTML. Raises ValueError for none and for circuits without an evaluation."""
    if not findings:
        raise ValueError("no circuit to draw: pass at least one")
    circuits = [f.circuit for f in findings]
    return render_page(
        "circuit_page.html.j2",
        scripts={"page": source("circuits.js") + source("save.js") + source("toggle.js") + "themeButton(() => {});\n"},
        title=title or _title(circuits),
        findings=findings,
        rows=circuit_tables.circuit_rows(circuits),
        tables=circuit_tables,
        diagrams=diagram,
        charts=charts,
        strips=strips,
    )


def svg(circuit: Circuit) -> str:
    """The diagram as SVG with its own style, light or dark as the reader's system."""
    style = Markup(source("diagram.css") + source("standalone.css"))
    drawn = diagram.diagram(circuit)
    return templates().get_template("diagram.svg.j2").render(d=drawn, role="teacher", style=style, matches={})


def write_svg(circuit: Circuit, path: str | Path) -> Path:
    """Write the diagram as a file of its own. Raises ValueError where it cannot be written."""
    return write_text(path, svg(circuit))


def _title(circuits: Sequence[Circuit]) -> str:
    models = list(dict.fromkeys(c.model.name for c in circuits))
    tasks = list(dict.fromkeys(c.task for c in circuits))
    model = short_names(*models)[0] if len(models) == 1 else f"{len(models)} models"
    return f"{model}: circuit{'s' if len(circuits) > 1 else ''} for {tasks[0] if len(tasks) == 1 else f'{len(tasks)} tasks'}"
