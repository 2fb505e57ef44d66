import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch

from circuitkd.analysis import CompareOptions, compare
from circuitkd.circuits.kept import KeptScorer
from circuitkd.circuits.pruning import prune
from circuitkd.components import Component
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.execution import Execution
from circuitkd.roles.activation_patching import activation_patching
from circuitkd.roles.describe import describe_roles
from circuitkd.roles.direct_attribution import logit_attribution
from circuitkd.roles.fates import find_fates
from circuitkd.roles.head_probes import probe_heads
from circuitkd.roles.lens import logit_lens
from circuitkd.roles.mlps import compare_mlps
from circuitkd.roles.ov import ov_test
from circuitkd.roles.patterns import role_scores
from circuitkd.roles.probes import probe
from circuitkd.roles.role_definitions import ROLES
from circuitkd.roles.untrained_similarity import untrained_similarity
from circuitkd.tasks.base import Example, Task
from circuitkd.tasks.words import MONTHS
from equal_results import assert_same
from planted_roles import sequence_roles
from small_runs import model_for, prompts, task_of
from two_tokenizers import byte_level_model


def described(teacher, student, task, **options):
    comparison = compare(teacher, student, task, options=CompareOptions(random_null=False), **options)
    return comparison, describe_roles(teacher, student, task, comparison=comparison, **options)


@pytest.fixture(scope="module")
def pair():
    teacher = model_for("gpt2", torch.float32)
    student = model_for("gpt2", torch.float32, 1, n_layer=2)
    task = task_of("numeral-sequence", n=16)
    return teacher, student, task, *described(teacher, student, task)


def test_every_part_is_what_its_own_function_gives(pair):
    teacher, student, task, comparison, found = pair
    tasks = (task.bind(teacher), task.bind(student))
    for side, model, bound in ((found.teacher, teacher, tasks[0]), (found.student, student, tasks[1])):
        assert_same(side.scores, role_scores(model, bound))
        assert_same(side.ov, ov_test(model))
        assert_same(side.patching, activation_patching(model, bound))
        assert_same(side.probes, probe(model, bound))
        assert_same(side.head_probes, probe_heads(model, bound))
        assert_same(side.lens, logit_lens(model, bound))
        assert_same(side.attribution, logit_attribution(model, bound))
    assert_same(found.mlps, compare_mlps(teacher, student, tasks=tasks))
    null = untrained_similarity((teacher, student), tasks, like=comparison.similarity)
    assert_same(found.fates, find_fates(comparison, null, roles=(found.teacher.scores, found.student.scores)))


def test_planes_pair_each_teacher_mlp_with_its_lookalike(pair):
    found = pair[4]
    pairs = [(f.teacher.component, f.student.component) for f in found.fates.fates if f.teacher.component.kind == "mlp"]
    assert [(p.teacher, p.student) for p in found.planes] == pairs
    assert len(pairs) == 3


def test_the_circuit_is_the_pruned_one_of_a_model_that_does_the_task(pair):
    teacher, student, task, _, found = pair
    for role, model in (("teacher", teacher), ("student", student)):
        side = getattr(found.brittleness, role)
        scorer = KeptScorer(model, task)
        if scorer(scorer.everything) > 0:
            assert side.circuit == prune(model.n_layers, model.n_heads, scorer).components
        else:
            assert side.circuit == ()
            assert "does the task" in found.left_out[f"circuit of {model.name} ({role})"]
    assert [r.role for r in found.brittleness.teacher.reliances] == list(found.teacher.scores.roles)


def test_roles_without_labels_are_named(pair):
    found = pair[4]
    assert found.left_out["role name mover of tiny-gpt2 (teacher)"] == "needs the label IO before the answer position"


def test_planted_roles_come_out_in_the_table_of_reliance():
    planted = sequence_roles(n=12)
    _, found = described(planted.model, planted.model, planted.task)
    table = found.brittleness.to_pandas().set_index("role")
    for role, head in planted.heads.items():
        if role != "mover":  # the induction head moves as well
            assert table.loc[role, "teacher_head"] == str(head)
    # Only the successor head writes the answer, and the copying heads at the answer position speak for the distractor.
    assert table.loc["successor", "teacher_drop"] == pytest.approx(100, abs=60)
    assert table["teacher_drop"].idxmax() == "successor"
    assert found.fates.of(planted.heads["successor"]).teacher.roles == ("successor",)


def test_masked_models_and_other_alphabets():
    teacher = model_for("bert", torch.float32)
    task = replace(task_of("months-sequence", n=12), name="months-sequence")
    _, found = described(teacher, teacher, task)
    assert_same(found.teacher.ov, ov_test(teacher, MONTHS))
    assert {f.fate for f in found.fates.fates} <= {"preserved", "repurposed"}
    assert found.teacher.scores.roles == role_scores(teacher, task).roles


def test_what_cannot_be_done_is_left_out_and_named():
    """Prompts of unequal lengths without labels, nine of them, and models of unequal width."""
    teacher, student = model_for("gpt2", torch.float32), model_for("gpt2", torch.float32, 1, n_embd=24)
    examples = [Example(str(i), f"{w} found in", f"{w} found in the", " March", " June") for i, w in enumerate(_WORDS)]
    task = Task("odd", tuple(examples), ablation="mean")
    _, found = described(teacher, student, task)
    assert found.teacher.patching is None
    assert found.teacher.probes is None
    assert found.mlps is None
    assert (
        "no clean and corrupted prompt have equal token counts"
        in found.left_out["activation patching of tiny-gpt2 (teacher)"]
    )
    assert found.teacher.head_probes is None
    for what in ("probes", "head probes"):
        assert "9 different prompts" in found.left_out[f"{what} of tiny-gpt2 (teacher)"]
    assert "widths differ" in found.left_out["MLP cosines"]
    assert found.left_out["role induction of tiny-gpt2 (teacher)"] == "needs repeated tokens"
    assert found.teacher.lens.rank.shape == (3, 9)
    assert not found.planes[0].is_shared


_WORDS = "Lamp Boat Door Tree Horse Bridge Piano Garden River".split()


def test_free_text_of_many_lengths():
    model = model_for("gpt2", torch.float32)
    examples = prompts("question-answering", 12)
    task = Task("free", examples, origin="generated", ablation="mean")
    comparison, found = described(model, model, task)
    kept = set(found.teacher.patching.examples)
    assert kept | set(found.teacher.patching.left_out) == set(comparison.teacher_sweep.examples)
    assert len({len(e.clean) for e in task.bind(model).examples if e.id in kept}) == 1


def test_a_comparison_of_something_else_is_an_error(pair):
    teacher, student, task, comparison, _ = pair
    other = task_of("numeral-sequence", n=4)
    with pytest.raises(ValueError, match="this comparison has another data: give the result of compare"):
        describe_roles(teacher, student, other, comparison=comparison)
    with pytest.raises(ValueError, match="another teacher and student: give the result"):
        describe_roles(student, teacher, task, comparison=comparison)
    with pytest.raises(ValueError, match="another ablation: give"):
        describe_roles(teacher, student, task, comparison=comparison, ablation=Ablation("zero"))


def test_progress_names_the_steps(pair):
    teacher, student, task, comparison, found = pair
    seen = []
    execution = Execution(progress=lambda label, done, total: seen.append(label))
    again = describe_roles(teacher, student, task, comparison=comparison, execution=execution)
    assert list(dict.fromkeys(seen)) == [
        "role scores", "activation patching", "probes", "head probes", "logit lens", "contributions",
        "logit attribution", "MLPs", "untrained students",
    ]  # fmt: skip
    np.testing.assert_array_equal(again.brittleness.teacher.retained, found.brittleness.teacher.retained)
    assert again.fates.of(Component("head", 0, 0)) == found.fates.of("L0H0")


def numbers(value, path=""):
    """Every number in a result, with where it is."""
    if dataclasses.is_dataclass(value):
        for f in dataclasses.fields(value):
            yield from numbers(getattr(value, f.name), f"{path}.{f.name}")
    elif isinstance(value, tuple):
        for v in value:
            yield from numbers(v, path)
    elif isinstance(value, float):
        yield path, value
    elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
        yield from ((path, float(v)) for v in value.flat)


ONE_PLACE = {"member_1": 3, "member_2": 3, "IO": 3, "S2": 3}


def in_one_place(n=12):
    """Prompts whose labels all stand in one position."""
    examples = [
        Example(str(i), f"Lamp found in {i + 1} and Boat", f"Lamp found in {i + 5} and Boat", f" {i + 2}", f" {i + 3}", ONE_PLACE)
        for i in range(n)
    ]  # fmt: skip
    return Task("one place", tuple(examples), origin="generated")


CASES = {
    "one layer, one head": (("gpt2", {"n_layer": 1, "n_head": 1}), ("gpt2", {"n_layer": 1, "n_head": 1})),
    "grouped queries": (("llama", {}), ("qwen2", {"num_hidden_layers": 1})),
    "encoders": (("bert", {}), ("distilbert", {})),
    "parallel blocks": (("neox-parallel", {}), ("gpt2", {"n_embd": 16, "n_head": 2})),
}


@pytest.mark.parametrize("case", sorted(CASES))
@pytest.mark.parametrize(
    "make", [lambda: task_of("numeral-sequence", n=2), in_one_place], ids=["two prompts", "one place"]
)
def test_any_pair_and_task_gives_numbers_or_says_why_not(case, make, recwarn):
    teacher, student = (
        model_for(name, torch.float32, seed, **changes) for seed, (name, changes) in enumerate(CASES[case])
    )
    comparison, found = described(teacher, student, make())
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]
    unclear = {path for path, value in numbers(found) if not np.isfinite(value)}
    # What has no number is said in `Reliance`: roles without a head, heads outside the circuit.
    assert {path.rsplit(".", 1)[0] for path in unclear} <= {
        ".brittleness.teacher.reliances",
        ".brittleness.student.reliances",
    }
    assert all(found.left_out.values())
    for side, model in ((found.teacher, teacher), (found.student, student)):
        assert side.scores.score.shape == (model.n_layers * model.n_heads, len(side.scores.roles))
        named = {key.split(" of ")[0].removeprefix("role ") for key in found.left_out if key.startswith("role ")}
        assert set(side.scores.roles) | named >= {r.name for r in ROLES}
    assert len(found.fates.fates) == len(teacher.components) == len(comparison.teacher_sweep.components)


def test_models_that_read_other_tokens():
    teacher, student = model_for("gpt2", torch.float32), byte_level_model(dtype=torch.float32)
    _, found = described(teacher, student, task_of("ioi", n=12))
    assert found.mlps is not None
    assert found.mlps.positions == found.planes[0].positions
    assert len(found.teacher.patching.positions) < len(found.student.patching.positions)
    assert found.student.ov.tested < found.teacher.ov.tested
    assert "name mover" in found.student.scores.roles
    assert not [path for path, value in numbers(found.fates) if not np.isfinite(value)]


def test_the_number_of_prompts_at_a_time_changes_nothing(pair):
    teacher, student, task, comparison, found = pair
    few = describe_roles(teacher, student, task, comparison=comparison, execution=Execution(batch_size=5))
    for (path, one), (_, other) in zip(numbers(found), numbers(few), strict=True):
        if "probes." not in path:  # steps of training
            assert one == pytest.approx(other, rel=1e-4, abs=2e-4, nan_ok=True), path
    assert [f.fate for f in few.fates.fates] == [f.fate for f in found.fates.fates]
