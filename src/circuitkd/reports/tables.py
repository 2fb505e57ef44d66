"""Comparisons as rows of text, for the terminal, for Markdown and for the overview of the page.

One row is one comparison. Where a cell gives both models, the teacher comes first. Intervals are 95 %.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from circuitkd.comparison.kept import Kept, kept_components
from circuitkd.comparison.performance import gap_correlation
from circuitkd.comparison.result import Comparison, MatchedPair
from circuitkd.comparison.variants import BASELINE, compare_variants
from circuitkd.reports.wording import estimate, fixed, percent, short_names, with_interval

Row = dict[str, str]


@dataclass(frozen=True)
class Data:
    """A figure's numbers, for the file that a reader saves: names with units, and rows of text, numbers and None."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]

    @property
    def json(self) -> str:
        """As {"columns", "rows"}; components are spelled out, and what is no number is null."""
        rows = [[_plain(value) for value in row] for row in self.rows]
        return json.dumps({"columns": self.columns, "rows": rows}, separators=(",", ":"), ensure_ascii=False)


def overview_rows(comparisons: Sequence[Comparison]) -> list[Row]:
    """One row of text for each comparison, all with the same keys in the same order.

    Keys: pair (left out where all are of one pair), task, kept, mean drop, alignment, similarity, agreement, shuffled
    null, random student, logit difference, accuracy, gap. Units: logits for the logit difference and its gap,
    percent for accuracy and drops.
    """
    several = len({pair_name(c) for c in comparisons}) > 1
    return [({"pair": pair_name(c)} if several else {}) | _row(c) for c in comparisons]


def pair_name(comparison: Comparison) -> str:
    """The two models, as in "gpt2 → distilgpt2"."""
    return " → ".join(short_names(comparison.teacher.name, comparison.student.name))


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows with the same keys as a Markdown table; nothing in a cell is read as markup. No rows give an empty
    text."""
    if not rows:
        return ""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([row[c] for c in columns] for row in rows)]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def correlation_note(comparisons: Sequence[Comparison]) -> str:
    """How alignment goes with the performance gap over the tasks of one pair; empty below three tasks or where
    one of the two is the same for all."""
    if len({pair_name(c) for c in comparisons}) != 1:
        return ""
    scores = [c.alignment.score for c in comparisons]
    gaps = [c.performance.gap.value for c in comparisons]
    if len(scores) < 3 or np.ptp(scores) == 0 or np.ptp(gaps) == 0:
        return ""
    found = gap_correlation(scores, gaps)
    return (
        f"Over these {found.n} comparisons, alignment and the gap in logit difference have a rank correlation "
        f"(Spearman) of {fixed(found.spearman)} and a linear one (Pearson) of {fixed(found.pearson)}; so few have no "
        "useful interval."
    )


def variant_rows(comparisons: Sequence[Comparison]) -> list[Row]:
    """How each definition of alignment of DC Table 5 orders these comparisons, against the paper's (Appendix M).

    Keys: variant, mean, Spearman, same order (share of pairs of comparisons), mean and worst |difference|. No rows
    below two comparisons.
    """
    if len(comparisons) < 2:
        return []
    names = [BASELINE, *(name for name in comparisons[0].variants if name != BASELINE)]
    table = np.array([[c.variants[name] for c in comparisons] for name in names])
    found = compare_variants(table)
    return [
        {
            "variant": name,
            "mean": fixed(float(table[i].mean()), 3),
            "Spearman": fixed(float(found.spearman[i])),
            "same order": percent(100 * float(found.order_agreement[i]), 0),
            "mean |difference|": fixed(float(found.mean_difference[i]), 3),
            "worst |difference|": fixed(float(found.worst_difference[i]), 3),
        }
        for i, name in enumerate(names)
    ]


def _row(c: Comparison) -> Row:
    alignment, null = c.alignment, c.alignment.null
    accuracy = [percent(100 * float(np.mean(s.accuracy)), 0) for s in (c.teacher_sweep, c.student_sweep)]
    return {
        "task": c.task,
        "kept": kept_text(kept_components(c)),
        "mean drop": f"{percent(c.robustness.teacher.mean_drop)} / {percent(c.robustness.student.mean_drop)}",
        "alignment": with_interval(alignment.score, alignment.interval, digits=3),
        "similarity": fixed(alignment.mean_similarity, 3),
        "agreement": with_interval(alignment.mean_agreement, alignment.agreement_interval, digits=3),
        "shuffled null": with_interval(null.shuffled_mean, null.shuffled_interval, digits=3),
        "random student": fixed(null.random_score, 3),
        "logit difference": f"{fixed(c.performance.teacher.value)} / {fixed(c.performance.student.value)}",
        "accuracy": " / ".join(accuracy),
        "gap": estimate(c.performance.gap),
    }


def kept_text(kept: Kept | None) -> str:
    """How many of the teacher's influential components are kept, as in "3 of 5"."""
    return "n/a" if kept is None else f"{kept.count} of {len(kept.components)}"


def pair_data(pairs: Sequence[MatchedPair]) -> Data:
    """Matched pairs with their numbers."""
    columns = (
        "teacher",
        "student",
        "similarity",
        "teacher influence",
        "student influence",
        "agreement",
        "contribution",
    )
    rows = (
        (p.teacher, p.student, p.similarity, p.teacher_influence, p.student_influence, p.agreement, p.contribution)
        for p in pairs
    )
    return Data(columns, tuple(rows))


def _plain(value: object) -> object:
    if isinstance(value, float | int):
        return value if math.isfinite(value) else None
    return value if value is None else str(value)


def _cell(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return " ".join(escaped.split())
