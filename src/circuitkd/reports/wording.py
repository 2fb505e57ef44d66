"""Numbers and findings in words: how a value is printed, and the sentences that a comparison allows.

A sentence says no more than its numbers show. "More fragile" needs an interval of the difference (or two
intervals) apart from zero, "agree" needs a score that at most 5 % of the shuffles reach, and neither is said of a
model that is not shown to do the task at all (the interval of its logit difference reaches 0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from circuitkd.comparison.kept import kept_components
from circuitkd.comparison.performance import Estimate
from circuitkd.comparison.result import Comparison, Null, Robustness

SHARE_REACHED = 0.05
_SPACES = str.maketrans({"Ġ": " ", "▁": " ", "Ċ": "⏎", "\n": "⏎"})


def fixed(value: float | None, digits: int = 2) -> str:
    """A number with `digits` decimals, "n/a" for NaN and None, never "-0.00"."""
    if value is None or not math.isfinite(value):
        return "n/a"
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def percent(value: float | None, digits: int = 1) -> str:
    """A number of percent points with its sign, as in "12.2 %"."""
    text = fixed(value, digits)
    return text if text == "n/a" else f"{text} %"


def count(number: int) -> str:
    """A large number in short, as in "124.4 M"."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= size:
            return f"{number / size:.1f} {letter}"
    return str(number)


def bracket(low: float, high: float, *, digits: int = 2) -> str:
    """An interval, as in "[0.84, 0.90]"."""
    return f"[{fixed(low, digits)}, {fixed(high, digits)}]"


def with_interval(value: float, interval: Sequence[float], *, digits: int = 2) -> str:
    """A value and its interval, as in "0.87 [0.84, 0.90]"."""
    return f"{fixed(value, digits)} {bracket(*interval, digits=digits)}"


def estimate(value: Estimate, *, digits: int = 2) -> str:
    """An estimate and its interval, as in "6.12 [5.80, 6.41]"."""
    return with_interval(value.value, (value.low, value.high), digits=digits)


def short_names(*names: str) -> tuple[str, ...]:
    """Last parts of folder names and hub ids, or the full names where the last parts do not tell them apart."""
    last = tuple(name.rstrip("/").rsplit("/", 1)[-1] or name for name in names)
    return last if len(set(last)) == len(set(names)) else names


def place_names(positions: Sequence[str]) -> tuple[str, ...]:
    """Names of positions in a prompt as people read them: tokens without their spelling of spaces and line ends, and
    the number of a position in brackets where its token differs from prompt to prompt."""
    shown = []
    for i, name in enumerate(positions):
        plain = name.translate(_SPACES).strip()
        shown.append(f"({i})" if name == str(i) else plain or "␣")
    return tuple(shown)


def headline(comparison: Comparison) -> str:
    """One sentence: what the student kept of the teacher, and how fragile it is."""
    undone = _not_shown_to_do(comparison)
    if undone:
        return undone
    return f"{_kept(comparison)}, and {_fragility(comparison.robustness)}."


def kept_sentence(comparison: Comparison) -> str:
    """How many of the teacher's influential components the student kept; empty where that is not known or says little."""
    kept = kept_components(comparison)
    if kept is None or not kept.components or _not_shown_to_do(comparison):
        return ""
    number = len(kept.components)
    return (
        f"Of the teacher’s {number} influential component{'s' if number > 1 else ''} the student keeps {kept.count} "
        f"({fixed(kept.expected, 1)} by chance)."
    )


def reached(null: Null) -> str:
    """How many shuffles reach the score, as in "1 % of 200 shuffles reach it"."""
    share, draws = null.shuffled_share_at_least, len(null.shuffled_scores)
    if not draws or not math.isfinite(share):
        return "no shuffles were drawn"
    if share == 0:
        return f"none of {draws} shuffles reaches it"
    return f"{fixed(100 * share, 1).removesuffix('.0')} % of {draws} shuffles reach it"


def strongest(comparison: Comparison) -> str:
    """What became of the teacher's most influential matched component."""
    pairs = comparison.alignment.pairs
    if not pairs:
        return "No components are matched."
    pair = max(pairs, key=lambda p: (p.teacher_influence, p.weight))
    if pair.teacher_influence <= 0:
        return "No matched component of the teacher has any influence on this task."
    return (
        f"The teacher’s most influential matched component, {pair.teacher}, is matched to the student’s {pair.student} "
        f"(similarity {fixed(pair.similarity)}); its influence is {fixed(pair.teacher_influence)}, that of "
        f"{pair.student} {fixed(pair.student_influence)}."
    )


def slope_text(robustness: Robustness) -> str:
    """The slope per 0.1 of compression with its interval, or why there is none."""
    if robustness.slope is None:
        return "No slope: the student has no fewer parameters than the teacher (bits for each are not counted)."
    mean, low, high = robustness.slope.per_tenth
    return (
        f"{with_interval(mean, (low, high))} points of extra drop per 0.1 of compression "
        f"(the student has {percent(100 * robustness.slope.compression)} fewer parameters)."
    )


def drop_difference(robustness: Robustness) -> tuple[float, float]:
    """An interval with the sign of the student's mean drop minus the teacher's: the slope's, or without a slope the
    difference of the two intervals."""
    if robustness.slope is not None:
        return robustness.slope.interval
    teacher, student = robustness.teacher.interval, robustness.student.interval
    return student[0] - teacher[1], student[1] - teacher[0]


def warnings(comparison: Comparison) -> tuple[str, ...]:
    """All warnings once each: those of the comparison, then those of the sweeps with the model they are about."""
    known = comparison.warnings
    sides = ("teacher", comparison.teacher_sweep), ("student", comparison.student_sweep)
    found = [f"{side}: {w}" for side, sweep in sides for w in sweep.warnings if not any(w in k for k in known)]
    return tuple(dict.fromkeys([*known, *found]))


def _not_shown_to_do(comparison: Comparison) -> str:
    sides = ("teacher", comparison.performance.teacher), ("student", comparison.performance.student)
    weak = [(side, value) for side, value in sides if not value.low > 0]
    if not weak:
        return ""
    values = " and ".join(f"the {side} ({estimate(value)})" for side, value in weak)
    return (
        f"No logit difference above 0 is shown for {values}, so influences, drops and the alignment of "
        f"{fixed(comparison.alignment.score, 3)} say little about this task."
    )


def _kept(comparison: Comparison) -> str:
    null = comparison.alignment.null
    score, chance = fixed(comparison.alignment.score, 3), fixed(null.shuffled_mean, 3)
    if null.shuffled_share_at_least <= SHARE_REACHED:
        verdict = "Matched components agree in influence more than shuffled ones"
    else:
        verdict = "Matched components are not shown to agree in influence more than shuffled ones"
    # A student that learnt nothing and still scores as high takes the meaning from the score: say it first of all.
    untrained = null.random_score is not None and null.random_score >= comparison.alignment.interval[0]
    also = f"; an untrained student scores {fixed(null.random_score, 3)}" if untrained else ""
    return f"{verdict} (alignment {score} against {chance}; {reached(null)}{also})"


def _fragility(robustness: Robustness) -> str:
    teacher, student = robustness.teacher, robustness.student
    low, high = drop_difference(robustness)
    drops = (
        f"{percent(student.mean_drop)} of its logit difference on average, {percent(teacher.mean_drop)} in the teacher"
    )
    if low > 0:
        return f"the student is more fragile: losing one component costs it {drops}"
    if high < 0:
        return f"the student is less fragile: losing one component costs it {drops}"
    return f"no difference in fragility is shown: losing one component costs the student {drops}"
