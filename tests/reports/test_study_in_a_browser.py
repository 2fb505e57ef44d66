"""The page of a study in headless Chromium: no errors, links that lead somewhere, with and without comparisons."""

from __future__ import annotations

import re

import pytest

from circuitkd.reports.study_page import write_study
from synthetic_study import TEXT, finished_run

pytestmark = pytest.mark.browser


def test_links_lead_to_tables_and_pages(opened, tmp_path):
    tab = opened(write_study(finished_run(), tmp_path))
    for link in tab.locator(".study nav a").all():
        address = link.get_attribute("href")
        found = tab.locator(address).count() if address.startswith("#") else (tmp_path / address).is_file()
        assert found, address
    files = tab.locator(".study .note a").evaluate_all("links => links.map(a => a.getAttribute('href'))")
    assert len(files) == 3 * 11 and all((tmp_path / name).is_file() for name in files)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.get_by_role("link", name="Distillation: one, belief_tracking").click()
    assert "Circuit distillation" in tab.locator(".eyebrow").text_content()


def test_a_study_without_comparisons(opened, tmp_path):
    kept = [line for line in TEXT.split("printed")[0].splitlines() if not re.search("compare|circuits|roles", line)]
    tab = opened(write_study(finished_run("\n".join(kept)), tmp_path))
    assert tab.locator("#study-noise svg circle").count() == 3
    tab.locator("#theme").click()
    assert tab.locator("html").get_attribute("data-theme") == "dark"
