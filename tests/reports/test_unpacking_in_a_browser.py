"""What a page unpacks: only its own scripts run, and readers whose browser cannot unpack it are told and keep the tables."""

from __future__ import annotations

import re

import pytest

from circuitkd.reports import page

pytestmark = pytest.mark.browser
NOTE = "Figures, sorting and selecting need JavaScript"
LOST = "delete window.DecompressionStream"


@pytest.fixture(scope="module")
def path(comparison, tmp_path_factory):
    return page.write([comparison, comparison], tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture
def poor(browser):
    """Opens a page in a browser that lacks something; complaints are not looked at."""
    contexts = []

    def go(path, *, script="", **options):
        context = browser.new_context(**options)
        contexts.append(context)
        context.add_init_script(script)
        tab = context.new_page()
        tab.goto(path.as_uri())
        return tab

    yield go
    for context in contexts:
        context.close()


def test_figures_are_unpacked_and_nothing_is_missing(opened, path):
    tab = opened(path)
    assert tab.locator(".undrawn-note").is_hidden()
    assert tab.evaluate("typeof Plotly.react") == "function"
    assert tab.locator("script").count() == 4  # the one that was run is gone: a saved copy of the page is a page
    assert tab.locator("iframe").count() == 0


def test_a_page_that_is_printed_as_soon_as_it_is_loaded_has_its_figures(opened, path):
    tab = opened(path)
    tab.pdf()
    assert tab.locator(".plot:visible").count() == tab.locator(".plot:visible:has(.main-svg)").count() == 4


def test_no_other_script_may_run(poor, path):
    tab = poor(path)
    complaints = []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.evaluate("run('window.hacked = 1')")
    assert tab.evaluate("window.hacked === undefined")
    assert "Content Security Policy" in " ".join(complaints)


@pytest.mark.parametrize("lacking", [{"java_script_enabled": False}, {"script": LOST}], ids=["scripts", "unpacking"])
def test_a_poor_browser_shows_tables_and_says_what_it_lacks(poor, path, comparison, lacking):
    tab = poor(path, **lacking)
    assert tab.locator(".undrawn-note").inner_text().startswith(NOTE)
    assert f"{comparison.alignment.score:.3f}" in tab.locator("#c0 .role-score .num").inner_text()
    assert tab.locator("#c0 .pairs tbody tr:visible").count() == len(comparison.alignment.pairs)
    shown = tab.locator("#c0 [data-figure=drops]").bounding_box()
    assert 0 < shown["height"] < 60  # a line of text, no empty figure


def test_a_page_that_was_cut_short_says_so(poor, path, tmp_path):
    cut = re.sub(r'(id="data">.{200}).*?<', r"\1<", path.read_text("utf-8"))
    (tmp_path / "cut.html").write_text(cut, "utf-8")
    tab = poor(tmp_path / "cut.html")
    tab.locator(".undrawn-note").wait_for()
    assert tab.locator("#c1").is_hidden()
