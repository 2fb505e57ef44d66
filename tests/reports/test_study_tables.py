"""Tables of a study as Markdown, CSV and LaTeX, character by character."""

from __future__ import annotations

import csv
import io

import pytest

from circuitkd.comparison.performance import Estimate
from circuitkd.reports.study_tables import cell_text, text_rows, to_csv, to_latex, to_markdown
from circuitkd.studies.tables import Table

NAN = float("nan")
TABLE = Table(
    "a-name",
    "50 % & more_of #1 {x} ~ ^ \\ $",
    ("pair", "score", "drop %", "n"),
    (("a|b", Estimate(0.12345, 0.1, 0.2), 1.0, 3), ("c_d & 5 %", Estimate(0.5, NAN, NAN), "", 4)),
    "A note.",
    2,
)


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Estimate(0.12345, 0.1, 0.2), "0.12 [0.10, 0.20]"),
        (Estimate(0.12345, NAN, NAN), "0.12"),
        (Estimate(NAN, NAN, NAN), "n/a"),
        (Estimate(NAN, 0.1, 0.2), "[0.10, 0.20]"),
        (-0.001, "0.00"),
        (7, "7"),
        ("text", "text"),
    ],
)
def test_cells(cell, text):
    assert cell_text(cell, 2) == text


def test_rows_and_markdown():
    assert text_rows(TABLE)[0] == {"pair": "a|b", "score": "0.12 [0.10, 0.20]", "drop %": "1.00", "n": "3"}
    text = to_markdown(TABLE)
    assert text.startswith("## 50 % & more_of #1 {x} ~ ^ \\ $\n\n| pair | score | drop % | n |\n| --- |")
    assert "| a\\|b | 0.12 [0.10, 0.20] | 1.00 | 3 |\n" in text and text.endswith("\nA note.\n")


def test_csv_has_every_digit_and_the_ends_of_intervals():
    rows = list(csv.reader(io.StringIO(to_csv(TABLE))))
    assert rows == [
        ["pair", "score", "score low", "score high", "drop %", "n"],
        ["a|b", "0.12345", "0.1", "0.2", "1.0", "3"],
        ["c_d & 5 %", "0.5", "", "", "", "4"],
    ]


def test_a_cell_of_text_in_a_column_of_estimates():
    table = Table("x", "x", ("drop",), ((Estimate(1.0, 0.5, 2.0),), ("",)))
    assert list(csv.reader(io.StringIO(to_csv(table))))[2] == ["", "", ""]


def test_latex_is_escaped():
    text = to_latex(TABLE)
    caption = r"\caption{50 \% \& more\_of \#1 \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{} \$}"
    assert caption in text and r"\label{tab:a-name}" in text
    assert r"pair & score & drop \% & n \\" in text
    assert r"c\_d \& 5 \% & 0.50 &  & 4 \\" in text and r"\bottomrule" in text
