"""Figures saved as SVG and CSV from the page itself: by pointer and keyboard, with names, units and quoting."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from circuitkd.reports import circuit_page, experiment_page, page
from circuitkd.reports.study_page import write_study
from synthetic_circuit import circuits_of
from synthetic_comparison import WORDS, synthetic
from synthetic_experiment import ALL_CE, plain
from synthetic_roles import roles_of
from synthetic_study import finished_run

pytestmark = pytest.mark.browser
SVG = "{http://www.w3.org/2000/svg}"
EVERY_CSV = """() => {
  const files = [];
  offer = (text, type, name) => files.push([name, text]);
  const buttons = [...document.querySelectorAll(".save button")].filter((b) => b.textContent === "CSV");
  buttons.filter((b) => !b.closest("[hidden]")).forEach((b) => b.click());
  return files;
}"""


@pytest.fixture(scope="module")
def comparison():
    made = synthetic()
    words = ("a,b", 'say "x"', "two\nlines", *WORDS[3:])
    shown = replace(made.patterns[0], teacher_tokens=words)
    return replace(made, patterns=(shown, *made.patterns[1:]))


@pytest.fixture(scope="module")
def folder(comparison, findings, tmp_path_factory):
    place = tmp_path_factory.mktemp("saved")
    page.write([comparison], place / "comparison.html")
    page.write([comparison], place / "roles.html", roles=[roles_of(comparison)], circuits=[circuits_of(comparison)])
    student = replace(comparison.student, name="other")
    page.write([comparison, replace(comparison, student=student)], place / "students.html")
    circuit_page.write([findings], place / "circuit.html")
    experiment_page.write(plain(), place / "experiment.html", before=comparison, after=comparison)
    write_study(finished_run(), place / "study")
    return place


@pytest.fixture
def save(opened, folder, tmp_path):
    """Save a figure of a page: the text of the file and its name."""

    def saved(name, label, kind, *, key=None, dark=False):
        tab = opened(folder / f"{name}.html")
        if dark:
            tab.get_by_role("button", name="Dark").click()
        button = tab.get_by_role("button", name=f"Save as {kind}: {label}", exact=True).first
        with tab.expect_download(timeout=30_000) as waiting:
            button.press(key) if key else button.click()
        path = tmp_path / "saved"
        waiting.value.save_as(path)
        return path.read_bytes().decode(), waiting.value.suggested_filename

    return saved


def rows(text):
    assert text.endswith("\r\n") and "\n" not in text.replace("\r\n", "").replace("two\nlines", "")
    return list(csv.reader(text.splitlines(keepends=True)))


def words(text):
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    return " ".join(" ".join("".join(node.itertext()).split()) for node in root.iter(f"{SVG}text"))


@pytest.mark.parametrize(
    ("name", "least"),
    [("roles", 25), ("students", 9), ("circuit", 8), ("experiment", 14), ("study/report", 26)],
)
def test_every_csv_names_its_columns(opened, folder, name, least):
    files = opened(folder / f"{name}.html").evaluate(EVERY_CSV)
    assert len(files) >= least and len(dict(files)) == len(files)
    for file, text in files:
        head, *body = rows(text)
        assert all(head) and len(set(head)) == len(head), file
        assert body and {len(row) for row in body} == {len(head)}, file
        assert not re.search(r"</|<(b|br|span)>|&(lt|gt|amp|#\d+);|NaN|undefined", text), file
        assert any(value for row in body for value in row if re.fullmatch(r"-?\d+(\.\d+)?(e-\d+)?", value)), file


def test_a_plane_names_what_each_point_is(save, comparison):
    text, _ = save("roles", "Mean MLP outputs of both models at each word, in two dimensions", "CSV")
    head, *body = rows(text)
    assert head == [
        "series",
        "axis 1 (unit of the residual stream)",
        "axis 2 (unit of the residual stream)",
        "token",
    ]
    plane = roles_of(comparison).planes[0]
    places = [[float(v) for v in row[1:3]] for row in body]
    np.testing.assert_allclose(places, np.concatenate([plane.teacher_points, plane.student_points]), rtol=1e-3)
    assert [row[0] for row in body] == ["Teacher"] * len(plane.positions) + ["Student"] * len(plane.positions)


def test_a_plot_as_csv(save, comparison):
    text, name = save("comparison", "Heatmap of the influence of the teacher's components, layer by head", "CSV")
    head, *body = rows(text)
    assert head == ["component", "influence", "mean effect (logits)", "retained (%)"]
    assert name == "tiny-teacher-tiny-student-ioi-influence-teacher.csv"
    sweep = comparison.teacher_sweep
    found = {row[0]: [float(v) for v in row[1:]] for row in body}
    assert set(found) == {str(c) for c in sweep.components}
    expected = np.stack([sweep.influence(), sweep.drops, sweep.retained_percent], axis=1)
    got = np.array([found[str(c)] for c in sweep.components])
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)


def test_a_plot_as_svg_though_it_was_never_scrolled_to(save):
    text, name = save(
        "comparison", "Histogram of the drops of both models under ablation of one component", "SVG", key="Enter"
    )
    assert name.endswith("drops.svg")
    told = words(text)
    assert "share of components, %" in told and "Teacher" in told
    assert "http" not in text.replace("http://www.w3.org", "")


def test_similarity_says_what_is_matched(save, comparison):
    text, _ = save("comparison", "Heatmap of the similarity of teacher and student components", "CSV", key="Space")
    head, *body = rows(text)
    assert head == ["teacher", "student", "similarity", "matched pair"]
    assert len(body) == comparison.similarity.head.size
    matched = {(t, s) for t, s, _, is_matched in body if is_matched == "yes"}
    heads = [p for p in comparison.alignment.pairs if p.teacher.kind == "head"]
    assert matched == {(str(p.teacher), str(p.student)) for p in heads}


def test_tokens_with_commas_quotes_and_line_ends_are_quoted(save, comparison):
    strongest = max(
        (p for p in comparison.alignment.pairs if p.teacher.kind == "head"), key=lambda p: p.teacher_influence
    )
    text, _ = save("comparison", f"Attention of Teacher {strongest.teacher}", "CSV")
    head, *body = rows(text)
    assert head == ["query position", "query token", "key position", "key token", "attention weight (0 to 1)"]
    assert '"a,b"' in text and '"say ""x"""' in text and '"two\nlines"' in text
    assert {row[1] for row in body[:6]} == {"a,b", 'say "x"', "two\nlines"}
    of_last = [float(row[4]) for row in body if row[0] == str(len(WORDS) - 1)]
    assert sum(of_last) == pytest.approx(1, abs=0.05)


def test_a_strip_as_csv_and_as_svg(save, comparison):
    a = comparison.alignment
    text, _ = save("comparison", "Alignment, its two factors and its nulls", "CSV")
    head, first, *_ = rows(text)
    assert head == ["quantity", "0 to 1, higher = more alike", "low (95 %)", "high (95 %)"]
    assert [float(v) for v in first[1:]] == pytest.approx([a.score, *a.interval])
    drawn, _ = save("comparison", "Alignment, its two factors and its nulls", "SVG")
    assert f"{a.score:.3f}" in words(drawn) and "Alignment" in words(drawn)
    assert drawn.count("<rect") > 10 and "rug" not in drawn


def test_students_side_by_side(save, comparison):
    text, _ = save("students", "2 students of tiny-teacher side by side on ioi", "CSV")
    head, first, *_ = rows(text)
    assert head[:3] == ["student", "measure", "value"]
    assert first[:2] == ["tiny-student", "Alignment A (0 to 1)"]
    assert float(first[2]) == pytest.approx(comparison.alignment.score)


def test_a_diagram_keeps_its_looks(save, findings):
    light, _ = save("circuit", "The circuit", "SVG")
    dark, _ = save("circuit", "The circuit", "SVG", dark=True)
    assert 'fill="rgb' in light and "class=" not in light and light != dark
    assert str(findings.circuit.components[0]) in words(light)
    text, _ = save("circuit", "The circuit", "CSV")
    head, *body = rows(text)
    assert head[:4] == ["from", "to", "input", "effect of the edge (logits)"]
    assert len(body) == len(findings.circuit.edges) + len(findings.circuit.components)


def test_figures_of_an_experiment(save):
    text, name = save("experiment", "Accuracy by condition", "CSV")
    head, *body = rows(text)
    assert head == ["condition", "seed", "full accuracy (%)", "circuit accuracy (%)", "random circuits (%)"]
    assert [row[2] for row in body if row[0] == ALL_CE] == ["70", "75", "80"]
    assert name == "big-teacher-small-student-belief-tracking-accuracy.csv"
    drawn, _ = save("experiment", "Accuracy by condition", "SVG")
    assert ALL_CE in words(drawn)
    text, _ = save("experiment", ALL_CE, "CSV")
    assert rows(text)[1] == ["0", "1", "3"]


def test_buttons_need_no_pointer_and_are_not_printed(opened, folder):
    tab = opened(folder / "experiment.html")
    button = tab.get_by_role("button", name="Save as CSV: Accuracy by condition")
    button.focus()
    assert button.evaluate("element => document.activeElement === element")
    tab.emulate_media(media="print")
    assert button.is_hidden()
