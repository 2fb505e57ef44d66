"""The paper's conditions are there, and wrong options are refused before anything runs."""

from __future__ import annotations

import pytest

from circuitkd.distill.conditions import BEYOND, PAPER, Condition, ExperimentOptions, Grid, Losses, Training


def test_the_papers_conditions():
    found = {c.name: (c.parameters, c.task_loss, c.pairs) for c in PAPER}
    assert found == {
        "untrained": ("none", True, "none"),
        "all parameters, CE": ("all", True, "none"),
        "circuit, CE": ("circuit", True, "none"),
        "circuit, CKA of mapped pairs": ("circuit", False, "mapped"),
        "circuit, CE + CKA of random pairs": ("circuit", True, "random"),
        "circuit, CE + CKA of mapped pairs": ("circuit", True, "mapped"),
    }
    assert ExperimentOptions().conditions == PAPER + BEYOND
    assert len({c.name for c in PAPER + BEYOND}) == len(PAPER + BEYOND)


def test_defaults_are_the_papers():
    options = ExperimentOptions()
    assert options.training.learning_rate == 2e-5 and len(options.seeds) == 5
    assert (options.mapping, options.performance) == ("impact", "accuracy")
    assert options.losses == Losses("teacher-labels", weight=1.0, debiased=False)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Training(steps=0), "steps must be at least 1, got 0"),
        (lambda: Training(batch_size=0), "batch_size must be at least 1, got 0"),
        (lambda: Training(learning_rate=0.0), "learning_rate must be above 0, not 0.0"),
        (lambda: Losses("mse"), "unknown task loss 'mse': choose one of teacher-labels, ground-truth, kl"),
        (lambda: Losses(weight=0.0), "the weight of the alignment must be above 0, not 0.0: CE alone is a condition"),
        (lambda: Losses(points="all"), "unknown rows of CKA 'all': choose one of answer, tokens"),
        (lambda: Grid(points=("all",)), "unknown rows of CKA 'all': choose one of answer, tokens"),
        (lambda: Grid(weights=(0.0, 1.0)), "the search needs weights above 0, rows and seeds, at least one of each"),
        (lambda: Grid(seeds=()), "at least one of each"),
        (lambda: Losses(ablated_share=1.0), "ablated_share must be between 0 and 1, not 1.0"),
        (lambda: ExperimentOptions(mapping="random"), "unknown method of mapping heads 'random'"),
        (lambda: ExperimentOptions(performance="speed"), "unknown measure of performance 'speed'"),
        (lambda: ExperimentOptions(random_circuits=0), "random_circuits must be at least 1, got 0"),
        (
            lambda: ExperimentOptions(seeds=()),
            "the experiment needs at least one condition and one seed, each seed once",
        ),
        (lambda: ExperimentOptions(seeds=(1, 1)), "each seed once"),
        (lambda: ExperimentOptions(conditions=()), "at least one condition"),
    ],
)
def test_wrong_options(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_condition_of_ones_own():
    own = Condition("all, CKA", "all", "mapped", task_loss=False)
    assert ExperimentOptions(conditions=(own,)).conditions == (own,)
