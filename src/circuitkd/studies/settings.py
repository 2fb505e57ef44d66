"""What the `options` of each kind of analysis in a study file may say, and the library's options they stand for.

Whatever is left out is the library's default, which is what the papers' text says (semantics in docs/definitions.md).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from circuitkd.analysis import CompareOptions
from circuitkd.circuits.discovery import DiscoveryOptions
from circuitkd.circuits.pruning import Criterion
from circuitkd.comparison.pair_similarity import HeadMeasure, Measures, MlpMeasure
from circuitkd.comparison.scoring import ScoreOptions
from circuitkd.distill.conditions import BEYOND, PAPER, ExperimentOptions, Grid, Losses, Training
from circuitkd.interventions.ablations import Ablation
from circuitkd.tasks.base import Task

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]


class Record(BaseModel):
    """A mapping of the file: unknown keys are errors, nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CompareSettings(Record):
    """`preset`: also score as the released notebooks do. `random_null`: also score an untrained student."""

    ablation: Literal["mean-positional", "mean", "zero", "resample"] | None = None
    head_similarity: HeadMeasure = "pattern"
    mlp_similarity: MlpMeasure = "auto"
    preset: Literal["released-notebook", "released-notebook-ioi"] | None = None
    random_null: bool = True

    def ablation_of(self, task: Task) -> Ablation:
        """The ablation that is asked for, or the one that suits the task."""
        return Ablation(self.ablation or task.ablation)

    def options(self) -> CompareOptions:
        """For `analysis.compare`."""
        return CompareOptions(
            score=ScoreOptions(measures=Measures(self.head_similarity, self.mlp_similarity)),
            random_null=self.random_null,
            notebook="ioi" if self.preset == "released-notebook-ioi" else self.preset is not None,
        )


class CircuitSettings(Record):
    """`edge_share`: what an edge must cost at least (null: no edges). `thresholds`: also find the circuits at each of
    these (DC Appendix N)."""

    threshold: Share = 0.2
    criterion: Criterion = "cumulative"
    edge_share: Annotated[float, Field(ge=0, lt=1)] | None = 0.01
    thresholds: tuple[Share, ...] = ()

    def options(self) -> DiscoveryOptions:
        """For `circuit_analysis.compare_circuits`."""
        return DiscoveryOptions(threshold=self.threshold, criterion=self.criterion, edge_share=self.edge_share)


class RolesSettings(Record):
    """Roles have no options."""


class NoiseSettings(Record):
    """`steps` standard deviations from 0 to `largest`, `seeds` draws at each (DC section 4.2.1)."""

    steps: Annotated[int, Field(ge=2)] = 41
    largest: Positive = 2.0
    seeds: Count = 5

    def stds(self) -> tuple[float, ...]:
        """The standard deviations."""
        return tuple(round(self.largest * i / (self.steps - 1), 4) for i in range(self.steps))


class DistillSettings(Record):
    """`circuit`: the most influential heads by mean ablation (`heads` of them, 15 % unless told), or the groups found by
    path patching (`group_size` heads each at most). `search`: choose weight and rows of CKA on the validation split,
    `weight` then being unused. `seeds`: runs of each condition. `conditions`: those of CD, or ours too."""

    circuit: Literal["ablation", "path-patching"] = "ablation"
    heads: Count | None = None
    group_size: Count = 10
    mapping: Literal["impact", "one-to-one", "similarity"] = "impact"
    performance: Literal["logit-difference", "accuracy", "log-probability"] = "accuracy"
    steps: Count = 200
    learning_rate: Positive = 2e-5
    batch_size: Annotated[int, Field(ge=2)] = 16
    weight: Positive = 1.0
    task_loss: Literal["teacher-labels", "ground-truth", "kl"] = "teacher-labels"
    debiased: bool = False
    search: bool = False
    seeds: Count = 5
    conditions: Literal["paper", "all"] = "paper"

    @model_validator(mode="after")
    def _heads_are_of_ablation(self) -> DistillSettings:
        if self.circuit == "path-patching" and self.heads is not None:
            raise ValueError("heads is for circuit: ablation; path patching takes group_size")
        return self

    def options(self) -> ExperimentOptions:
        """For `distill.experiment.run_experiment`; heads found by path patching are put in by who runs it."""
        return ExperimentOptions(
            heads=self.heads,
            mapping=self.mapping,
            performance=self.performance,
            training=Training(self.steps, self.learning_rate, self.batch_size),
            losses=Losses(self.task_loss, weight=self.weight, debiased=self.debiased),
            seeds=tuple(range(self.seeds)),
            conditions=PAPER if self.conditions == "paper" else PAPER + BEYOND,
            search=Grid() if self.search else None,
        )
