"""What the experiment trains: its conditions and options.

`PAPER` are the conditions of CD; `BEYOND` the alignment surrogate (DC names alignment as a training signal as future work)
and random mean ablation of heads during training, on the circuit and on all parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from circuitkd.comparison.checks import at_least, one_of
from circuitkd.components import Component
from circuitkd.distill.data import SHARES
from circuitkd.distill.head_map import METHODS, Method
from circuitkd.distill.objective import TASK_LOSSES
from circuitkd.distill.signals import POINTS, Points
from circuitkd.interventions.readout import PERFORMANCES


@dataclass(frozen=True)
class Condition:
    """One way to train. `parameters`: which are trained. `pairs`: of the CKA term; "surrogate" is 1 - A over each teacher
    head and the student head most like it. `task_loss`: whether there is one. `head_ablation`: whether heads are ablated
    at random in training."""

    name: str
    parameters: Literal["none", "all", "circuit"]
    pairs: Literal["none", "mapped", "random", "surrogate"] = "none"
    task_loss: bool = True
    head_ablation: bool = False


UNTRAINED = Condition("untrained", "none")
ALL_CE = Condition("all parameters, CE", "all")
CIRCUIT_CE = Condition("circuit, CE", "circuit")
MAPPED = Condition("circuit, CE + CKA of mapped pairs", "circuit", "mapped")
PAPER = (
    UNTRAINED,
    ALL_CE,
    CIRCUIT_CE,
    Condition("circuit, CKA of mapped pairs", "circuit", "mapped", task_loss=False),
    Condition("circuit, CE + CKA of random pairs", "circuit", "random"),
    MAPPED,
)
BEYOND = (
    Condition("circuit, CE + alignment surrogate", "circuit", "surrogate"),
    Condition("circuit, CE + head ablation", "circuit", head_ablation=True),
    Condition("all parameters, CE + head ablation", "all", head_ablation=True),
)


@dataclass(frozen=True)
class Training:
    """How every condition is trained: AdamW without decay, learning rate falling linearly to 0 over `steps` steps."""

    steps: int = 200
    learning_rate: float = 2e-5
    batch_size: int = 16

    def __post_init__(self) -> None:
        at_least(self.steps, 1, name="steps")
        at_least(self.batch_size, 1, name="batch_size")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, not {self.learning_rate}")


@dataclass(frozen=True)
class Losses:
    """`task_loss` stands for CE in every condition that has it ("teacher-labels" is CD's). `weight`: of the alignment;
    `debiased`: CKA; `points`: its rows, the answer position of each prompt or all its real tokens; `ablated_share`:
    probability of a head in the conditions with head ablation."""

    task_loss: str = "teacher-labels"
    temperature: float = 2.0
    weight: float = 1.0
    debiased: bool = False
    points: Points = "answer"
    ablated_share: float = 0.1

    def __post_init__(self) -> None:
        one_of(self.task_loss, tuple(TASK_LOSSES), name="task loss")
        one_of(self.points, POINTS, name="rows of CKA")
        if not 0 < self.ablated_share < 1:
            raise ValueError(f"ablated_share must be between 0 and 1, not {self.ablated_share}")
        if not self.weight > 0:
            raise ValueError(f"the weight of the alignment must be above 0, not {self.weight}: CE alone is a condition")


@dataclass(frozen=True)
class Grid:
    """What a search tries (`search`): every weight with every kind of rows, each with every seed."""

    weights: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    points: tuple[Points, ...] = ("answer", "tokens")
    seeds: tuple[int, ...] = (100, 101)

    def __post_init__(self) -> None:
        for points in self.points:
            one_of(points, POINTS, name="rows of CKA")
        if not (self.weights and self.points and self.seeds) or not min(self.weights) > 0:
            raise ValueError("the search needs weights above 0, rows and seeds, at least one of each")


@dataclass(frozen=True)
class ExperimentOptions:
    """`heads`: the circuit, as a number of the most influential heads (None: 15 % of them, as in CD, at least two),
    or which (`Circuit.heads`, names). `mapping`, `performance`: see `head_map`. `seeds`: one training run each, of
    every condition. `shares`: of training, validation and test examples. `random_circuits`: draws for the control.
    `search`: choose the weight and the rows of CKA on the validation split; those of `losses` are then not used."""

    heads: int | tuple[Component | str, ...] | None = None
    mapping: Method = "impact"
    performance: str = "accuracy"
    training: Training = Training()
    losses: Losses = Losses()
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    shares: tuple[float, float, float] = SHARES
    random_circuits: int = 10
    conditions: tuple[Condition, ...] = PAPER + BEYOND
    search: Grid | None = None

    def __post_init__(self) -> None:
        one_of(self.mapping, [m for m in METHODS if m != "random"], name="method of mapping heads")
        one_of(self.performance, tuple(PERFORMANCES), name="measure of performance")
        at_least(self.random_circuits, 1, name="random_circuits")
        if not self.seeds or not self.conditions or len(set(self.seeds)) < len(self.seeds):
            raise ValueError("the experiment needs at least one condition and one seed, each seed once")
