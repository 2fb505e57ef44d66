"""Circuits in headless Chromium: what lights up under the pointer, themes, narrow windows, the SVG by itself."""

from __future__ import annotations

import pytest

from circuitkd.reports import circuit_page, page
from synthetic_circuit import circuits_of, random_circuit, shape_of
from synthetic_comparison import synthetic

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("circuits")


@pytest.fixture(scope="module")
def path(findings, folder):
    return circuit_page.write([findings], folder / "circuit.html")


def opacity(tab, selector):
    return float(tab.locator(selector).first.evaluate("e => getComputedStyle(e).opacity"))


def test_pointing_at_a_box_shows_its_wires_alone(opened, path, findings):
    tab = opened(path)
    edge = findings.circuit.edges[0]
    name = str(edge.receiver)
    tab.locator(f".node[data-name={name}]").hover()
    lit = tab.locator(".diagram .wires .wire.on")
    ends = lit.evaluate_all("wires => wires.map(w => [w.dataset.from, w.dataset.to])")
    expected = sorted(
        [str(e.sender), str(e.receiver)] for e in findings.circuit.edges if name in (str(e.sender), str(e.receiver))
    )
    assert sorted(ends) == expected
    assert opacity(tab, ".wires .wire:not(.on) path:not(.reach)") < 0.2
    tab.mouse.move(2, 2)
    assert lit.count() == 0
    assert opacity(tab, ".wires .wire path:not(.reach)") > 0.5


def test_dark_mode_recolours_the_diagram(opened, path):
    tab = opened(path)
    colour = (
        "e => getComputedStyle(e.querySelector('.back')).fill + getComputedStyle(e.querySelector('.wire path')).stroke"
    )
    light = tab.locator(".diagram").evaluate(colour)
    tab.get_by_role("button", name="Dark").click()
    assert tab.locator(".diagram").evaluate(colour) != light


def test_no_width_makes_the_page_scroll_sideways(opened, findings, folder):
    wide = circuit_page.CircuitFindings(random_circuit(shape_of(layers=12, heads=12), share=0.2, edges=0.1))
    tab = opened(circuit_page.write([findings, wide], folder / "two.html"))
    for width in (1600, 768, 360):
        tab.set_viewport_size({"width": width, "height": 900})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_labels_lie_inside_their_boxes_and_the_drawing(opened, path):
    tab = opened(path)
    outside = """d => {
      const all = d.getBoundingClientRect(), found = [];
      for (const g of d.querySelectorAll('.node')) {
        const box = g.querySelector('.back').getBoundingClientRect();
        for (const t of g.querySelectorAll('text')) {
          const r = t.getBoundingClientRect();
          const beside = r.left < box.left || r.right > box.right;
          if (beside || r.top < box.top - 1 || r.bottom > box.bottom + 2) found.push(t.textContent);
        }
      }
      for (const t of d.querySelectorAll('text')) {
        const r = t.getBoundingClientRect();
        if (r.left < all.left || r.right > all.right || r.bottom > all.bottom) found.push(t.textContent);
      }
      return found;
    }"""
    assert tab.locator(".diagram").evaluate(outside) == []


def test_pointing_at_the_teachers_box_lights_its_match(opened, folder):
    comparison = synthetic()
    found = circuits_of(comparison)
    node = next(n for n in found.overlap.nodes if n.found)
    tab = opened(page.write([comparison], folder / "report.html", circuits=[found]), "#c0-circuits")
    teacher, student = tab.locator("#c0-circuits .diagram.teacher"), tab.locator("#c0-circuits .diagram.student")
    teacher.locator(f".node[data-name={node.teacher}]").hover()
    assert student.locator(f".node.on[data-name={node.student}]").count() == 1
    assert "focus" in student.get_attribute("class")
    student.locator(f".node[data-name={node.student}]").hover()
    assert teacher.locator(f".node.on[data-name={node.teacher}]").count() == 1


def test_the_svg_opens_by_itself(opened, findings, folder):
    tab = opened(circuit_page.write_svg(findings.circuit, folder / "circuit.svg"))
    assert tab.locator(".node").count() == len(findings.circuit.components) + 2
    fill = "e => getComputedStyle(e).fill"
    assert tab.locator(".ground").evaluate(fill) == "rgb(255, 255, 255)"
    tab.emulate_media(color_scheme="dark")
    assert tab.locator(".ground").evaluate(fill) == "rgb(22, 25, 29)"
