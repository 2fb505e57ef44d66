"""Roles and fates in a comparison's page: where they stand, what they say, and that no text becomes markup."""

from __future__ import annotations

from dataclasses import replace

import pytest

from circuitkd.reports import page
from circuitkd.roles.fate_result import Fates
from report_pages import HOSTILE, Reader
from synthetic_comparison import synthetic
from synthetic_roles import WHY, bare, roles_of


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Pages without plotly.js: nothing here looks at it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "plotly_js", lambda: "")
        yield


@pytest.fixture(scope="module")
def rendered(comparison, result):
    return Reader(page.render([comparison], roles=[result]))


def test_the_parts_stand_in_their_order(rendered):
    names = "fates heads brittleness probes patching lens contributions planes attribution left-out".split()
    places = [rendered.ids.index(f"c0-{name}") for name in names]
    assert places == sorted(places)
    assert len(rendered.ids) == len(set(rendered.ids))


def test_every_link_inside_the_page_has_its_end(rendered):
    ends = {attributes["href"][1:] for tag, attributes in rendered.elements if tag == "a"}
    assert ends - set(rendered.ids) == set()
    assert {"c0-term-fate", "c0-term-role", "c0-term-probe"} <= ends


def test_the_summary_and_the_evidence_are_there(rendered, result):
    assert " ".join(result.fates.summary.split()) in rendered.text
    for fate in result.fates.fates:
        assert fate.reason.replace("-", "") in rendered.text.replace("−", "").replace("-", "")
    assert "12.2 10.5 to 14.0" in rendered.text  # brittleness: 12.25 with its interval
    assert f"role mover, probe member i {WHY}" in rendered.text
    assert "activation patching, teacher: 1 example the first: clean has 8 tokens, corrupted 9" in rendered.text
    assert "gap between clean and corrupted is 4.00 logits, over 11 examples" in rendered.text


def test_every_component_can_be_opened_from_the_fates(rendered, result):
    named = [a for tag, a in rendered.elements if tag == "button" and "data-component" in a]
    for fate in result.fates.fates:
        assert {"teacher", "student"} <= {a["data-side"] for a in named}
        assert any(a["data-component"] == str(fate.teacher.component) and a["data-side"] == "teacher" for a in named)
    nodes = [a for tag, a in rendered.elements if tag == "g" and a.get("role") == "button"]
    assert nodes and all(a["tabindex"] == "0" and a["data-component"] for a in nodes)


def test_roles_of_another_comparison_are_not_drawn(result):
    other = Reader(page.render([synthetic(seed=1)], roles=[result]))
    assert "c0-roles" not in other.ids
    assert "Fate Each teacher component" not in other.text
    two = Reader(page.render([synthetic(seed=1), synthetic()], roles=[result]))
    assert "c1-roles" in two.ids and "c0-roles" not in two.ids


def test_a_result_without_what_the_task_does_not_allow_still_has_a_section(comparison, result):
    few = Reader(page.render([comparison], roles=[bare(result)]))
    assert "c0-lens" in few.ids
    assert {"c0-probes", "c0-patching", "c0-planes"} & set(few.ids) == set()
    nothing = replace(result, left_out={})
    contributions = [replace(s.contributions, left_out={}) for s in (result.teacher, result.student)]
    patching = [replace(s.patching, left_out={}) for s in (result.teacher, result.student)]
    whole = replace(
        nothing,
        teacher=replace(result.teacher, contributions=contributions[0], patching=patching[0]),
        student=replace(result.student, contributions=contributions[1], patching=patching[1]),
    )
    assert "Nothing: the task and both models allow all of it." in Reader(page.render([comparison], roles=[whole])).text


def test_without_anything_that_matters_there_is_no_picture(comparison, result):
    idle = tuple(
        replace(f, fate="preserved", teacher=replace(f.teacher, influential=False)) for f in result.fates.fates
    )
    fates = replace(result.fates, fates=idle)
    assert isinstance(fates, Fates)
    found = Reader(page.render([comparison], roles=[replace(result, fates=fates)]))
    assert "No teacher component matters by itself, so there is nothing to draw" in found.text
    assert not [a for tag, a in found.elements if tag == "svg" and a.get("class") == "flow"]


def test_fates_that_cannot_be_said_are_not_drawn(comparison, result):
    weak = replace(comparison.performance.student, low=-0.1)
    undone = replace(comparison, performance=replace(comparison.performance, student=weak))
    found = Reader(page.render([undone], roles=[result]))
    assert "The table has what the rules give all the same." in found.text
    assert not [a for tag, a in found.elements if a.get("class") in ("flow", "shares")]
    assert [a for tag, a in found.elements if a.get("class") == "grid sorted fates"]


def test_no_text_becomes_markup(comparison, result):
    fates = tuple(replace(f, reason=HOSTILE) for f in result.fates.fates)
    hostile = replace(
        roles_of(comparison, places=(HOSTILE, *"bcdefgh")),
        fates=replace(result.fates, fates=fates, summary=HOSTILE, rules=HOSTILE),
        left_out={HOSTILE: HOSTILE},
    )
    found = Reader(page.render([comparison], roles=[hostile]))
    assert not [tag for tag, _ in found.elements if tag == "img"]
    assert not [a for _, a in found.elements if "onerror" in a]
    assert found.text.count(HOSTILE) > len(fates)


def test_a_page_of_large_models_stays_small():
    comparison = synthetic(teacher_layers=12, student_layers=6, heads=12, examples=100)
    places = tuple(f"word{i}" for i in range(40))
    made = page.render([comparison], roles=[roles_of(comparison, places=places)])
    assert len(made) < 1_200_000  # beside plotly.js
