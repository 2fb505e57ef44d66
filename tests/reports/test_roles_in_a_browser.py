"""Roles, fates and the panel of a component in headless Chromium: no errors, no network (see conftest)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from circuitkd.reports import page
from report_pages import drawn
from synthetic_circuit import circuits_of
from synthetic_roles import bare, roles_of

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def path(comparison, result, tmp_path_factory):
    target = tmp_path_factory.mktemp("roles") / "report.html"
    return page.write([comparison], target, roles=[result], circuits=[circuits_of(comparison)])


@pytest.fixture
def tab(opened, path):
    return opened(path)


def panel(tab):
    return tab.locator("#c0-patterns.floating")


def title(tab):
    return panel(tab).locator("h4").inner_text()


def match(comparison, teacher):
    return next(str(p.student) for p in comparison.alignment.pairs if str(p.teacher) == teacher)


def test_a_click_in_the_table_of_fates_opens_the_panel(tab, comparison, result):
    assert panel(tab).count() == 0
    fate = result.fates.of("L1H2")
    button = tab.locator("#c0-fates .fates").get_by_role("button", name="L1H2", exact=True).first
    button.click()
    assert title(tab) == f"L1H2 → {match(comparison, 'L1H2')}"
    verdict = panel(tab).locator(".verdict").inner_text().replace("−", "-")
    assert verdict == f"{fate.fate} L1H2, most like {fate.student.component}: {fate.reason}."
    assert panel(tab).locator(".attention svg").count() == 2
    assert tab.evaluate("document.activeElement.tagName") == "H4"
    tab.keyboard.press("Escape")
    assert panel(tab).count() == 0
    assert button.evaluate("e => e === document.activeElement")


def test_the_panel_shows_the_results_numbers(tab, comparison, result):
    tab.locator("#c0-fates .fates").get_by_role("button", name="L2H1", exact=True).first.click()
    student = match(comparison, "L2H1")
    box = panel(tab)
    sweep = comparison.teacher_sweep
    row = sweep.components.index(result.fates.of("L2H1").teacher.component)
    texts = (
        box.locator(".block", has_text="mean effect of ablation").locator("tbody tr").nth(1).inner_text().split("\t")
    )
    assert float(texts[1].replace("−", "-")) == pytest.approx(sweep.drops[row], abs=1e-3)
    dots = box.locator(".effects .teacher circle")
    assert dots.count() == len(sweep.examples)
    shown = dots.nth(3).locator("title").text_content().replace("−", "-")
    name, value = shown.removesuffix(" logits").split(": ")
    assert name == sweep.examples[3] and float(value) == pytest.approx(sweep.effects[row, 3], abs=1e-3)
    scores = result.teacher.scores
    head = [str(h) for h in scores.heads].index("L2H1")
    bars = box.locator(".block", has_text="the tick is the threshold").locator(".score.of-teacher")
    assert bars.count() == len(scores.roles)
    for i, has in enumerate(scores.found[head]):
        assert bars.nth(i).inner_text().startswith(f"{scores.score[head, i]:.2f}")
        assert ("has" in bars.nth(i).get_attribute("class")) == has
    patching = result.student.patching
    cells = box.locator(".cells.student rect title").all_text_contents()
    at = [str(c) for c in patching.components].index(student)
    assert len(cells) == len(patching.positions) + 3
    assert float(cells[1].split("recovery ")[1].replace("−", "-")) == pytest.approx(
        patching.effects[at, 1] / 4, abs=2e-3
    )
    probes = result.teacher.head_probes
    rows = box.locator(".block", has_text="Score on held-out prompts").locator("tbody tr")
    assert rows.locator("th").all_inner_texts() == ["answer (chance 0.10)", "seen before (chance 0.50)"]
    bars = rows.locator(".score.of-teacher")
    column = [str(h) for h in probes.heads].index("L2H1")
    assert bars.all_inner_texts() == [f"{score:.2f}" for score in probes.scores[:, column]]
    assert bars.first.get_attribute("title").endswith("; shuffled labels 0.25 ± 0.05")
    assert rows.locator(".score.of-student").count() == 2
    tab.keyboard.press("Escape")
    tab.locator("#c0-fates .fates").get_by_role("button", name="MLP2", exact=True).first.click()
    block = box.locator(".block", has_text="Score on held-out prompts")
    assert "read from the residual stream after the attention of its layer" in block.inner_text()
    shown = block.locator(".score.of-teacher").all_inner_texts()
    assert shown == [f"{score:.2f}" for score in result.teacher.probes.scores[:, 2]]


def test_a_component_that_nothing_is_matched_to_opens_alone(opened, comparison, tmp_path):
    pairs = tuple(p for p in comparison.alignment.pairs if str(p.student) != "L1H2")
    fewer = replace(comparison, alignment=replace(comparison.alignment, pairs=pairs))
    tab = opened(page.write([fewer], tmp_path / "fewer.html", roles=[roles_of(fewer)]))
    drawn(tab, "influence-student")
    area = tab.locator("#c0 [data-figure=influence-student] .nsewdrag").bounding_box()
    tab.mouse.click(area["x"] + area["width"] * 2.5 / 6, area["y"] + area["height"] * 1.5 / 2)
    panel(tab).wait_for()
    assert title(tab) == "L1H2"
    assert "No teacher component is matched to it." in panel(tab).inner_text()
    assert panel(tab).locator(".attention svg").count() == 1
    assert tab.locator("#c0 .pairs tr[aria-current]").count() == 0


def test_enter_on_a_box_of_the_picture_opens_the_panel(tab, result):
    node = tab.locator("#c0-fates .flow .node.teacher").first
    name = node.get_attribute("data-component")
    node.focus()
    assert tab.locator("#c0-fates .flow.focus").count() == 1
    lit = tab.locator("#c0-fates .ribbon.on")
    assert {r.get_attribute("data-teacher-end") for r in lit.all()} == {name}
    node.press("Enter")
    assert title(tab).startswith(name)
    panel(tab).get_by_role("button", name="Close").click()
    assert panel(tab).count() == 0


def test_the_circuits_boxes_and_the_heatmaps_open_the_panel(tab, comparison, result):
    box = tab.locator("#c0-circuits .diagram.student .node[role=button]").first
    box.click()
    assert box.get_attribute("data-name") in title(tab)
    tab.keyboard.press("Escape")
    data = drawn(tab, "patching-student")
    area = tab.locator("#c0 [data-figure=patching-student] .nsewdrag").bounding_box()
    rows = data[0]["y"]
    tab.mouse.click(area["x"] + area["width"] * 0.02, area["y"] + area["height"] * 3.5 / len(rows))
    panel(tab).wait_for()
    assert rows[3] in title(tab)
    tab.keyboard.press("Escape")
    drawn(tab, "head-probes-teacher")
    area = tab.locator("#c0 [data-figure=head-probes-teacher] .nsewdrag").bounding_box()
    tab.mouse.click(area["x"] + area["width"] * 2.5 / 4, area["y"] + area["height"] * 1.5 / 4)
    panel(tab).wait_for()
    assert title(tab).startswith("L1H2")


def test_views_of_figures_can_be_chosen(tab, result):
    assert len(drawn(tab, "patching-teacher")[0]["x"]) == len(result.teacher.patching.positions) + 2
    tab.locator("#c0-patching").get_by_role("button", name="QK and OV").click()
    for side, patching in (("teacher", result.teacher.patching), ("student", result.student.patching)):
        shown = np.array(drawn(tab, f"patching-{side}")[0]["z"])
        np.testing.assert_allclose(shown[:, 2], patching.ov / 4, rtol=1e-3)
    drawn(tab, "contributions-teacher")
    tab.locator("#c0-contributions").get_by_role("button", name="Length").click()
    shown = np.array(drawn(tab, "contributions-teacher")[0]["z"])
    np.testing.assert_allclose(shown[0], result.teacher.contributions.size[0, 0], rtol=1e-3)
    np.testing.assert_allclose(
        drawn(tab, "head-probes-student")[0]["z"], result.student.head_probes.scores[0].reshape(2, 4), atol=5e-4
    )
    tab.locator("#c0-probes select").select_option("seen before")
    for side, probes in (("teacher", result.teacher.head_probes), ("student", result.student.head_probes)):
        shown = np.array(drawn(tab, f"head-probes-{side}")[0]["z"])
        np.testing.assert_allclose(shown.ravel(), probes.scores[1], atol=5e-4)
    drawn(tab, "planes")
    tab.locator("#c0-planes select").select_option("MLP2")
    np.testing.assert_allclose(drawn(tab, "planes")[1]["x"], result.planes[2].teacher_points[:, 0], rtol=1e-3)


def test_the_table_of_fates_filters_and_sorts(tab, result):
    part = tab.locator("#c0-fates")
    rows = part.locator(".fates tbody tr:visible")
    part.get_by_role("button", name="Discarded").click()
    assert rows.count() == result.fates.counts()["discarded"]
    part.get_by_label("matters in the teacher").check()
    assert rows.count() == result.fates.counts(influential=True)["discarded"]
    assert part.locator(".count").inner_text() == f"{rows.count()} of 20 components"
    part.get_by_role("button", name="All", exact=True).click()
    part.get_by_label("matters in the teacher").uncheck()
    part.locator("thead th", has_text="Similarity").get_by_role("button").click()
    values = [float(text) for text in part.locator(".fates tbody tr td:nth-child(4)").all_inner_texts()]
    assert values == sorted(values, reverse=True) and len(values) == 20


def test_dark_mode_recolours_the_section(tab):
    def colours():
        ribbon = tab.locator(".flow .ribbon path").first.evaluate("e => getComputedStyle(e).fill")
        scale = tab.locator("[data-figure=patching-teacher]").evaluate("e => e.layout.coloraxis.colorscale[0][1]")
        return (
            ribbon,
            scale,
            tab.locator("#c0-probes .teacher polyline").first.evaluate("e => getComputedStyle(e).stroke"),
        )

    drawn(tab, "patching-teacher")
    light = colours()
    tab.get_by_role("button", name="Dark").click()
    assert all(a != b for a, b in zip(light, colours(), strict=True))


def test_no_width_makes_the_page_scroll_sideways(tab):
    for name in ("robustness", "head-probes-teacher", "patching-teacher", "contributions-student", "planes"):
        drawn(tab, name)
    for width in (1600, 768, 360):
        tab.set_viewport_size({"width": width, "height": 900})
        tab.wait_for_function("document.documentElement.scrollWidth <= innerWidth")
        tab.locator("#c0-heads .chip").first.click()
        box = panel(tab).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
        tab.keyboard.press("Escape")


def test_a_result_without_patching_probes_or_planes_draws_without_errors(opened, comparison, result, tmp_path):
    tab = opened(page.write([comparison], tmp_path / "few.html", roles=[bare(result)]))
    tab.locator("#c0-fates .fates").get_by_role("button", name="MLP0", exact=True).first.click()
    assert panel(tab).locator(".cells").count() == 0
    assert "have no attention pattern" in panel(tab).locator(".attention").inner_text()


def test_the_panel_works_without_roles(opened, comparison, tmp_path):
    tab = opened(page.write([comparison], tmp_path / "plain.html"))
    tab.locator("#c0 .pairs tr[data-teacher=L3H1] button").press("Enter")
    assert panel(tab).locator(".verdict").count() == 0
    assert panel(tab).locator(".effects circle").count() == 2 * len(comparison.teacher_sweep.examples)
    assert panel(tab).locator(".score").count() == 0
