from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from circuitkd.cli import tables
from circuitkd.cli.terminal import WIDTH, table
from circuitkd.comparison.alignment import PairScore
from circuitkd.comparison.noise import NoiseCurve
from circuitkd.comparison.notebook_preset import NotebookAlignment
from circuitkd.comparison.performance import Estimate
from circuitkd.selection import rank_students
from synthetic_comparison import synthetic

ONE = synthetic(examples=6)


def drawn(what, width=WIDTH):
    console = Console(width=width, file=io.StringIO())
    console.print(what)
    return console.file.getvalue()


def test_a_row_holds_the_comparisons_numbers():
    text = drawn(tables.comparison_table([ONE]))
    assert "tiny-teacher → tiny-student, 6 examples" in text
    row = next(line for line in text.splitlines() if line.startswith("ioi"))
    low, high = ONE.alignment.interval
    for cell in (
        f"{ONE.alignment.score:.3f} [{low:.2f}, {high:.2f}]",
        f"{ONE.alignment.mean_similarity:.3f}",
        f"{ONE.alignment.mean_agreement:.3f}",
        f"{ONE.alignment.null.shuffled_mean:.3f}",
        f"{ONE.performance.teacher.value:.2f} / {ONE.performance.student.value:.2f}",
        f"{100 * ONE.teacher_sweep.accuracy.mean():.0f} / {100 * ONE.student_sweep.accuracy.mean():.0f}",
        f"{ONE.robustness.teacher.mean_drop:.1f} / {ONE.robustness.student.mean_drop:.1f}",
    ):
        assert cell in row


def test_it_fits_a_hundred_columns():
    long = replace(ONE, task="entity-tracking-object-first")
    text = drawn(tables.comparison_table([long, ONE]))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "…" not in text
    assert "entity-tracking-obj" in text


def test_names_are_no_markup():
    text = drawn(table("", ("name", "value"), [("[bold]x[/bold] :smile:", "[1, 2]")]))
    assert "[bold]x[/bold] :smile:" in text
    assert "[1, 2]" in text


def test_pairs_are_the_most_influential_ones():
    text = drawn(tables.pairs_table(ONE))
    top = max(ONE.alignment.pairs, key=lambda p: p.teacher_influence)
    first = text.splitlines()[3].split()
    assert first[:2] == [str(top.teacher), str(top.student)]
    assert first[3] == "1.00"
    assert "The teacher's 8 most influential components" in text
    silent = replace(top, teacher_influence=0.0)
    one = replace(ONE, alignment=replace(ONE.alignment, pairs=(top, silent)))
    assert "The teacher's 1 most influential" in drawn(tables.pairs_table(one))


def test_noise():
    scores = np.array([[0.9, 0.7], [0.5, 0.3]])
    text = drawn(tables.noise_table(NoiseCurve((0.0, 2.0), (0, 1), scores, scores, scores / 2), "ioi"))
    assert text.startswith("ioi: the student disturbed by Gaussian noise, 2 draws")
    assert text.splitlines()[3].split() == ["0", "0.800", "0.100", "0.800", "0.400"]
    assert text.splitlines()[4].split() == ["2", "0.400", "0.100", "0.400", "0.200"]


def test_the_notebooks_line():
    assert tables.notebook_line(ONE) == ""
    empty = np.zeros(0)
    preset = NotebookAlignment(PairScore(0.9, 0.95, 0.94), empty, empty, empty, empty, empty)
    assert tables.notebook_line(replace(ONE, notebook=preset)) == (
        "ioi by the released notebooks: 0.900 (similarity 0.950, agreement 0.940)"
    )


def test_a_selection():
    other = replace(ONE, student=replace(ONE.student, name="second"))
    text = drawn(tables.selection_table(rank_students([ONE, other])))
    assert max(map(len, text.splitlines())) <= WIDTH
    rows = [line for line in text.splitlines() if line.startswith(("tiny-student", "second"))]
    assert [row.split()[0] for row in rows] == ["tiny-student", "second"]
    assert all(row.rstrip().endswith("1 1 1") for row in rows)
    assert "Ordered by performance" in text


def judged(task, *, agrees=True, gap=1.0, slope=1.0, student=2.0, score=0.8):
    """A comparison in which each finding holds or does not: bounds above or below 0."""
    made = synthetic(task, examples=6)
    share = 0.01 if agrees else 0.5
    return replace(
        made,
        alignment=replace(
            made.alignment, score=score, null=replace(made.alignment.null, shuffled_share_at_least=share)
        ),
        performance=replace(
            made.performance,
            gap=Estimate(gap, gap - 0.5, gap + 0.5),
            student=Estimate(student, student - 1, student + 1),
        ),
        robustness=replace(made.robustness, slope=replace(made.robustness.slope, interval=(slope - 0.5, slope + 0.5))),
    )


def test_what_stands_out():
    found = tables.stands_out([judged("ioi", score=0.7), judged("qa", agrees=False, gap=0.2), judged("x", slope=0.3)])
    assert found == (
        "Influences agree more than by chance on 2 of 3 tasks (alignment from ioi 0.700 to qa 0.800); the student is "
        "shown to be weaker on 2 of 3 tasks; more fragile on 2 of 3 tasks."
    )


def test_a_student_of_equal_size_can_be_more_fragile():
    first = judged("ioi")
    sides = replace(first.robustness, slope=None, teacher=replace(first.robustness.teacher, interval=(2.0, 4.0)))
    for low, says in ((4.1, "more fragile on 1 of 1 tasks"), (3.9, "more fragile on 0 of 1 tasks")):
        student = replace(sides.student, interval=(low, 6.0))
        assert says in tables.stands_out([replace(first, robustness=replace(sides, student=student))])


def test_nothing_is_said_of_a_task_that_is_not_done():
    found = tables.stands_out([judged("ioi"), judged("IOI-hard", student=0.5)])
    assert found.startswith("Influences agree more than by chance on 1 of 1 tasks; ")
    assert found.endswith("; the student is not shown to do IOI-hard.")
    assert tables.stands_out([judged("a", student=0.5)]) == "The student is not shown to do a."


@pytest.mark.parametrize(("counts", "text"), [((6,), "6 examples"), ((6, 8), "6-8 examples")])
def test_counts_of_examples(counts, text):
    comparisons = [synthetic(examples=n) for n in counts]
    assert f"tiny-student, {text}" in drawn(tables.comparison_table(comparisons))
