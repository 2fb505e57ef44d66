"""Every name that leads to a definition leads to one that is there."""

from __future__ import annotations

import re

import pytest

from circuitkd.reports import circuit_page, experiment_page, page, sides, strips
from circuitkd.reports.terms import TERMS, anchor
from synthetic_circuit import random_findings
from synthetic_comparison import synthetic
from synthetic_experiment import plain


@pytest.fixture(scope="module")
def pages():
    other = synthetic(seed=1)
    return {
        "comparison": page.render([synthetic()]),
        "overview": page.render([synthetic(), other]),
        "circuit": circuit_page.render([random_findings()]),
        "experiment": experiment_page.render(plain(), before=synthetic(), after=synthetic()),
    }


@pytest.mark.parametrize("name", ["comparison", "overview", "circuit", "experiment"])
def test_links_lead_to_definitions(pages, name):
    html = pages[name].split("<footer")[0]
    links = set(re.findall(r'href="#([\w-]+-term-[\w-]+)"', html))
    ids = re.findall(r'id="([\w-]+)"', html)
    assert links and links <= set(ids)
    assert len(ids) == len(set(ids))


def test_names_are_in_small_letters_and_all_are_used(pages):
    assert all(name == name.lower() for name in TERMS)
    everything = " ".join(pages.values())
    assert {end for end in TERMS.values() if f"-term-{end}" not in everything} == set()


def test_what_the_main_figures_are_called_has_a_definition():
    c = synthetic()
    labels = [m.label for m in strips.alignment_strip(c).marks] + [row.label for row in sides.groups([c, c])[0].rows]
    assert [label for label in labels if not anchor(label)] == []
    assert [key for key in plain().rows()[0] if not anchor(key)] == []
    assert anchor("no such name") == ""
