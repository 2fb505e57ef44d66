"""Overview rows hold the numbers of the comparisons; Markdown shows any text as text."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from circuitkd.comparison.kept import kept_components
from circuitkd.comparison.variants import BASELINE, VARIANTS, compare_variants
from circuitkd.components import Component
from circuitkd.reports.tables import (
    Data,
    correlation_note,
    kept_text,
    markdown,
    overview_rows,
    pair_data,
    pair_name,
    variant_rows,
)
from synthetic_comparison import synthetic


@pytest.fixture(scope="module")
def tasks():
    return [synthetic(task, seed=seed) for seed, task in enumerate(["ioi", "numeral-sequence", "greater-than"])]


def test_a_row_holds_the_numbers(tasks):
    c = tasks[1]
    a, null, p, r = c.alignment, c.alignment.null, c.performance, c.robustness
    row = overview_rows(tasks)[1]
    assert row == {
        "task": "numeral-sequence",
        "kept": "1 of 2",
        "mean drop": f"{r.teacher.mean_drop:.1f} % / {r.student.mean_drop:.1f} %",
        "alignment": f"{a.score:.3f} [{a.interval[0]:.3f}, {a.interval[1]:.3f}]",
        "similarity": f"{a.mean_similarity:.3f}",
        "agreement": f"{a.mean_agreement:.3f} [{a.agreement_interval[0]:.3f}, {a.agreement_interval[1]:.3f}]",
        "shuffled null": f"{null.shuffled_mean:.3f} [{null.shuffled_interval[0]:.3f}, {null.shuffled_interval[1]:.3f}]",
        "random student": "0.610",
        "logit difference": f"{p.teacher.value:.2f} / {p.student.value:.2f}",
        "accuracy": f"{100 * c.teacher_sweep.accuracy.mean():.0f} % / {100 * c.student_sweep.accuracy.mean():.0f} %",
        "gap": f"{p.gap.value:.2f} [{p.gap.low:.2f}, {p.gap.high:.2f}]",
    }
    assert list(row)[:4] == ["task", "kept", "mean drop", "alignment"]


def test_the_pair_is_named_where_there_are_several(tasks):
    other = replace(tasks[0], student=replace(tasks[0].student, name="org/other"))
    assert [row["pair"] for row in overview_rows([tasks[0], other])] == [
        "tiny-teacher → tiny-student",
        "tiny-teacher → other",
    ]
    assert pair_name(other) == "tiny-teacher → other"
    assert next(iter(overview_rows([tasks[0], other])[0])) == "pair"


def test_a_missing_untrained_student_is_marked(tasks):
    null = replace(tasks[0].alignment.null, random_score=None)
    without = replace(tasks[0], alignment=replace(tasks[0].alignment, null=null))
    assert overview_rows([without])[0]["random student"] == "n/a"


def test_no_comparisons_give_no_rows():
    assert overview_rows([]) == []
    assert markdown([]) == ""


def test_markdown():
    assert markdown([{"task": "ioi", "gap": "1 [0, 2]"}, {"task": "x", "gap": "3"}]) == (
        "| task | gap |\n| --- | --- |\n| ioi | 1 [0, 2] |\n| x | 3 |\n"
    )


def test_markdown_shows_any_text_as_text():
    assert markdown([{"task": "a|b\n<b>\\|"}]).splitlines()[2] == "| a\\|b &lt;b>\\\\\\| |"


def test_the_correlation_is_that_of_alignment_and_gap(tasks):
    scores = [c.alignment.score for c in tasks]
    gaps = [c.performance.gap.value for c in tasks]
    pearson = np.corrcoef(scores, gaps)[0, 1]
    spearman = np.corrcoef(np.argsort(np.argsort(scores)), np.argsort(np.argsort(gaps)))[0, 1]
    text = correlation_note(tasks)
    assert text.startswith("Over these 3 comparisons")
    assert f"(Spearman) of {spearman:.2f} " in text
    assert f"(Pearson) of {pearson:.2f};" in text


def test_too_few_equal_or_mixed_comparisons_have_no_correlation(tasks):
    other = replace(tasks[2], teacher=replace(tasks[2].teacher, name="other"))
    assert correlation_note(tasks[:2]) == ""
    assert correlation_note([tasks[0]] * 3) == ""
    assert correlation_note([*tasks[:2], other]) == ""


def test_a_figures_numbers_as_json():
    data = Data(("a (%)", "b"), ((1.5, Component.parse("L0H1")), (float("nan"), None), (np.float64(2), "x")))
    assert json.loads(data.json) == {"columns": ["a (%)", "b"], "rows": [[1.5, "L0H1"], [None, None], [2.0, "x"]]}


def test_pairs_with_their_numbers(tasks):
    pair = tasks[0].alignment.pairs[0]
    row = pair_data([pair]).rows[0]
    assert row[:4] == (pair.teacher, pair.student, pair.similarity, pair.teacher_influence)
    assert len(row) == len(pair_data([]).columns)


def test_what_is_kept_in_words(tasks):
    assert kept_text(None) == "n/a"
    kept = kept_components(tasks[0])
    assert kept_text(kept) == f"{kept.count} of {len(kept.components)}"


def test_variants_are_held_against_the_papers(tasks):
    rows = variant_rows(tasks)
    assert rows[0]["variant"] == BASELINE
    assert {row["variant"] for row in rows} == set(VARIANTS)
    assert rows[0]["Spearman"] == "1.00"
    assert rows[0]["worst |difference|"] == "0.000"
    name = rows[4]["variant"]
    table = [[c.variants[n] for c in tasks] for n in (BASELINE, name)]
    found = compare_variants(table)
    assert rows[4]["worst |difference|"] == f"{found.worst_difference[1]:.3f}"
    assert rows[4]["same order"] == f"{100 * found.order_agreement[1]:.0f} %"
    assert variant_rows(tasks[:1]) == []
