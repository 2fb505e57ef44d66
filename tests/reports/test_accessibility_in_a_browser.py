"""axe-core on every kind of page, in both themes: nothing serious or critical. Names, headings and print beside it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from circuitkd.reports import circuit_page, experiment_page, page
from synthetic_circuit import circuits_of, random_findings
from synthetic_comparison import synthetic
from synthetic_experiment import plain
from synthetic_roles import roles_of

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
pytestmark = pytest.mark.browser
KINDS = ("comparison", "roles", "students", "tasks", "circuit", "circuits", "experiment")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("pages")
    one = synthetic()
    page.write([one], place / "comparison.html")
    page.write([one], place / "roles.html", roles=[roles_of(one)], circuits=[circuits_of(one)])
    page.write([one, replace(one, student=replace(one.student, name="other"))], place / "students.html")
    page.write([one, synthetic("months-sequence", seed=2)], place / "tasks.html")
    circuit_page.write([random_findings()], place / "circuit.html")
    circuit_page.write([random_findings(), random_findings()], place / "circuits.html")
    experiment_page.write(plain(), place / "experiment.html", before=one, after=one)
    return place


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_for_everybody(opened, folder, kind):
    tab = opened(folder / f"{kind}.html")
    headings_descend_one_level_at_a_time(tab)
    names_lead_to_definitions(tab)
    nothing_serious(tab)
    tab.get_by_role("button", name="Dark").click()
    nothing_serious(tab)
    print_cuts_nothing_off(tab)


def nothing_serious(tab):
    tab.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    found = axe.Axe().run(tab).response["violations"]
    tab.evaluate("for (const details of document.querySelectorAll('details')) details.open = false")
    worst = [(v["id"], [n["target"] for n in v["nodes"]]) for v in found if v["impact"] in ("serious", "critical")]
    assert worst == []


def headings_descend_one_level_at_a_time(tab):
    levels = tab.locator("h1, h2, h3, h4").evaluate_all(
        "all => all.filter(h => !h.closest('[hidden]')).map(h => Number(h.tagName[1]))"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert [(a, b) for a, b in pairwise(levels) if b > a + 1] == []


def names_lead_to_definitions(tab):
    links = tab.locator("a.term:visible, a.define:visible")
    lost = "all => all.map(a => a.hash).filter(h => !document.querySelector(`[id='${h.slice(1)}'] dt`))"
    assert links.count() > 3 and links.evaluate_all(lost) == []
    links.first.click()
    assert "-term-" in tab.url
    assert tab.locator(":target dt").is_visible()


def print_cuts_nothing_off(tab):
    tab.set_viewport_size({"width": 703, "height": 1000})  # A4 between margins of 12 mm
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("details:not([open])").count() == 0
    assert tab.locator("dl.terms:visible").count() >= 1
    cut = """all => all.filter(e => e.offsetParent && e.getBoundingClientRect().right > innerWidth + 1)
      .map(e => `${e.tagName}.${e.className} ${e.getBoundingClientRect().right}`)"""
    assert tab.locator("table, figure, .plot > *, svg.diagram").evaluate_all(cut) == []
    assert tab.locator(".plot:visible").count() == tab.locator(".plot:visible:has(.main-svg)").count()


def test_columns_of_students_lead_to_their_comparisons(opened, folder):
    tab = opened(folder / "students.html")
    tab.get_by_role("link", name="other").click()
    assert tab.locator(".comparison:visible").get_attribute("id") == "c1"
    assert tab.locator(".beside-table [aria-current]").get_attribute("data-open") == "1"
    tab.locator(".beside-table a.term", has_text="Alignment A").click()
    assert tab.url.endswith("#c1-term-alignment")


def test_the_overview_of_students_fits_one_screen(opened, folder):
    tab = opened(folder / "students.html")
    tab.set_viewport_size({"width": 1400, "height": 900})
    box = tab.locator(".sides table").bounding_box()
    assert box["y"] + box["height"] <= 900 and box["x"] + box["width"] <= 1400
