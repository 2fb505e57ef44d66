"""Circuits for other programs: CSV for spreadsheets, GraphML for graph programs, and EAP-IG's JSON (see `eap_ig`).

CSV and GraphML are written only. A K/V group of a grouped-query model is a GraphML node of its own, which edges with
the slot "reads" connect with the circuit's heads that read it.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from circuitkd.artifacts import read_json
from circuitkd.circuits.circuit import Circuit, write_text
from circuitkd.circuits.eap_ig import read_eap_ig as read_eap_ig
from circuitkd.circuits.eap_ig import read_eap_ig_scores as read_eap_ig_scores
from circuitkd.circuits.eap_ig import readers
from circuitkd.circuits.eap_ig import write_eap_ig as write_eap_ig
from circuitkd.components import Component
from circuitkd.models.circuit_model import CircuitModel

GRAPHML = "http://graphml.graphdrawing.org/xmlns"
KEYS = (
    ("node", "kind", "string"),
    ("node", "layer", "int"),
    ("node", "head", "int"),
    ("node", "marginal_loss", "double"),
    ("edge", "slot", "string"),
    ("edge", "score", "double"),
)


def read_circuit(path: str | Path, model: CircuitModel) -> Circuit:
    """A circuit of this model from our own file or run folder, or from a file of EAP-IG or MIB, whichever it is.

    Raises ValueError as `Circuit.load` and `read_eap_ig`.
    """
    try:
        record = read_json(path)
    except ValueError:
        record = None  # a folder, or a file whose fault Circuit.load names
    is_eap_ig = isinstance(record, dict) and "cfg" in record
    return read_eap_ig(path, model) if is_eap_ig else Circuit.load(path, model)


def write_csv(circuit: Circuit, path: str | Path) -> Path:
    """Write the edges, one a row: sender, receiver, slot, score. Raises ValueError for a file that cannot be
    written."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["sender", "receiver", "slot", "score"])
    for edge, score in zip(circuit.edges, circuit.edge_scores, strict=True):
        table.writerow([str(edge.sender), str(edge.receiver), edge.slot or "", repr(score)])
    return write_text(path, text.getvalue())


def write_graphml(circuit: Circuit, path: str | Path) -> Path:
    """Write nodes (kind, layer, head, marginal_loss) and edges (slot, score) for graph programs. Raises ValueError for
    a file that cannot be written."""
    losses: dict[Component, float] = {}
    if circuit.evaluation is not None:
        losses = dict(zip(circuit.components, circuit.evaluation.minimality, strict=True))
    root = ElementTree.Element("graphml", xmlns=GRAPHML)
    for where, name, kind in KEYS:
        ElementTree.SubElement(root, "key", {"id": name, "for": where, "attr.name": name, "attr.type": kind})
    graph = ElementTree.SubElement(root, "graph", id=circuit.task or "circuit", edgedefault="directed")
    ends = {c for e in circuit.edges for c in (e.sender, e.receiver)}
    for c in sorted({*circuit.components, *ends}):
        facts = {"kind": c.kind, "layer": c.layer, "head": c.head, "marginal_loss": losses.get(c)}
        _data(ElementTree.SubElement(graph, "node", id=str(c)), facts)
    for edge, score in zip(circuit.edges, circuit.edge_scores, strict=True):
        _data(_arc(graph, edge.sender, edge.receiver), {"slot": edge.slot, "score": score})
    for group in sorted(c for c in ends if c.kind == "kv"):
        for head in circuit.heads:
            if head in readers(group, circuit.model):
                _data(_arc(graph, group, head), {"slot": "reads"})
    ElementTree.indent(root)
    return write_text(
        path, '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
    )


def _arc(graph: ElementTree.Element, source: Component, target: Component) -> ElementTree.Element:
    return ElementTree.SubElement(graph, "edge", source=str(source), target=str(target))


def _data(element: ElementTree.Element, facts: dict[str, Any]) -> None:
    for name, value in facts.items():
        if value is not None:
            ElementTree.SubElement(element, "data", key=name).text = str(value)
