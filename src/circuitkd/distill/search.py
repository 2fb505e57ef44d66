"""The search of lambda and of CKA's rows, left open by CD: on the validation split, before the test split is looked at.

Every candidate trains the condition with mapped pairs once for each of the search's seeds, which the experiment does not
use again; the best mean validation accuracy wins, among equals the smaller weight and then fewer rows. What is chosen
holds for every condition that has an alignment term, so the others are not tuned as well: read their numbers so.

Limit: a validation split of few examples tells candidates apart poorly; the table of candidates shows how close they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from circuitkd.distill.conditions import MAPPED, Grid, Losses
from circuitkd.distill.evaluation import right_answers
from circuitkd.distill.experiment_setup import Setup
from circuitkd.distill.signals import Points
from circuitkd.distill.training_run import train_copy


@dataclass(frozen=True)
class Candidate:
    """Validation accuracy in [0, 1], seed by seed, of one weight and one kind of rows."""

    weight: float
    points: Points
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return sum(self.accuracies) / len(self.accuracies)


@dataclass(frozen=True)
class SearchResult:
    """All candidates, and the one that was taken."""

    grid: Grid
    candidates: tuple[Candidate, ...]
    chosen: Candidate

    def rows(self) -> list[dict[str, str]]:
        """The table as text, a row for each candidate."""
        return [
            {
                "weight": f"{c.weight:g}",
                "rows of CKA": c.points,
                "validation accuracy %": f"{100 * c.mean:.1f}",
                "chosen": "yes" if c == self.chosen else "",
            }
            for c in self.candidates
        ]


def search(setup: Setup, grid: Grid) -> SearchResult:
    """Try every candidate on the validation split. Finished ones are kept in the folder of `setup.execution`."""
    work = [(weight, points) for weight in grid.weights for points in grid.points]
    found = []
    for done, (weight, points) in enumerate(work):
        setup.execution.report("search", done, total=len(work))
        trial = partial(_candidate, setup, weight, points, seeds=grid.seeds)
        key = f"{weight} {points} {grid.seeds}"
        found.append(setup.kept("run-search", key, kind=Candidate, compute=trial))
    setup.execution.report("search", len(work), total=len(work))
    best = min(found, key=lambda c: (-round(c.mean, 9), c.weight, grid.points.index(c.points)))
    return SearchResult(grid, tuple(found), best)


def apply(losses: Losses, found: SearchResult) -> Losses:
    """The losses with what the search chose."""
    return replace(losses, weight=found.chosen.weight, points=found.chosen.points)


def _candidate(setup: Setup, weight: float, points: Points, *, seeds: tuple[int, ...]) -> Candidate:
    losses = replace(setup.options.losses, weight=weight, points=points)
    tried = replace(setup, options=replace(setup.options, losses=losses))
    students = [train_copy(tried, MAPPED, seed=seed)[0] for seed in seeds]
    accuracies = [float(right_answers(s, setup.validation[1]).mean()) for s in students]
    return Candidate(weight, points, tuple(accuracies))
