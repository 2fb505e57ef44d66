"""What a distillation experiment shows, in sentences that say no more than its numbers: a difference is "higher" or "lower"
only where `distill.differences` calls it shown, and what is not shown is said to be so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from circuitkd.distill.differences import LEAST_SEEDS, Difference, difference, differences, main_condition
from circuitkd.distill.experiment_result import BASELINES, DistillationRun, ExperimentResult
from circuitkd.reports.strips import Mark, Strip, axis_for
from circuitkd.reports.wording import bracket, fixed, percent

SHORT = {
    BASELINES[0]: "training all parameters by CE",
    BASELINES[1]: "training the circuit by CE",
}

ACCURACY = {"no": "is not shown to differ from", "higher": "is better than", "lower": "is worse than"}
DROP = {
    "no": "is not shown to differ in robustness from one after",
    "higher": "is more fragile than after",
    "lower": "is less fragile than after",
}


def headline(result: ExperimentResult) -> str:
    """Whether training the circuit helped, and what it did to robustness: verdicts and means, without intervals."""
    condition = main_condition(result)
    baselines = [b for b in BASELINES if b in result.conditions and b != condition]
    if not baselines:
        return f"There is no baseline to hold “{condition}” against: the table has what was measured."
    accuracy = [difference(result, condition, baseline=b, measure="full") for b in baselines]
    drop = [difference(result, condition, baseline=b, measure="mean drop") for b in baselines]
    return " ".join((_accuracy_sentence(result, accuracy), _drop_sentence(result, drop), *_few_seeds(accuracy[0])))


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign, as in "+1.2"."""
    text = fixed(value, digits)
    return f"+{text}" if text != "n/a" and float(text) > 0 else text


def difference_text(d: Difference) -> str:
    """A difference with its interval and p-value, as in "+1.2 [-0.8, 3.2], p 0.45"."""
    text = signed(d.mean)
    if d.interval is not None:
        text += f" {bracket(*d.interval, digits=1)}"
    return text if d.p_value is None else f"{text}, p {fixed(d.p_value, 3)}"


def difference_strip(result: ExperimentResult, *, measure: str) -> Strip:
    """The main condition minus the others in accuracy ("full") or in the mean drop, on an axis with 0."""
    assert measure in ("full", "mean drop")
    found = differences(result, main_condition(result), measure="full" if measure == "full" else "mean drop")
    marks = [Mark(f"− {d.baseline}", d.mean, "gap", difference_text(d), d.interval, note=_verdict(d)) for d in found]
    values = [v for m in marks for v in (m.value, *(m.interval or ()))]
    what = "accuracy" if measure == "full" else "mean drop"
    return Strip(tuple(marks), axis_for([*values, 0.0]), f"difference in {what}, percent points")


def untouched(result: ExperimentResult) -> str:
    """What the runs that trained a circuit left as it was."""
    runs = [r.untouched for r in result.runs if r.untouched is not None]
    if not runs:
        return "No condition trained a circuit alone, so there was nothing to leave untouched."
    same = sum(u.identical for u in runs)
    values = f"{runs[0].values:,}".replace(",", " ")
    if same == len(runs):
        return (
            f"In all {len(runs)} runs that trained a circuit, the {values} values outside it are bit for bit what they "
            "were: the SHA-256 of them is the same before and after training."
        )
    return (
        f"In {len(runs) - same} of {len(runs)} runs that trained a circuit, values outside it changed: do not use them."
    )


def trained(result: ExperimentResult) -> str:
    """Which heads were trained towards which, and how much of the student that is."""
    first = result.of(main_condition(result))[0]
    return (
        f"{len(result.heads)} heads of the student ({fixed(100 * first.head_share, 0)} % of its heads, "
        f"{fixed(100 * first.parameter_share, 1)} % of its parameters) are trained towards {result.head_map.distinct} "
        f"different head{'s' if result.head_map.distinct > 1 else ''} of the teacher."
    )


def _accuracy_sentence(result: ExperimentResult, found: Sequence[Difference]) -> str:
    what = f"Training “{found[0].condition}”"
    verdicts = {
        "no": f"{what} is not shown to help or harm",
        "higher": f"{what} helps",
        "lower": f"{what} harms",
        "mixed": f"{what} {_each(found, ACCURACY)}",
    }
    return f"{verdicts[_shared(found)]}: {_means(result, found, 'accuracy', lambda r: 100 * float(r.accuracy.full.mean()))}."


def _drop_sentence(result: ExperimentResult, found: Sequence[Difference]) -> str:
    verdicts = {
        "no": "The student’s robustness is not shown to differ",
        "higher": "It leaves the student more fragile",
        "lower": "It leaves the student less fragile",
        "mixed": f"The student {_each(found, DROP)}",
    }
    return f"{verdicts[_shared(found)]}: {_means(result, found, 'a mean drop of', lambda r: r.mean_drop)}."


def _shared(found: Sequence[Difference]) -> str:
    shown = {d.shown for d in found}
    return shown.pop() if len(shown) == 1 else "mixed"


def _each(found: Sequence[Difference], words: Mapping[str, str]) -> str:
    return " and ".join(f"{words[d.shown]} {SHORT[d.baseline]}" for d in found)


def _means(
    result: ExperimentResult, found: Sequence[Difference], what: str, value: Callable[[DistillationRun], float]
) -> str:
    def mean(condition: str) -> str:
        return percent(float(np.mean([value(r) for r in result.of(condition)])))

    others = " and ".join(f"{mean(d.baseline)} after {SHORT[d.baseline]}" for d in found)
    return f"{what} {mean(found[0].condition)}, {others}"


def _few_seeds(d: Difference) -> tuple[str, ...]:
    n = len(d.values)
    if n >= LEAST_SEEDS:
        return ()
    return (f"{n} seed{'s are' if n > 1 else ' is'} too few to show a difference: {LEAST_SEEDS} are needed.",)


def _verdict(d: Difference) -> str:
    return {"no": "not shown", "higher": "higher", "lower": "lower"}[d.shown]
