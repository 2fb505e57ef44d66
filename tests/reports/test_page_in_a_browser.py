"""The page in headless Chromium, opened from disk: it draws, sorts, selects, switches, and uses no network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from circuitkd.reports import page as report
from report_pages import drawn
from synthetic_comparison import synthetic, with_text

pytestmark = pytest.mark.browser
TASKS = ("ioi", "numeral-sequence")


@pytest.fixture(scope="module")
def comparisons():
    made = [synthetic(task, seed=seed) for seed, task in enumerate(TASKS)]
    return [*made, synthetic("ioi", 3, 2, heads=2, seed=5)]


@pytest.fixture(scope="module")
def path(comparisons, tmp_path_factory):
    other = replace(comparisons[2], student=replace(comparisons[2].student, name="other-student"))
    return report.write([*comparisons[:2], other], tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture
def tab(opened, path):
    return opened(path)


def column(tab, index):
    cells = tab.locator("#c0 .pairs tbody tr").evaluate_all("(rows, i) => rows.map(r => r.cells[i].innerText)", index)
    return [float(text.replace("−", "-")) for text in cells]


def pick(tab, teacher):
    tab.locator(f"#c0 .pairs tr[data-teacher={teacher}] button").press("Enter")


def test_numbers_in_the_page_are_those_of_the_result(tab, comparisons):
    a = comparisons[0].alignment
    values = tab.locator("#c0 .card:first-child .strip tbody .num").all_inner_texts()
    assert values[0] == f"{a.score:.3f} [{a.interval[0]:.3f}, {a.interval[1]:.3f}]"
    assert values[1] == f"{a.mean_similarity:.3f}"
    assert values[4] == f"{a.null.random_score:.3f}"


def test_strips_place_values_on_their_axis(tab, comparisons):
    track = tab.locator("#c0 .role-score .track").bounding_box()
    dot = tab.locator("#c0 .role-score .dot").bounding_box()
    ticks = [float(text) for text in tab.locator("#c0 .card:first-child .ticks span").all_inner_texts()]
    share = (dot["x"] + dot["width"] / 2 - track["x"]) / track["width"]
    shown = ticks[0] + share * (ticks[-1] - ticks[0])
    assert shown == pytest.approx(comparisons[0].alignment.score, abs=0.005)


def test_figures_are_drawn_when_seen_with_their_values(tab, comparisons):
    c = comparisons[0]
    drops = tab.locator("#c0 [data-figure=drops]")
    assert drops.locator(".main-svg").count() == 0
    influence = drawn(tab, "influence-teacher")[0]["z"]
    heads = c.teacher.n_layers * c.teacher.n_heads
    expected = c.teacher_sweep.influence()[:heads].reshape(c.teacher.n_layers, -1)
    np.testing.assert_allclose([row[: c.teacher.n_heads] for row in influence], expected, atol=1e-3)
    assert sum(drawn(tab, "drops")[1]["y"]) == pytest.approx(100, abs=0.1)


def test_similarity_switches_between_types_and_measures(tab, comparisons):
    s = comparisons[0].similarity
    np.testing.assert_allclose(drawn(tab, "similarity")[0]["z"], s.head, atol=1e-4)
    part = tab.locator("#c0-similarity")
    assert part.locator("option").all_inner_texts() == [f"{s.head_measure} (used for matching)", "head cka"]
    part.locator("select").select_option(label="head cka")
    np.testing.assert_allclose(drawn(tab, "similarity")[0]["z"], s.others["head cka"], atol=1e-4)
    part.get_by_role("button", name="MLPs").click()
    np.testing.assert_allclose(drawn(tab, "similarity")[0]["z"], s.mlp, atol=1e-4)
    part.locator("select").select_option(label="mlp subspace overlap")
    np.testing.assert_allclose(drawn(tab, "similarity")[0]["z"], s.others["mlp subspace overlap"], atol=1e-4)


def test_the_table_sorts_by_a_click_on_a_header(tab, comparisons):
    values = [p.similarity for p in comparisons[0].alignment.pairs]
    head = tab.locator("#c0 .pairs th", has_text="Similarity")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    np.testing.assert_allclose(column(tab, 2), sorted(values, reverse=True), atol=5e-4)
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    np.testing.assert_allclose(column(tab, 2), sorted(values), atol=5e-4)
    assert tab.locator("#c0 .pairs th[aria-sort=none]").count() == 6


def test_the_table_filters(tab, comparisons):
    pairs = comparisons[0].alignment.pairs
    shown = tab.locator("#c0 .pairs tbody tr:visible")
    part = tab.locator("#c0-pairs")
    part.get_by_role("button", name="MLPs", exact=True).click()
    assert shown.count() == 4
    assert part.locator(".count").inner_text() == f"4 of {len(pairs)} pairs"
    part.get_by_role("button", name="All", exact=True).click()
    part.get_by_label("Find").fill("l1h")
    assert shown.count() == sum("L1H" in f"{p.teacher} {p.student}" for p in pairs)
    part.get_by_label("Find").fill("")
    part.get_by_label("influence of either").check()
    assert shown.count() == sum(max(p.teacher_influence, p.student_influence) > 0.1 for p in pairs)


def test_selecting_a_pair_shows_its_patterns(tab, comparisons):
    c = comparisons[0]
    pair = next(p for p in c.alignment.pairs if str(p.teacher) == "L1H2")
    captions = tab.locator("#c0 .attention figcaption")
    before = captions.all_inner_texts()
    pick(tab, "L1H2")
    assert captions.all_inner_texts() == ["Teacher L1H2", f"Student {pair.student}"] != before
    assert tab.locator("#c0 .selected h4").inner_text() == f"L1H2 → {pair.student}"
    assert tab.locator("#c0 .pairs tr[aria-current]").get_attribute("data-teacher") == "L1H2"
    labels = tab.locator("#c0 .attention figure:first-child text").all_text_contents()
    assert labels == [*c.patterns[0].teacher_tokens] * 2
    tab.locator("#c0 [data-example]").select_option(label="ex-1")
    assert tab.locator("#c0 .attention figure:first-child text").nth(1).text_content() == "Anna"


def test_patterns_show_the_weights_of_the_selected_head(tab, comparisons):
    c = comparisons[0]
    pair = next(p for p in c.alignment.pairs if str(p.teacher) == "L3H1")
    pick(tab, "L3H1")
    tokens = c.patterns[0].teacher_tokens
    for side, index in (("teacher", 0), ("student", 1)):
        component = getattr(pair, side)
        weights = getattr(c.patterns[0], side)[component.layer * c.teacher.n_heads + component.head]
        figure = tab.locator("#c0 .attention svg").nth(index)
        figure.scroll_into_view_if_needed()
        field = figure.locator(".field").bounding_box()
        cell = field["width"] / len(tokens)
        for query, key in ((5, 0), (9, 8), (13, 3)):
            tab.mouse.move(field["x"] + (key + 0.5) * cell, field["y"] + (query + 0.5) * cell)
            text = tab.locator("#c0 .readout").inner_text()
            assert text.startswith(f"{side.capitalize()} {component}: “{tokens[query]}” attends")
            assert text.endswith(f" to “{tokens[key]}”")
            shown = float(text.split("attends ")[1].split(" to")[0])
            assert shown == pytest.approx(weights[query, key], abs=0.008)


def test_mlps_have_no_pattern(tab):
    pick(tab, "MLP1")
    assert tab.locator("#c0 .attention svg").count() == 0
    assert "have no attention pattern" in tab.locator("#c0 .attention").inner_text()


def test_a_click_in_a_figure_selects_the_pair(tab, comparisons):
    drawn(tab, "influence-teacher")
    box = tab.locator("#c0 [data-figure=influence-teacher] .nsewdrag").bounding_box()
    tab.mouse.click(box["x"] + box["width"] * 2.5 / 6, box["y"] + box["height"] * 3.5 / 4)
    tab.locator("#c0 .selected h4", has_text="L3H2").wait_for()
    shapes = tab.locator("#c0 [data-figure=influence-teacher]").evaluate("element => element.layout.shapes")
    assert [(s["x0"], s["x1"], s["y0"], s["y1"]) for s in shapes] == [(1.5, 2.5, 2.5, 3.5)]


def test_another_task_and_pair_can_be_opened(tab, comparisons):
    visible = tab.locator(".comparison:visible")
    assert visible.get_attribute("id") == "c0"
    tab.locator("#choose-task").select_option("numeral-sequence")
    assert visible.get_attribute("id") == "c1"
    assert f"{comparisons[1].alignment.score:.3f} [" in visible.locator(".role-score .num").inner_text()
    assert tab.url.endswith("#c1")
    tab.locator("#choose-pair").select_option("tiny-teacher → other-student")
    assert visible.get_attribute("id") == "c2"
    assert tab.locator("#choose-task").locator("option").all_inner_texts() == ["ioi"]
    tab.locator(".overview tr[data-open='1'] .track").click()
    assert visible.get_attribute("id") == "c1"
    assert tab.locator(".overview tr[aria-current]").get_attribute("data-open") == "1"


def test_an_address_opens_its_comparison(opened, path):
    tab = opened(path, "#c1-drops")
    assert tab.locator(".comparison:visible").get_attribute("id") == "c1"
    tab.locator("#c1 [data-figure=drops] .main-svg").first.wait_for()


def test_dark_mode_recolours_page_and_figures(tab):
    def colours():
        page_colour = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        layout = tab.locator("#c0 [data-figure=influence-teacher]").evaluate("e => e.layout")
        return page_colour, layout["font"]["color"], layout["coloraxis"]["colorscale"][0][1]

    drawn(tab, "influence-teacher")
    light = colours()
    button = tab.get_by_role("button", name="Dark")
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    dark = colours()
    assert all(before != after for before, after in zip(light, dark, strict=True))
    button.click()
    assert colours() == light


def test_print_is_light_and_complete(tab):
    tab.get_by_role("button", name="Dark").click()
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.locator(".bar").is_hidden()
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("#c0 .plot .main-svg:first-child").count() == 4


def test_no_width_makes_the_page_scroll_sideways(tab):
    for name in ("influence-teacher", "influence-student", "similarity", "drops"):
        drawn(tab, name)
    for width in (1600, 768, 360):
        tab.set_viewport_size({"width": width, "height": 900})
        wide = "document.documentElement.scrollWidth <= innerWidth && document.querySelector('#c0 .plot').clientWidth"
        tab.wait_for_function(wide)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_hostile_text_does_nothing(opened, tmp_path):
    text = "</script><script>window.hacked = 1</script><img src=x onerror='hacked=1'>"
    tab = opened(report.write([with_text(synthetic(), text), with_text(synthetic(), text)], tmp_path / "page.html"))
    assert tab.locator("#c0 .attention text").first.text_content() == "</script><scrip…"
    assert text in tab.locator("#c0 .callout").inner_text()
    assert tab.locator("#choose-task").locator("option").all_inner_texts() == [text, f"{text} (2)"]
    assert f"head {text}" in tab.locator("#c0-similarity option").all_inner_texts()
    drawn(tab, "similarity")
    assert tab.evaluate("window.hacked === undefined")
    assert tab.locator("img").count() == 0


def test_a_script_that_is_not_the_pages_own_is_refused(browser, path):
    tab = browser.new_page()
    tab.set_default_timeout(120_000)
    tab.goto(path.as_uri())
    tab.evaluate("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.x = 1'}))")
    assert tab.evaluate("window.x === undefined")
    tab.close()
