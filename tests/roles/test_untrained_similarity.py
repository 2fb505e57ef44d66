import numpy as np
import pytest
import torch

from circuitkd.analysis import CompareOptions, compare
from circuitkd.comparison import pair_similarity
from circuitkd.comparison.pair_similarity import Measures
from circuitkd.comparison.scoring import ScoreOptions
from circuitkd.interventions.execution import Execution
from circuitkd.models.random_model import randomly_initialised
from circuitkd.roles.untrained_similarity import untrained_similarity
from small_runs import model_for, task_of


def compared(teacher, student, task, measures=None):
    options = CompareOptions(score=ScoreOptions(measures=measures or Measures()), random_null=False)
    return compare(teacher, student, task, options=options)


@pytest.mark.parametrize("measures", [Measures(), Measures("cka", "cka"), Measures("pattern-rows", "eigenvectors")])
def test_it_is_the_largest_similarity_that_compare_finds_with_untrained_students(measures):
    task = task_of("numeral-sequence", n=8)
    teacher, student = model_for("gpt2", torch.float32), model_for("gpt2", torch.float32, seed=1)
    trained = compared(teacher, student, task, measures)
    tasks = (task.bind(teacher), task.bind(student))
    found = untrained_similarity((teacher, student), tasks, like=trained.similarity, seeds=(0, 5))
    each = []
    for seed in (0, 5):
        similarity = compared(teacher, randomly_initialised(student, seed=seed), task, measures).similarity
        each.append(np.concatenate([similarity.head.max(axis=1), similarity.mlp.max(axis=1)]))
    np.testing.assert_allclose(found.largest, np.max(each, axis=0), atol=1e-6)
    assert trained.similarity.head_measure in found.definition


def test_only_what_was_scored_with_is_made(monkeypatch):
    task, model = task_of("ioi", n=4), model_for("gpt2", torch.float32)
    like = compared(model, model, task).similarity
    for unasked in ("cka_matrix", "subspace_overlap"):
        monkeypatch.setattr(pair_similarity, unasked, None)
    found = untrained_similarity((model, model), (task.bind(model), task.bind(model)), like=like, seeds=(0,))
    assert np.isfinite(found.largest).all()


def test_more_students_can_only_raise_it():
    task = task_of("ioi", n=4)
    model = model_for("bert", torch.float32)
    like = compared(model, model, task).similarity
    tasks = (task.bind(model), task.bind(model))
    seen = []
    execution = Execution(progress=lambda *call: seen.append(call))
    one = untrained_similarity((model, model), tasks, like=like, seeds=(0,))
    three = untrained_similarity((model, model), tasks, like=like, execution=execution)
    assert (three.largest >= one.largest).all()
    assert three.seeds == (0, 1, 2)
    assert seen[-1] == ("untrained students", 3, 3)


def test_no_seeds_are_an_error():
    model, task = model_for("gpt2", torch.float32), task_of("ioi", n=2)
    like = compared(model, model, task).similarity
    with pytest.raises(ValueError, match="at least one untrained student: give seeds"):
        untrained_similarity((model, model), (task.bind(model), task.bind(model)), like=like, seeds=())
