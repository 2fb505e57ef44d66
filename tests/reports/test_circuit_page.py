"""The page of circuits holds their numbers, refers to nothing outside, and its SVG is a document of its own."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from xml.etree import ElementTree

import pytest

from circuitkd.circuit_analysis import CircuitFindings
from circuitkd.components import Component
from circuitkd.reports import circuit_page
from report_pages import HOSTILE
from synthetic_circuit import random_circuit, random_findings, shape_of

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def html(findings):
    return circuit_page.render([findings])


def test_the_page_has_the_numbers(html, findings):
    c = findings.circuit
    assert "<title>tiny-teacher: circuit for ioi</title>" in html
    assert f"{len(c.components)} of 20 components and {len(c.edges)} of" in html
    for expected in ("0.91 [0.89, 0.93]", "0.950 [0.930, 0.970]", "value fetchers", "The best edges"):
        assert expected in html
    for component in c.components:
        assert f'data-name="{component}"' in html
    assert len(re.findall(r'<g class="wire [a-z]+" data-from', html)) == len(c.edges)
    assert f"{len(c.edges)} edges, all drawn" in html
    assert html.count('class="panel"') == 6


def test_parts_that_were_not_asked_for_are_not_there(findings):
    html = circuit_page.render([CircuitFindings(findings.circuit)])
    for part in ("thresholds", "curves", "groups"):
        assert f"c0-{part}" not in html


def test_nodes_alone_and_forced_circuits(findings):
    forced = replace(findings.circuit, edges=(), edge_scores=(), edge_evaluation=None, warnings=("it was forced",))
    html = circuit_page.render([CircuitFindings(forced)])
    assert "edges were not looked for" in html
    assert "<li>it was forced</li>" in html
    assert "Read with care" not in circuit_page.render([findings])


def test_several_circuits_have_an_overview(findings):
    other = random_findings(task="months-sequence", seed=3)
    html = circuit_page.render([findings, other])
    assert "<title>tiny-teacher: circuits for 2 tasks</title>" in html
    assert '<a href="#c1">months-sequence</a>' in html
    assert '<section class="comparison circuits" id="c1"' in html
    assert "<title>2 models: circuits for ioi</title>" in circuit_page.render(
        [findings, replace(findings, circuit=random_circuit(shape_of("other")))]
    )


def test_hostile_text_is_text(findings):
    c = findings.circuit
    named = replace(
        c, model=replace(c.model, name=HOSTILE), task=HOSTILE, warnings=(HOSTILE,), manifest={HOSTILE: HOSTILE}
    )
    html = circuit_page.render([replace(findings, circuit=named)], title=HOSTILE)
    assert "<script>hacked" not in html
    assert "<img" not in html
    root = ElementTree.fromstring(circuit_page.svg(named))
    assert root.attrib["aria-label"] == f"Circuit of {HOSTILE} on {HOSTILE}"
    assert root.findall(f".//{SVG}script") == []


def test_it_refers_to_nothing_outside(html):
    assert "default-src 'none'; script-src 'sha256-" in unescape(html)
    assert re.findall(r"\b(?:src|href)=\"(?!#)", html) == []
    assert "url(" not in html


def test_the_svg_stands_alone(findings, tmp_path):
    path = circuit_page.write_svg(findings.circuit, tmp_path / "new" / "circuit.svg")
    root = ElementTree.fromstring(path.read_text("utf-8"))
    assert root.tag == f"{SVG}svg"
    assert "prefers-color-scheme: dark" in root.find(f"{SVG}style").text
    names = {g.attrib["data-name"] for g in root.iter(f"{SVG}g") if "data-name" in g.attrib}
    assert names >= {"embed", "logits", *map(str, findings.circuit.components)}
    titles = [t.text for t in root.iter(f"{SVG}title")]
    assert sum("logits (" in t for t in titles) == len(findings.circuit.edges)
    assert "the strongest 60 of" in circuit_page.svg(random_circuit(shape_of(layers=12), share=0.8, edges=0.5))


def test_only_a_few_of_many_edges_are_said_to_be_drawn():
    made = random_circuit(shape_of(layers=2, heads=1))
    one = replace(made, edges=made.edges[:1], edge_scores=made.edge_scores[:1])
    assert "1 edge, all drawn" in circuit_page.svg(one)


def test_nothing_to_draw_and_no_place(findings, tmp_path):
    with pytest.raises(ValueError, match="no circuit to draw: pass at least one"):
        circuit_page.render([])
    bare = replace(findings.circuit, evaluation=None, components=(Component("mlp", 0),), edges=(), edge_scores=())
    with pytest.raises(ValueError, match="imported and never evaluated"):
        circuit_page.render([CircuitFindings(bare)])
    assert circuit_page.write([findings], tmp_path / "page.html").read_text("utf-8") == circuit_page.render([findings])
