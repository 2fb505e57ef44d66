import numpy as np
import pytest
from scipy.stats import ttest_1samp

from circuitkd.artifacts import load_run, save_run
from circuitkd.circuits.kept import KeptScorer
from circuitkd.components import Component
from circuitkd.interventions.sweep import sweep
from circuitkd.roles.brittleness import ALPHA, GROWTH, Brittleness, backup_heads, brittleness
from circuitkd.roles.role_scoring import RoleScores
from equal_results import assert_same
from oracle import ablated_values, replacement
from planted import successor
from planted_roles import backed_up_successor
from small_runs import model_for, task_of

ROLES = ("mover", "successor", "induction")


def roles_of(model, task, best):
    """RoleScores in which `best` maps roles to heads, the last named with the highest score."""
    heads = tuple(c for c in model.components if c.kind == "head")
    score = np.zeros((len(heads), len(ROLES)))
    for role, names in best.items():
        for level, name in enumerate(names):
            score[heads.index(Component.parse(name)), ROLES.index(role)] = 0.5 + 0.1 * level
    found = score > 0
    return RoleScores(
        model=model.name, task=task.name, heads=heads, roles=ROLES, attention=score, score=score,
        threshold=np.full(3, 0.3), error_rates=np.full(3, 0.01), found=found,
        share=found / np.maximum(found.sum(1, keepdims=True), 1), left_out={}, definition="",
    )  # fmt: skip


class BruteForce:
    """Logit differences [example] with some components ablated, by hooks."""

    def __init__(self, model, task):
        self.model, self.task = model, task
        values = replacement(model, task, "mean-positional")
        self.new = [values(e) for e in task.examples]

    def without(self, *components):
        return ablated_values(self.model, self.task.examples, self.new, [Component.parse(str(c)) for c in components])

    def backups(self, head):
        full, gone = self.without(), self.without(head)
        others = [c for c in self.model.components if c.kind == "head" and c != head]
        found = {}
        for other in others:
            before, after = full - self.without(other), gone - self.without(head, other)
            growth = after - before
            p = ttest_1samp(growth, 0, alternative="greater").pvalue
            if after.mean() > 0 and growth.mean() >= GROWTH * abs(full.mean()) and p < ALPHA / len(others):
                found[other] = (before.mean(), after.mean())
        return found


def pair_of(model, task, best, circuit=()):
    """The same model on both sides."""
    scorer, roles, effects = KeptScorer(model, task), roles_of(model, task, best), sweep(model, task)
    components = tuple(map(Component.parse, circuit))
    return brittleness((scorer, scorer), (roles, roles), sweeps=(effects, effects), circuits=(components, components))


def test_a_planted_backup_is_found_and_nothing_else():
    model, task = backed_up_successor(n=12)
    scorer = KeptScorer(model, task)
    full = scorer(scorer.everything)
    for main, backup in (("L0H0", "L0H1"), ("L0H1", "L0H0")):
        (found,) = backup_heads(scorer, Component.parse(main))
        assert found.head == Component.parse(backup)
        assert found.before == pytest.approx(0, abs=0.1 * full)
        assert found.after == pytest.approx(full, rel=0.2)


def test_a_model_without_redundancy_has_no_backups():
    planted = successor(n=12)
    found = pair_of(planted.model, planted.task, {"successor": ["L0H1"]}, circuit=["L0H1", "MLP1"])
    row = found.teacher.reliances[1]
    assert (row.role, row.head, row.backups) == ("successor", Component.parse("L0H1"), ())
    assert row.drop == pytest.approx(100, abs=3)
    assert row.circuit_drop == pytest.approx(100, abs=3)
    assert row.drop_interval[0] <= row.drop <= row.drop_interval[1]
    # The mover and the MLP come first, and after one of them nothing is left.
    assert set(found.teacher.order[:2]) == planted.components
    np.testing.assert_allclose(found.teacher.retained[0], 100)
    np.testing.assert_allclose(found.teacher.retained[1:], 0, atol=5)


@pytest.mark.parametrize("name", ["gpt2", "bert", "llama"])
def test_numbers_are_those_of_brute_force(name):
    model = model_for(name)
    task = task_of("numeral-sequence", n=10).bind(model)
    brute = BruteForce(model, task)
    circuit = ["L0H1", "L0H2", "L1H0", "MLP0", "MLP2"]
    found = pair_of(model, task, {"mover": ["L0H0", "L0H1"], "induction": ["L1H3"]}, circuit=circuit).student
    full, level = brute.without(), 1e-9 * np.abs(brute.without()).max()
    mover, nobody, other = found.reliances
    assert (mover.head, mover.score) == (Component.parse("L0H1"), 0.6)
    assert mover.drop == pytest.approx(100 * (full - brute.without("L0H1")).mean() / abs(full.mean()), abs=1e-6)
    outside = [c for c in model.components if str(c) not in circuit]
    loss = brute.without(*outside) - brute.without(*outside, "L0H1")
    assert mover.circuit_drop == pytest.approx(100 * loss.mean() / full.mean(), abs=1e-6)
    assert nobody.head is None
    assert np.isnan(nobody.drop)
    assert other.head == Component.parse("L1H3")
    assert np.isnan(other.circuit_drop)
    for row in (mover, other):
        expected = brute.backups(row.head)
        assert {b.head for b in row.backups} == set(expected)
        for b in row.backups:
            np.testing.assert_allclose((b.before, b.after), expected[b.head], atol=level)
    left = [brute.without(*found.order[:step]).mean() for step in range(len(found.order) + 1)]
    base = full.mean()
    np.testing.assert_allclose(found.retained, 100 + 100 * (np.array(left) - base) / abs(base), atol=1e-6)


def test_the_order_is_that_of_mean_effects():
    model = model_for("gpt2")
    task = task_of("ioi", n=8)
    effects = sweep(model, task)
    found = pair_of(model, task, {}).teacher
    drops = dict(zip(effects.components, effects.drops, strict=True))
    assert [drops[c] for c in found.order] == sorted(drops.values(), reverse=True)


def test_one_example_has_no_backups():
    model, task = backed_up_successor(n=2)
    single = task.bind(model).select(["0"])
    assert backup_heads(KeptScorer(model, single), Component.parse("L0H0")) == ()


def test_roles_of_another_model_are_an_error():
    planted, other = successor(n=4), model_for("gpt2")
    scorer, effects = KeptScorer(planted.model, planted.task), sweep(planted.model, planted.task)
    roles = roles_of(other, planted.task, {})
    with pytest.raises(
        ValueError, match="roles of tiny-gpt2 do not belong to planted-successor: give roles, sweeps and"
    ):
        brittleness((scorer, scorer), (roles, roles), sweeps=(effects, effects), circuits=((), ()))


def test_it_can_be_saved_and_is_a_table(tmp_path):
    planted = successor(n=6)
    found = pair_of(planted.model, planted.task, {"successor": ["L0H1"]}, circuit=["L0H1", "MLP1"])
    assert_same(load_run(save_run(tmp_path, found, manifest={}), Brittleness), found)
    table = found.to_pandas().set_index("role")
    assert table.loc["successor", "teacher_head"] == "L0H1"
    assert table.loc["successor", "student_backups"] == 0
    assert table.loc["mover", "teacher_head"] == ""
    assert np.isnan(table.loc["mover", "teacher_backups"])
    curve = found.curve()
    assert curve["ablated"].tolist() == 2 * list(range(7))
    assert curve["retained_percent"].iloc[0] == 100
