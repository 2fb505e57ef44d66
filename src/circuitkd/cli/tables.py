"""Comparisons and selections as tables for the terminal, and the line that says what stands out in them.

A line says no more than its numbers show: "more than by chance" needs a score that at most 5 % of the shuffles reach,
"more fragile" a slope (without one, a difference of mean drops) whose interval is above 0, and neither is said of a
task that a model is not shown to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.table import Table

from circuitkd.cli.terminal import table
from circuitkd.comparison.kept import best_matches
from circuitkd.comparison.noise import NoiseCurve
from circuitkd.comparison.result import Comparison, MatchedPair
from circuitkd.reports.tables import variant_rows
from circuitkd.reports.wording import SHARE_REACHED, bracket, drop_difference, estimate, fixed, short_names
from circuitkd.selection import Selection

PAIRS = 8
COLUMNS = (
    "task",
    "alignment\n[95 %]",
    "simi-\nlarity",
    "agree-\nment",
    "null\nmean",
    "logit\ndifference",
    "accuracy\n%",
    "mean\ndrop %",
)
NOTE = (
    "Two values: teacher / student. Null: influences shuffled.\n"
    "Drop: of the logit difference when one component is ablated, mean over components."
)


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """One row for each comparison of a pair."""
    names = short_names(comparisons[0].teacher.name, comparisons[0].student.name)
    return table(
        f"{' → '.join(names)}, {_examples(comparisons)}",
        COLUMNS,
        [_row(c) for c in comparisons],
        caption=NOTE,
    )


def _examples(comparisons: Sequence[Comparison]) -> str:
    counts = sorted({c.performance.n for c in comparisons})
    return f"{'-'.join(map(str, (counts[0], counts[-1]) if len(counts) > 1 else counts))} examples"


def _row(c: Comparison) -> tuple[str, ...]:
    alignment, performance, robustness = c.alignment, c.performance, c.robustness
    accuracy = [100 * float(s.accuracy.mean()) for s in (c.teacher_sweep, c.student_sweep)]
    return (
        c.task,
        f"{fixed(alignment.score, 3)} {bracket(*alignment.interval)}",
        fixed(alignment.mean_similarity, 3),
        fixed(alignment.mean_agreement, 3),
        fixed(alignment.null.shuffled_mean, 3),
        _both(performance.teacher.value, performance.student.value, 2),
        _both(accuracy[0], accuracy[1], 0),
        _both(robustness.teacher.mean_drop, robustness.student.mean_drop, 1),
    )


def _both(teacher: float, student: float, digits: int) -> str:
    return f"{fixed(teacher, digits)} / {fixed(student, digits)}"


def pairs_table(comparison: Comparison) -> Table:
    """What became of the teacher's most influential components."""
    active = [p for p in best_matches(comparison.alignment.pairs).values() if p.teacher_influence > 0]
    shown = sorted(active, key=lambda p: -p.teacher_influence)[:PAIRS]
    return table(
        f"The teacher's {len(shown)} most influential components and their matches",
        ("teacher", "student", "similarity", "influence", "the match's", "contribution"),
        [(str(p.teacher), str(p.student), *(fixed(v) for v in _numbers(p))) for p in shown],
        left=2,
    )


def _numbers(p: MatchedPair) -> tuple[float, ...]:
    return p.similarity, p.teacher_influence, p.student_influence, p.contribution


def variants_table(comparisons: Sequence[Comparison]) -> Table | None:
    """How other definitions of alignment order these comparisons; None where there is only one."""
    rows = variant_rows(comparisons)
    if not rows:
        return None
    return table(
        f"Definitions of alignment over these {len(comparisons)} comparisons, against the first",
        tuple(rows[0]),
        [tuple(row.values()) for row in rows],
        caption="After DC Appendix M.",
    )


def notebook_line(comparison: Comparison) -> str:
    """The preset's score and its factors, if it was asked for."""
    if comparison.notebook is None:
        return ""
    found = comparison.notebook.score
    numbers = fixed(found.score, 3), fixed(found.mean_similarity, 3), fixed(found.mean_agreement, 3)
    return (
        f"{comparison.task} by the released notebooks: {numbers[0]} (similarity {numbers[1]}, agreement {numbers[2]})"
    )


def noise_table(curve: NoiseCurve, task: str) -> Table:
    """Alignment at each standard deviation of the noise."""
    columns = (curve.mean, curve.std, curve.similarities.mean(axis=1), curve.agreements.mean(axis=1))
    return table(
        f"{task}: the student disturbed by Gaussian noise, {len(curve.seeds)} draw{'s' if len(curve.seeds) > 1 else ''}",
        ("std", "alignment", "± over seeds", "similarity", "agreement"),
        [(f"{std:g}", *(fixed(float(v), 3) for v in row)) for std, *row in zip(curve.stds, *columns, strict=True)],
    )


def selection_table(selection: Selection) -> Table:
    """Students, the best first, with their rank by each criterion."""
    names = short_names(*(c.name.removeprefix("zoo:") for c in selection.candidates))
    rows = [
        (
            name,
            f"{c.parameter_count / 1e6:.2f}",
            estimate(c.performance),
            fixed(100 * c.accuracy, 0),
            f"{fixed(c.alignment.value, 3)} {bracket(c.alignment.low, c.alignment.high)}",
            f"{fixed(c.mean_drop.value, 1)} {bracket(c.mean_drop.low, c.mean_drop.high, digits=1)}",
            " ".join(map(str, c.ranks.values())),
        )
        for name, c in zip(names, selection.candidates, strict=True)
    ]
    return table(
        f"Students of {short_names(selection.teacher)[0]} on {selection.task}, {selection.examples} examples, the best first",
        (
            "student",
            "million\nparam.",
            "logit diff.\n[95 %]",
            "acc.\n%",
            "alignment\n[95 %]",
            "mean drop %\n[95 %]",
            "ranks\nP A R",
        ),
        rows,
        caption=f"Ordered by {selection.by}; within the leader's interval by the next criterion.\n"
        f"P A R: rank by performance, alignment and robustness alone. The teacher: logit difference "
        f"{estimate(selection.teacher_performance)}, accuracy {fixed(100 * selection.teacher_accuracy, 0)} %.",
    )


def stands_out(comparisons: Sequence[Comparison]) -> str:
    """What the numbers of one pair over several tasks show, in a sentence."""
    done = [c for c in comparisons if _can_do(c)]
    parts = []
    if done:
        parts += [f"influences agree more than by chance on {_count(done, _agrees)}{_span(done)}"]
        parts += [f"the student is shown to be weaker on {_count(done, lambda c: c.performance.gap.low > 0)}"]
        parts += [f"more fragile on {_count(done, _is_more_fragile)}"]
    for side in ("teacher", "student"):
        undone = [c.task for c in comparisons if not getattr(c.performance, side).low > 0]
        parts += [f"the {side} is not shown to do {', '.join(undone)}"] if undone else []
    text = f"{'; '.join(parts)}."
    return text[0].upper() + text[1:]


def _can_do(c: Comparison) -> bool:
    return c.performance.teacher.low > 0 and c.performance.student.low > 0


def _agrees(c: Comparison) -> bool:
    return c.alignment.null.shuffled_share_at_least <= SHARE_REACHED


def _is_more_fragile(c: Comparison) -> bool:
    return drop_difference(c.robustness)[0] > 0


def _span(comparisons: Sequence[Comparison]) -> str:
    if len(comparisons) < 2:
        return ""
    low, high = (choose(comparisons, key=lambda c: c.alignment.score) for choose in (min, max))
    ends = [f"{c.task} {fixed(c.alignment.score, 3)}" for c in (low, high)]
    return f" (alignment from {ends[0]} to {ends[1]})"


def _count(comparisons: Sequence[Comparison], holds: Callable[[Comparison], bool]) -> str:
    return f"{sum(map(holds, comparisons))} of {len(comparisons)} tasks"
