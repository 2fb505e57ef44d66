"""The page of an experiment holds its numbers, shows both states where it has them, and stays closed."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from circuitkd.distill.conditions import Grid
from circuitkd.distill.search import Candidate, SearchResult
from circuitkd.reports import experiment_page
from circuitkd.reports.experiment_wording import headline
from report_pages import HOSTILE
from synthetic_comparison import synthetic
from synthetic_experiment import MAPPED, plain, with_text


@pytest.fixture(scope="module")
def html():
    other = synthetic(seed=7)
    made = experiment_page.render(plain(), before=synthetic(), after=replace(other, teacher=synthetic().teacher))
    return made.replace("\u00a0", " ")


def test_the_table_and_the_headline(html):
    assert headline(plain()) in html
    for row in plain().rows():
        assert row["condition"] in html and row["full"] in html and row["mean drop"] in html
    assert f'<tr class="chosen"><th scope="row">{MAPPED}</th>' in html
    assert "12 345 values outside it" in html and "few rows &lt;for&gt; CKA" in html
    assert "big-teacher → small-student: circuit distillation on belief-tracking" in html
    assert ">hidden<" not in html  # the request is for the machine


def test_both_states_and_what_moved(html):
    assert "Before training" in html and "After training" in html
    assert "What moved most in the student" in html and "Whose match changed" in html
    assert html.count('data-save="moved"') == 1


def test_without_both_states_there_is_no_such_part():
    for states in ({}, {"before": synthetic()}, {"after": synthetic()}):
        assert "Before training" not in experiment_page.render(plain(), **states)


def test_states_of_another_task_are_refused():
    with pytest.raises(ValueError, match="before and after training differ in their task"):
        experiment_page.render(plain(), before=synthetic(), after=synthetic("another"))


def test_the_search_is_shown():
    chosen = Candidate(0.1, "answer", (0.5, 0.75))
    found = SearchResult(Grid(), (chosen, Candidate(1.0, "tokens", (0.25, 0.5))), chosen)
    html = experiment_page.render(replace(plain(), search=found))
    assert "How the weight was chosen" in html and "62.5" in html


def test_nothing_is_loaded_and_no_text_becomes_markup(html, tmp_path):
    hostile = experiment_page.render(with_text(plain(), HOSTILE), title=HOSTILE)
    for page in (html, hostile):
        assert not re.search(r"\b(src|href|action)=[\"']?(https?:)?//", page)
        assert "default-src &#39;none&#39;" in page
    assert "<img" not in hostile and "<script>hacked" not in hostile
    path = experiment_page.write(plain(), tmp_path / "deep" / "page.html")
    assert path.stat().st_size < 400_000
    with pytest.raises(ValueError, match="cannot write the report"):
        experiment_page.write(plain(), path / "below-a-file.html")
