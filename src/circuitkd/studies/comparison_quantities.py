"""What study files may ask of comparisons and noise experiments (DC Tables 2 to 5, Appendices H, I, L and M, Figure 3)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from circuitkd.comparison.noise import NoiseCurve
from circuitkd.comparison.performance import Estimate
from circuitkd.comparison.resampling import interval, resampled_means
from circuitkd.comparison.result import Comparison
from circuitkd.components import Component
from circuitkd.interventions.sweep_result import SweepResult
from circuitkd.studies.measured import DRAWS, SEED, Quantity, chosen, numbered, plain, scaled, two_components


def component_drop(sweep: SweepResult, component: Component | str) -> Estimate:
    """100 (mean unablated - mean ablated) / |mean unablated| of one component, examples resampled for both."""
    effects = sweep.effect_of(component)
    samples = np.concatenate(list(resampled_means(np.stack([effects, sweep.base]), draws=DRAWS, seed=SEED)))
    base = float(sweep.base.mean())
    if not base:
        return plain(float("nan"))
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = 100 * samples[:, 0] / np.abs(samples[:, 1])
    return Estimate(100 * float(effects.mean()) / abs(base), *interval(shares))


def gap(c: Comparison) -> Estimate:
    """|teacher - student| in logits; DC prints no sign."""
    found = c.performance.gap
    return scaled(found, -1.0) if found.value < 0 else found


def drop_difference(c: Comparison) -> Estimate:
    """Student's minus teacher's mean drop; the interval is that of the slope, in points."""
    r = c.robustness
    value = r.student.mean_drop - r.teacher.mean_drop
    if r.slope is None:
        return plain(value)
    return Estimate(value, *(r.slope.compression * end for end in r.slope.interval))


def _slope(c: Comparison) -> Estimate:
    if c.robustness.slope is None:
        raise ValueError("the student is not smaller than the teacher, so there is no slope")
    return Estimate(*c.robustness.slope.per_tenth)


def _notebook(c: Comparison) -> Estimate:
    if c.notebook is None:
        raise ValueError("the comparison was made without a preset")
    return plain(c.notebook.score.score)


def _variant(c: Comparison, name: str) -> Estimate:
    names = list(c.variants)
    return plain(c.variants[names[chosen(name, names, what="variant")]])


def _mlp_similarity(c: Comparison, pair: str) -> Estimate:
    rows, columns = ([str(k) for k in s.components if k.kind == "mlp"] for s in (c.teacher_sweep, c.student_sweep))
    teacher, student = two_components(pair)
    found = c.similarity.mlp[chosen(teacher, rows, what="MLP"), chosen(student, columns, what="MLP")]
    return plain(float(found))


def _share_above(sweep: SweepResult, threshold: str) -> Estimate:
    _, points = numbered(f"above {threshold}", "above")
    return plain(100 * float((100 - sweep.retained_percent > points).mean()))


def _noise(curve: NoiseCurve, std: str) -> Estimate:
    names = [f"{s:g}" for s in curve.stds]
    return plain(float(curve.mean[chosen(std, names, what="standard deviation")]))


COMPARISON_QUANTITIES: Mapping[str, Quantity] = {
    "alignment": Quantity("compare", "", lambda c, _: Estimate(c.alignment.score, *c.alignment.interval)),
    "notebook-alignment": Quantity("compare", "", lambda c, _: _notebook(c)),
    "variant": Quantity("compare", "", _variant, "a variant like max+hungarian"),
    "gap": Quantity("compare", "logits", lambda c, _: gap(c)),
    "mean-logit-difference": Quantity("compare", "logits", lambda c, _: c.performance.mean),
    "teacher-logit-difference": Quantity("compare", "logits", lambda c, _: c.performance.teacher),
    "student-logit-difference": Quantity("compare", "logits", lambda c, _: c.performance.student),
    "teacher-mean-drop": Quantity(
        "compare", "%", lambda c, _: Estimate(c.robustness.teacher.mean_drop, *c.robustness.teacher.interval)
    ),
    "student-mean-drop": Quantity(
        "compare", "%", lambda c, _: Estimate(c.robustness.student.mean_drop, *c.robustness.student.interval)
    ),
    "mean-drop-difference": Quantity("compare", "points", lambda c, _: drop_difference(c)),
    "slope": Quantity("compare", "points per 0.1", lambda c, _: _slope(c)),
    "teacher-drop": Quantity(
        "compare", "%", lambda c, of: component_drop(c.teacher_sweep, of), "a component like L4H4"
    ),
    "student-drop": Quantity(
        "compare", "%", lambda c, of: component_drop(c.student_sweep, of), "a component like L4H4"
    ),
    "teacher-share-above": Quantity(
        "compare", "% of components", lambda c, of: _share_above(c.teacher_sweep, of), "a drop in %, like 10"
    ),
    "student-share-above": Quantity(
        "compare", "% of components", lambda c, of: _share_above(c.student_sweep, of), "a drop in %, like 10"
    ),
    "mlp-similarity": Quantity("compare", "", _mlp_similarity, "a teacher's and a student's MLP, like MLP9->MLP4"),
    "noise-alignment": Quantity("noise", "", _noise, "a standard deviation like 0.5"),
}
