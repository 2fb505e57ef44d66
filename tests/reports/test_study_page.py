"""The files of a study, and its page: escaped, linked, and without comparisons too."""

from __future__ import annotations

import re

import pytest

from circuitkd.reports import study_page
from circuitkd.reports.study_page import write_study
from synthetic_study import TEXT, finished_run


@pytest.fixture(autouse=True)
def without_plotly(monkeypatch):
    monkeypatch.setattr("circuitkd.reports.page.plotly_js", lambda: "")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("circuitkd.reports.page.plotly_js", lambda: "")
        path = write_study(finished_run(failing=("one/ioi/noise",)), folder)
    return folder, path.read_text(encoding="utf-8")


def test_tables_lie_beside_the_page(written):
    folder, text = written
    names = {path.name for path in (folder / "tables").iterdir()}
    assert {"paper-table-1.md", "paper-table-1.csv", "paper-table-1.tex", "distillation.md"} <= names
    assert len(names) % 3 == 0
    for name in names:
        assert f'href="tables/{name}"' in text


def test_the_page_has_all(written):
    folder, text = written
    assert "<title>Made up &amp; &lt;small&gt;</title>" in text and "<small>" not in re.findall(r"<h1.*?</h1>", text)[0]
    assert '<a href="#table-paper-table-1">Paper Table 1: ours beside the paper&#39;s</a>' in text
    assert '<a href="one/belief_tracking/distill/report.html">' in text
    assert "big/teacher" not in text  # a distillation is on its own page
    assert (folder / "one" / "belief_tracking" / "distill" / "report.html").read_text().count("untrained")
    assert "one/ioi/noise: the model is gated" in text and 'id="study-noise"' not in text
    for part in ("c0-circuits", "c0-roles"):
        assert f'id="{part}"' in text


def test_a_study_without_comparisons(tmp_path):
    text = "\n".join(
        line for line in TEXT.split("printed")[0].splitlines() if not re.search("compare|circuits|roles", line)
    )
    page = write_study(finished_run(text), tmp_path).read_text(encoding="utf-8")
    assert 'id="study-noise"' in page and "c0-" not in page and "#all-title" not in page


def test_tables_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "tables").write_text("")
    with pytest.raises(ValueError, match="cannot write .*tables"):
        write_study(finished_run(), tmp_path)
    assert study_page.TABLES == "tables"
