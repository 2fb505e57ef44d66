"""Sums of work, batches, and tasks in words."""

import pytest

from circuitkd.interventions.capture import batches
from circuitkd.interventions.execution import Execution, plan
from circuitkd.models import flops
from circuitkd.studies.workload import Cost, Place, Side, Work, bound
from circuitkd.tasks.base import Example, Task
from circuitkd.tasks.registry import load_task
from plan_sides import shape_of, side_of
from small_runs import model_for, task_of
from tiny_models import tiny


def test_work_adds_up_and_memory_does_not():
    one = Cost(Work(1, 2, 3, 4, 5), Work(5, 5, 5, 5, 5), Work(10, 20, 30, 40, 50), device=5, host=1)
    two = Cost.of(Work(1, 1, 1, 1, 1), device=2, host=7)
    assert one + two == Cost(Work(2, 3, 4, 5, 6), Work(6, 6, 6, 6, 6), Work(11, 21, 31, 41, 51), device=5, host=7)
    assert one * 3 == Cost(
        Work(3, 6, 9, 12, 15), Work(15, 15, 15, 15, 15), Work(30, 60, 90, 120, 150), device=5, host=1
    )


def test_a_cost_among_three():
    works = Work(1), Work(2), Work(3)
    assert Cost.among(works, device=4).works == works
    assert Cost.of(Work(1)).works == (Work(1), Work(1), Work(1))


@pytest.mark.parametrize("batch_size", [None, 2])
def test_batches_are_those_of_a_run(batch_size):
    model, task = model_for("gpt2"), task_of(n=4)
    side = side_of(model, task, batch_size=batch_size)
    real = task.bind(model)
    sizes = plan(model, real, execution=Execution(batch_size))
    assert side.sizes == sizes
    rows = batches(real, sizes.batch_size)
    assert [(b.rows, b.n_pos) for b in side.batches] == [
        (len(r), max(len(real.examples[i].clean) for i in r)) for r in rows
    ]


def test_a_walk_is_all_blocks():
    side = side_of(model_for("gpt2"), task_of("ioi", n=3))
    (batch,) = side.batches
    assert side.walk() == Work(3 * flops.block_flops(side.model, 3, batch.n_pos), 3)


def test_weights_are_those_of_the_shape():
    model = tiny("llama")
    side = Side(shape_of(model), task_of(n=1).bind(model_for("gpt2")), None, Place(True))
    assert side.weights == sum(p.nbytes for p in model.hf.parameters())


def test_without_a_tokenizer_words_and_marks_are_tokens():
    shape = shape_of(tiny("gpt2"))
    object.__setattr__(shape, "tokenizer", None)
    example = Example("1", "Ann met Bob, and", "Tim met Joe, but then", " Bob", (" Ann", " Joe"))
    (found,) = bound(Task("mine", (example,)), shape, aligned=False).examples
    assert found.clean == (0, 1, 2, 3, 4)
    assert len(found.corrupted) == 6
    assert (found.answers, found.distractors) == ((2,), (0, 6))
    (even,) = bound(Task("mine", (example,)), shape, aligned=True).examples
    assert len(even.corrupted) == len(even.clean) == 5
    assert even.answer_position == even.corrupted_answer_position == 4


def test_with_one_the_tokens_are_its():
    model, task = model_for("gpt2"), load_task("ioi", 3)
    assert bound(task, shape_of(model), aligned=True).examples == task.bind(model).examples


def test_where_a_model_runs():
    assert Place(on_cpu=False, free=10.0).batch_budget == pytest.approx(3.0)
    assert Place(on_cpu=True, free=10.0).states_budget == 1e9
