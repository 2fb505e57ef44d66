"""The page holds the numbers, nothing it shows can become markup, and it refers to nothing outside itself."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest

from circuitkd.comparison.kept import kept_components
from circuitkd.comparison.result import Comparison
from circuitkd.reports import page
from circuitkd.reports.circuit_tables import overlap_sentence
from circuitkd.reports.figures import plotly_js
from report_pages import HOSTILE, Reader
from synthetic_circuit import circuits_of
from synthetic_comparison import synthetic, with_text

LOADING = {"src", "srcset", "action", "formaction", "data", "poster", "background", "ping", "manifest", "srcdoc"}


@pytest.fixture(scope="module")
def rendered(comparison):
    return Reader(page.render([comparison]))


@pytest.fixture(scope="module")
def hostile():
    return Reader(page.render([with_text(synthetic(), HOSTILE)]))


def test_the_overview_has_the_numbers(rendered, comparison):
    a, p, r = comparison.alignment, comparison.performance, comparison.robustness
    for expected in (
        f"{a.score:.3f} [{a.interval[0]:.3f}, {a.interval[1]:.3f}]",
        f"{a.mean_agreement:.3f} [{a.agreement_interval[0]:.3f}, {a.agreement_interval[1]:.3f}]",
        f"{a.null.shuffled_mean:.3f} [{a.null.shuffled_interval[0]:.3f}, {a.null.shuffled_interval[1]:.3f}]",
        f"Heads alone: {a.head.score:.3f}",
        f"{p.student.value:.2f} [{p.student.low:.2f}, {p.student.high:.2f}]",
        f"{p.gap.value:.2f} [{p.gap.low:.2f}, {p.gap.high:.2f}]",
        f"{r.teacher.mean_drop:.1f} [{r.teacher.interval[0]:.1f}, {r.teacher.interval[1]:.1f}]",
        f"{100 * r.student.share_above_10:.1f} %",
    ):
        assert expected in rendered.text


def test_the_first_screen_says_what_is_kept(rendered, comparison):
    kept = kept_components(comparison)
    assert f"influential components the student keeps {kept.count} ({kept.expected:.1f} by chance)" in rendered.text
    for found in kept.components:
        similarity = f"{found.match.similarity:.3f}"
        assert f"{found.teacher} → {found.match.student}" in rendered.text
        assert f"{similarity} {found.state}" in rendered.text


def test_warnings_dropped_examples_and_provenance_are_shown(rendered):
    for expected in (
        "fewer than 8 examples in the group of length 15",
        "ex-99 its answer is two tokens for tiny-student",
        "mean-positional (corrupted)",
        "data sha256 " + "0f" * 8,
        "GPT2LMHeadModel",
    ):
        assert expected in rendered.text


def test_variants_are_a_table_with_the_papers_choice_marked(rendered, comparison):
    start = rendered.text.index("normalisation nearest hungarian soft-top-k")
    row = [f"{comparison.variants[f'l2+{m}']:.3f}" for m in ("nearest", "hungarian", "soft-top-k")]
    assert "l2 " + " ".join(row) in rendered.text[start:]
    chosen = [e for e in rendered.elements if "chosen" in (e[1].get("class") or "")]
    assert len(chosen) == 1


def test_other_measures_are_scored_beside_the_variants(rendered, comparison):
    score = comparison.alignment.by_measure["heads and MLPs by CKA"]
    assert f"heads and MLPs by CKA {score.score:.3f} {score.mean_similarity:.3f}" in rendered.text


def test_every_pair_has_a_row(rendered, comparison):
    rows = [a for tag, a in rendered.elements if tag == "tr" and "data-teacher" in a]
    expected = sorted(comparison.alignment.pairs, key=lambda p: -p.teacher_influence)
    assert [(a["data-teacher"], a["data-student"]) for a in rows] == [
        (str(p.teacher), str(p.student)) for p in expected
    ]
    assert "Weight" not in rendered.text


def test_unequal_weights_get_a_column(comparison):
    pairs = tuple(replace(p, weight=0.25) for p in comparison.alignment.pairs)
    soft = replace(comparison, alignment=replace(comparison.alignment, pairs=pairs))
    assert "Contribution Weight" in Reader(page.render([soft])).text


def test_an_alignment_of_another_kind_is_marked(comparison):
    assert "not comparable with the paper" not in Reader(page.render([comparison])).text
    other = replace(comparison, alignment=replace(comparison.alignment, comparable=False))
    assert "not comparable with the paper’s Eq. 6 to 8: DC Eq. 5-8" in Reader(page.render([other])).text


def test_a_result_without_patterns_pairs_or_nulls_still_has_a_page(comparison):
    null = replace(comparison.alignment.null, random_score=None, shuffled_scores=np.zeros(0))
    bare = replace(
        comparison,
        alignment=replace(comparison.alignment, null=null, pairs=(), head=None, mlp=None, by_measure={}),
        patterns=(),
        variants={},
        dropped={},
        warnings=(),
        manifest={},
    )
    text = Reader(page.render([bare])).text
    assert "This result holds no attention patterns." in text
    assert "No components are matched." in text
    assert "None: both models took every example." in text
    assert "Read with care" not in text


def test_a_saved_result_makes_the_same_page(comparison, tmp_path):
    comparison.save(tmp_path / "run")
    assert page.render([Comparison.load(tmp_path / "run")]) == page.render([comparison])


@pytest.mark.parametrize("which", ["rendered", "hostile"])
def test_nothing_is_loaded(which, request):
    reader = request.getfixturevalue(which)
    tags = {tag for tag, _ in reader.elements}
    assert not tags & {"link", "base", "iframe", "object", "embed", "img", "audio", "video", "form", "image", "use"}
    for tag, attributes in reader.elements:
        assert not LOADING & set(attributes), tag
        assert attributes.get("href", "#").startswith("#"), tag
        assert not [name for name in attributes if name.startswith("on")], tag
        assert "url(" not in attributes.get("style", "")
    own = "".join(reader.styles) + "".join(reader.scripts)
    assert not re.search(r"@import|url\(|import\s*\(|fetch\(|XMLHttpRequest|WebSocket|sendBeacon|eval\(", own)
    assert set(re.findall(r"\w+://[^\"'` ]+", own)) == {"http://www.w3.org/2000/svg"}


def test_only_its_own_scripts_may_run(rendered):
    (policy,) = [a["content"] for tag, a in rendered.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    theme, own = rendered.scripts
    for script in (theme, own, rendered.unpacked("plotly")):
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    (allowed,) = [part for part in policy.split("; ") if part.startswith("script-src")]
    assert "unsafe" not in allowed and "blob:" not in allowed
    assert "http" not in policy
    assert policy.count("'sha256-") == 3
    assert rendered.unpacked("plotly") == plotly_js()


def test_hostile_text_stays_text(hostile, rendered):
    assert [tag for tag, _ in hostile.elements if tag == "script"] == ["script"] * 4
    assert "img" not in {tag for tag, _ in hostile.elements}
    shown = " ".join(HOSTILE.split())
    assert f"Task {shown}" in hostile.text
    assert f"Read with care {shown}" in hostile.text
    assert hostile.text.count(shown) >= 8
    assert hostile.scripts == rendered.scripts


def test_hostile_tokens_reach_the_data_unchanged(hostile):
    (data,) = hostile.data
    assert data["patterns"][0]["teacher"]["tokens"][0] == HOSTILE
    assert data["task"] == HOSTILE
    assert f"head {HOSTILE}" in [entry["measure"] for entry in data["figures"]["similarity"]]


def test_several_comparisons_get_an_overview_and_selectors(comparison):
    tasks = [comparison, synthetic("numeral-sequence", seed=1), synthetic("greater-than", seed=2)]
    reader = Reader(page.render(tasks))
    assert "tiny-teacher → tiny-student: 3 tasks" in reader.text
    assert {"choose-pair", "choose-task", "c0", "c1", "c2", "c2-pairs"} <= set(reader.ids)
    assert len(reader.ids) == len(set(reader.ids))
    assert "Over these 3 comparisons" in reader.text
    assert f"{tasks[1].performance.teacher.value:.2f} / {tasks[1].performance.student.value:.2f}" in reader.text


def test_one_comparison_needs_no_overview(rendered):
    assert "choose-task" not in rendered.ids
    assert [tag for tag, _ in rendered.elements].count("h1") == 1


def test_the_same_pair_and_task_twice_can_be_told_apart(comparison):
    data = Reader(page.render([comparison, comparison])).data
    assert [entry["task"] for entry in data] == ["ioi", "ioi (2)"]


def test_the_title_can_be_given(comparison):
    reader = Reader(page.render([comparison], title="A & <b>"))
    assert reader.words[reader.words.index("A & <b>")] == "A & <b>"
    assert "tiny-teacher → tiny-student: ioi" in Reader(page.render([comparison])).text


def test_examples_beyond_the_budget_are_left_out_and_the_page_says_so(comparison, monkeypatch):
    monkeypatch.setattr(page, "PATTERN_CHARACTERS", 10)
    reader = Reader(page.render([comparison]))
    assert len(reader.data[0]["patterns"]) == 1
    assert "1 of 3 examples with patterns are in this page" in reader.text


def test_all_examples_are_there_within_the_budget(rendered):
    assert len(rendered.data[0]["patterns"]) == 3
    assert "examples with patterns are in this page" not in rendered.text


def test_a_page_of_five_gpt2_sized_comparisons_is_small():
    tasks = [synthetic(f"task-{i}", 12, 6, heads=12, examples=20, seed=i) for i in range(5)]
    made = page.render(tasks)
    assert len(made.encode()) < 4_500_000
    assert len(Reader(made).packed["plotly"]) < 2_100_000


def test_the_same_results_make_the_same_page(comparison, rendered):
    again = Reader(page.render([comparison]))
    assert again.packed == rendered.packed and set(again.packed) == {"data", "plotly"}
    assert page.render([comparison]) == page.render([comparison])


def test_a_reader_without_scripts_is_told_what_is_missing(rendered):
    (html,) = [a for tag, a in rendered.elements if tag == "html"]
    assert html["class"] == "undrawn"  # until a script takes it away
    assert "need JavaScript and a browser of 2023 or later" in rendered.text


def test_write_makes_folders_and_leaves_only_the_page(comparison, tmp_path):
    path = page.write([comparison], tmp_path / "a" / "report.html")
    assert path == tmp_path / "a" / "report.html"
    assert path.read_text("utf-8") == page.render([comparison])
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_page_that_cannot_be_written_leaves_the_old_one(comparison, tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(ValueError, match=r"cannot write the report .*report\.html: .*choose another file name"):
        page.write([comparison], tmp_path / "report.html")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_circuits_are_drawn_with_the_comparison_they_belong_to(comparison, rendered):
    found = circuits_of(comparison)
    assert "c0-circuits" not in rendered.ids
    reader = Reader(page.render([synthetic("other", seed=9), comparison], circuits=[found]))
    assert [i for i in reader.ids if i.endswith("-circuits")] == ["c1-circuits"]
    diagrams = [a for tag, a in reader.elements if tag == "svg" and "diagram" in a.get("class", "")]
    assert [a["aria-label"] for a in diagrams] == [f"Circuit of tiny-{side} on ioi" for side in ("teacher", "student")]
    assert overlap_sentence(found) in reader.text
    dashed = {a["data-name"] for tag, a in reader.elements if tag == "g" and "unmatched" in a.get("class", "")}
    assert dashed == {str(n.teacher) for n in found.overlap.nodes if not n.found}
    matched = {a["data-name"]: a["data-match"] for tag, a in reader.elements if "data-match" in a}
    assert matched == {str(n.teacher): str(n.student) for n in found.overlap.nodes}
    named = [a.get("data-part") for tag, a in reader.elements if "data-part" in a]
    assert "circuits" in named


def test_a_missing_circuit_is_said_and_the_other_is_drawn(comparison):
    found = replace(circuits_of(comparison), student=None, overlap=None, missing=("<b>it cannot</b>",))
    reader = Reader(page.render([comparison], circuits=[found]))
    assert "No circuit: <b>it cannot</b>" in reader.text
    assert len([a for tag, a in reader.elements if tag == "svg" and "diagram" in a.get("class", "")]) == 1


def test_a_page_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no comparison to draw: pass the result of compare"):
        page.render([])
    with pytest.raises(ValueError, match="no comparison to draw"):
        page.write([], tmp_path / "report.html")
