import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from circuitkd.analysis import CompareOptions, compare
from circuitkd.artifacts import load_run, save_run
from circuitkd.components import Component
from circuitkd.roles.fate_result import KINDS, Fates
from circuitkd.roles.fates import INFLUENTIAL, find_fates
from circuitkd.roles.patterns import role_scores
from circuitkd.roles.role_scoring import RoleScores
from circuitkd.roles.untrained_similarity import UntrainedSimilarity, untrained_similarity
from equal_results import assert_same
from planted import induction, successor
from same_function import permuted_bert, permuted_gpt2, permuted_llama
from small_runs import model_for, task_of
from surgery import with_shared_output, without_output
from synthetic_comparison import synthetic

TEACHER, STUDENT = ("L0H0", "L0H1", "L0H2", "L0H3", "MLP0"), ("L0H0", "L0H1", "L0H2", "L0H3", "MLP0")


def effects(means, spread=0.05, examples=12):
    """Effects [component, example] with these means, in logits of a base of 4."""
    wave = np.resize([1.0, -1.0], examples)
    return np.asarray(means, dtype=float)[:, None] + spread * wave


def compared(similarity, teacher, student, **sweep):
    """A comparison of one layer of four heads and an MLP on each side. `similarity` [4, 4] of the heads."""
    base = synthetic(teacher_layers=2, student_layers=1)
    sides = [
        replace(base.student_sweep, model=name, effects=effects(means, **sweep), base=np.full(12, 4.0))
        for name, means in ((base.teacher.name, teacher), (base.student.name, student))
    ]
    alike = replace(base.similarity, head=np.array(similarity, dtype=float), mlp=np.array([[0.9]]))
    return replace(base, teacher_sweep=sides[0], student_sweep=sides[1], similarity=alike)


def null_of(level=0.5, n=5):
    return UntrainedSimilarity(np.full(n, level), (0,), "cosine")


def kinds(fates):
    return [fates.of(c).fate for c in TEACHER]


def diagonal(other=0.2):
    return np.where(np.eye(4) > 0, 0.95, other)


def test_like_with_like_is_preserved():
    found = find_fates(compared(diagonal(), [2, 1, 1, 0, 2], [2, 1.2, 1, 0, 2]), null_of())
    assert kinds(found) == ["preserved"] * 5
    assert [f.student.component for f in found.fates] == [Component.parse(c) for c in STUDENT]
    assert "both matter" in found.of("L0H1").reason
    assert "neither is shown to matter" in found.of("L0H3").reason
    first = found.of("L0H0")
    assert (first.similarity, first.null) == (0.95, 0.5)
    assert first.teacher.drop_percent == pytest.approx(50.0)
    assert first.teacher.drop_interval == pytest.approx((50.0, 50.0), abs=1.0)
    assert first.teacher.influence == first.student.influence == 1.0


def test_nothing_above_the_null_is_discarded():
    similarity = diagonal()
    similarity[1] = 0.45, 0.49, 0.3, 0.2
    found = find_fates(compared(similarity, [2, 1, 1, 0, 2], [2, 1, 1, 0, 2]), null_of())
    assert kinds(found) == ["preserved", "discarded", "preserved", "preserved", "preserved"]
    assert "similarity 0.490, untrained at most 0.500" in found.of("L0H1").reason


def test_a_lookalike_without_influence_is_discarded():
    found = find_fates(compared(diagonal(), [2, 1, 1, 0, 2], [2, 0, 1, 0, 2]), null_of())
    assert kinds(found)[1] == "discarded"
    assert "it matters" in found.of("L0H1").reason
    assert "L0H1, is not shown to" in found.of("L0H1").reason


def test_influential_components_with_one_lookalike_are_merged():
    similarity = diagonal()
    similarity[1] = 0.9, 0.3, 0.2, 0.2
    found = find_fates(compared(similarity, [2, 1, 1, 0, 2], [2, 0, 1, 0, 2]), null_of())
    assert kinds(found) == ["merged", "merged", "preserved", "preserved", "preserved"]
    assert found.of("L0H0").others == (Component.parse("L0H1"),)
    assert found.of("L0H1").others == (Component.parse("L0H0"),)
    assert "L0H1 0.90, L0H0 0.95" in found.of("L0H1").reason


def test_many_to_one_of_components_that_do_not_matter_is_no_merger():
    similarity = diagonal()
    similarity[1] = similarity[3] = 0.9, 0.3, 0.2, 0.2
    found = find_fates(compared(similarity, [2, 0, 1, 0, 2], [2, 0, 1, 0, 2]), null_of())
    assert kinds(found) == ["preserved", "discarded", "preserved", "discarded", "preserved"]
    assert found.of("L0H1").reason == "it is not shown to matter; its lookalike L0H0 matters, and is most like L0H0"


def test_no_merger_into_a_component_that_does_not_matter():
    similarity = diagonal()
    similarity[1] = 0.9, 0.3, 0.2, 0.2
    found = find_fates(compared(similarity, [2, 1, 1, 0, 2], [0, 0, 1, 0, 2]), null_of())
    assert kinds(found)[:2] == ["discarded", "discarded"]


def test_a_component_that_is_not_alike_takes_no_part_in_a_merger():
    similarity = diagonal()
    similarity[1] = 0.45, 0.3, 0.2, 0.2
    found = find_fates(compared(similarity, [2, 1, 1, 0, 2], [2, 0, 1, 0, 2]), null_of())
    assert kinds(found)[:2] == ["preserved", "discarded"]


def test_several_heirs_are_a_split():
    similarity = diagonal()
    similarity[0, 1], similarity[1, 1] = 0.9, 0.4
    found = find_fates(compared(similarity, [2, 0, 1, 0, 2], [2, 1, 1, 0, 2]), null_of())
    assert kinds(found)[0] == "split"
    assert found.of("L0H0").others == (Component.parse("L0H1"),)
    assert found.of("L0H0").student.component == Component.parse("L0H0")


def test_a_split_shows_its_most_similar_heir_where_the_lookalike_is_another_ones():
    """L0H0 is most like the student's L0H3, which is more like L0H3; L0H1 and L0H2 of the student are most like L0H0."""
    similarity = np.array([[0.2, 0.7, 0.8, 0.85], [0.6, 0.1, 0.1, 0.1], [0.55, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.9]])
    fate = find_fates(compared(similarity, [2, 0, 0, 0, 2], [0, 1, 1, 1, 2]), null_of()).of("L0H0")
    assert (fate.fate, fate.student.component, fate.similarity) == ("split", Component.parse("L0H2"), 0.8)
    assert fate.others == (Component.parse("L0H1"),)
    assert fate.reason == "L0H2 and L0H1 matter in the student, and L0H0 is what each of them is most like"


def test_one_heir_beside_the_lookalike_is_no_split():
    similarity = np.array([[0.2, 0.7, 0.1, 0.85], [0.6, 0.1, 0.1, 0.1], [0.55, 0.1, 0.9, 0.1], [0.1, 0.1, 0.1, 0.9]])
    fate = find_fates(compared(similarity, [2, 0, 1, 0, 2], [0, 2, 1, 2, 2]), null_of()).of("L0H0")
    assert (fate.fate, fate.student.component) == ("preserved", Component.parse("L0H3"))


def test_a_heir_without_influence_is_no_split():
    similarity = diagonal()
    similarity[0, 1], similarity[1, 1] = 0.9, 0.4
    found = find_fates(compared(similarity, [2, 0, 1, 0, 2], [2, 0, 1, 0, 2]), null_of())
    assert kinds(found)[0] == "preserved"


def test_changed_influence_is_repurposed():
    found = find_fates(compared(diagonal(), [2, 0.2, 1, 0, 2], [2, 1.9, 1, 0, 2]), null_of())
    assert kinds(found)[1] == "repurposed"
    assert "matters differently" in found.of("L0H1").reason


def test_influence_gained_is_repurposed():
    found = find_fates(compared(diagonal(), [2, 0, 1, 0, 2], [2, 0.3, 1, 0, 2]), null_of())
    assert kinds(found)[1] == "repurposed"
    assert "it is not shown to matter" in found.of("L0H1").reason


def roles_of(model, task, found, near=()):
    """RoleScores of four heads: `found` and `near` map heads to roles."""
    names = ("mover", "successor", "induction")
    flags = np.array([[r in found.get(h, ()) for r in names] for h in range(4)])
    passes = flags | np.array([[r in dict(near).get(h, ()) for r in names] for h in range(4)])
    heads = tuple(Component("head", 0, h) for h in range(4))
    return RoleScores(
        model=model, task=task, heads=heads, roles=names, attention=passes * 0.8, score=passes * 0.8,
        threshold=np.full(3, 0.3), error_rates=np.full(3, 0.01), found=flags,
        share=flags / np.maximum(flags.sum(1, keepdims=True), 1), left_out={}, definition="",
    )  # fmt: skip


def test_other_roles_are_repurposed_unless_they_come_near():
    comparison = compared(diagonal(), [2, 1, 1, 0, 2], [2, 1, 1, 0, 2])
    names = comparison.teacher.name, comparison.student.name
    teacher = roles_of(names[0], "ioi", {0: ["mover"], 1: ["mover"], 2: ["mover"], 3: ["mover"]})
    student = roles_of(
        names[1], "ioi", {0: ["successor"], 1: ["successor"], 2: ["mover", "induction"]}, near={1: ["mover"]}
    )
    found = find_fates(comparison, null_of(), roles=(teacher, student))
    assert kinds(found)[:4] == ["repurposed", "preserved", "preserved", "preserved"]
    assert found.of("L0H0").reason == "other roles: mover became successor"
    assert found.of("L0H1").student.roles == ("successor",)
    assert found.of("L0H1").student.near_roles == ("mover", "successor")
    assert found.of("MLP0").teacher.roles == ()


def test_an_effect_that_may_be_nothing_is_not_influential():
    comparison = compared(diagonal(), [2, 1, 1, 0, 2], [2, 1, 1, 0, 2], spread=4.0)
    found = find_fates(comparison, null_of())
    assert not found.of("L0H1").teacher.influential
    assert found.of("L0H1").teacher.influence == pytest.approx(0.5)
    assert found.of("L0H1").teacher.drop_interval[0] < 0
    small = find_fates(compared(diagonal(), [2, 0.09, 1, 0, 2], [2, 1, 1, 0, 2], spread=0.001), null_of())
    assert small.of("L0H1").teacher.influence < INFLUENTIAL
    assert not small.of("L0H1").teacher.influential


def test_among_equals_the_influential_one_is_the_lookalike():
    similarity = diagonal()
    similarity[1] = 0.95, 0.95, 0.2, 0.2
    # The dead twin L0H1 is nearer in influence, but only L0H0 can have taken the work over.
    found = find_fates(compared(similarity, [2, 0.4, 1, 0, 2], [2, 0, 1, 0, 2]), null_of())
    assert found.of("L0H1").student.component == Component.parse("L0H0")
    assert found.of("L0H1").fate == "merged"


def names_in(told, pattern):
    return re.search(pattern, told).groups() if re.search(pattern, told) else None


@pytest.fixture(scope="module")
def random_fates():
    """Of random similarities and effects, rounded so that ties occur, among few enough for all to be told."""
    rng, found = np.random.default_rng(0), []
    for _ in range(60):
        effect = rng.choice([-0.5, 0.0, 0.03, 0.3, 1.0, 2.0], size=(2, 5))
        comparison = compared(rng.random((4, 4)).round(1), *effect, spread=rng.choice([0.05, 3.0], p=[0.9, 0.1]))
        found.append((comparison, find_fates(comparison, null_of(0.45))))
    return found


def test_every_sentence_is_true_of_the_numbers(random_fates):
    told_kinds = Counter()
    for comparison, found in random_fates:
        values = {"head": comparison.similarity.head, "mlp": comparison.similarity.mlp}
        teacher, student = (influential_by_hand(s) for s in (comparison.teacher_sweep, comparison.student_sweep))
        told = found.summary

        def alike(t, s, values=values):
            return values[t.kind][at(t), at(s)] > 0.45

        def nearest(t, values=values):
            row = values[t.kind][at(t)]
            return {s for s in found_components(t.kind) if row[at(s)] >= row.max() - 1e-9}

        def owners(s, values=values):
            column = values[s.kind][:, at(s)]
            return {t for t in found_components(s.kind) if column[at(t)] >= column.max() - 1e-9}

        if not teacher:
            assert "none of them is shown to matter by itself" in told
            continue
        count = names_in(told, r"On ioi, (one|\d+) (?:is|are) shown to matter")[0]
        assert len(teacher) == (1 if count == "one" else int(count))
        total = 0
        if pieces := names_in(told, r"kept (\d) of these: .*? matters as well \(([^)]*)\)"):
            total += counted(pieces, told_kinds, "kept")
            for one, other in re.findall(r"(\S+) as (\S+?)(?:;|$)", pieces[1]):
                t, s = map(Component.parse, (one, other))
                assert t in teacher and s in student and alike(t, s) and s in nearest(t)
        if pieces := names_in(told, r"(\d) were merged: .*? most like; (.*?\))\."):
            total += counted(pieces, told_kinds, "merged")
            for target, parts in re.findall(r"into (\S+): (.*?)(?:;|$)", pieces[1]):
                s = Component.parse(target)
                sharing = [Component.parse(p) for p in re.findall(r"(\S+) \(similarity", parts)]
                assert len(sharing) > 1 and s in student
                assert all(t in teacher and alike(t, s) and s in nearest(t) for t in sharing)
        for number, n, kind in re.findall(
            r"Only (\d) (?:heads?|MLPs?) matters? .*? so the (\d) teacher (head|MLP)s", told
        ):
            here = [s for s in student if s.kind == kind.lower()]
            matched = [
                t for t in teacher if t.kind == kind.lower() and any(alike(t, s) for s in nearest(t) if s in student)
            ]
            assert len(here) == int(number) < int(n) == len(matched)
            told_kinds["had to share"] += 1
        if pieces := names_in(told, r"(\d) (?:was|were) split: .*? most like it \((.*?)\)"):
            total += counted(pieces, told_kinds, "split")
            for one, others in re.findall(r"(\S+) over ([^;]+)", pieces[1]):
                t, heirs = Component.parse(one), [Component.parse(s) for s in others.split(", ")]
                assert t in teacher and len(heirs) > 1
                assert all(s in student and alike(t, s) and t in owners(s) for s in heirs)
        if pieces := names_in(told, r"(\d) changed in weight or in role \((.*?)\)\."):
            total += counted(pieces, told_kinds, "changed")
            for one in re.findall(r"(?:^|; )(L0H\d|MLP0): its lookalike", pieces[1]):
                assert Component.parse(one) in teacher
        if pieces := names_in(told, r"(\d) (?:was|were) discarded \(([^)]*)\)"):
            total += counted(pieces, told_kinds, "discarded")
            for one in pieces[1].split("; "):
                t = Component.parse(one)
                assert t in teacher
                assert all(not alike(t, s) or s not in student for s in nearest(t))
        assert total == len(teacher)
        if pieces := names_in(told, r"(\d) of them (?:has|have) a counterpart that matters"):
            assert 0 < int(pieces[0]) <= 5 - len(teacher)
            told_kinds["gained"] += 1
    assert set(told_kinds) == {"kept", "merged", "had to share", "split", "changed", "discarded", "gained"}


def at(component):
    return component.head or 0


def found_components(kind):
    return [c for c in map(Component.parse, TEACHER) if c.kind == kind]


def counted(pieces, told_kinds, kind):
    told_kinds[kind] += 1
    return int(pieces[0])


def influential_by_hand(found):
    """Components with a twentieth of the largest effect or more, whose bootstrap interval is above 0."""
    rng = np.random.default_rng(1)
    means = found.effects[:, rng.integers(0, 12, size=(4000, 12))].mean(axis=2)
    size = found.effects.mean(axis=1) / max(found.effects.mean(axis=1).max(), 1e-12)
    low = np.percentile(means, 2.5, axis=1)
    return {c for c, big, least in zip(found.components, size, low, strict=True) if big >= INFLUENTIAL and least > 0}


def planted_fates(teacher, student, task):
    comparison = compare(teacher, student, task, options=CompareOptions(random_null=False))
    tasks = (task.bind(teacher), task.bind(student))
    null = untrained_similarity((teacher, student), tasks, like=comparison.similarity, seeds=(0,))
    roles = (role_scores(teacher, tasks[0]), role_scores(student, tasks[1]))
    return find_fates(comparison, null, roles=roles)


@pytest.fixture(scope="module")
def planted():
    return successor(n=12)


def test_two_heads_summed_into_one_are_merged(planted):
    mover = Component.parse("L0H1")
    teacher = with_shared_output(planted.model, mover, twin=0)
    found = planted_fates(teacher, planted.model, planted.task)
    for head in ("L0H0", "L0H1"):
        fate = found.of(head)
        assert (fate.fate, fate.student.component) == ("merged", mover)
        assert fate.similarity == pytest.approx(1.0)
    assert found.of("MLP1").fate == "preserved"
    assert found.counts(influential=True) == dict.fromkeys(KINDS, 0) | {"merged": 2, "preserved": 1}
    assert "2 were merged" in found.summary
    assert "Only 1 head matters in the student, so the 2 teacher heads that are like such" in found.summary


def test_one_head_shared_out_to_two_is_split(planted):
    mover = Component.parse("L0H1")
    student = with_shared_output(planted.model, mover, twin=0)
    fate = planted_fates(planted.model, student, planted.task).of(mover)
    assert fate.fate == "split"
    assert {fate.student.component, *fate.others} == {mover, Component.parse("L0H0")}


@pytest.mark.parametrize("make", [lambda: (successor(n=12), "L0H1"), lambda: (induction(n=12), "L1H0")])
def test_a_silenced_head_is_discarded_though_its_pattern_still_matches(make):
    planted, name = make()
    head = Component.parse(name)
    with torch.no_grad():  # so that a model that cannot do the task still prefers something
        weight = planted.model.hf.lm_head.weight
        weight += 1e-3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    found = planted_fates(planted.model, without_output(planted.model, head), planted.task)
    fate = found.of(head)
    assert fate.fate == "discarded"
    assert fate.student.component == head
    assert fate.similarity == pytest.approx(1.0)
    assert fate.student.influence == 0.0
    assert fate.teacher.influential
    assert f"{name}, is not shown to" in fate.reason
    # Without it the student cannot do the task, so no story is told.
    assert "cannot be said" in found.summary


@pytest.mark.parametrize("name, permute", [("gpt2", permuted_gpt2), ("bert", permuted_bert), ("llama", permuted_llama)])
def test_permuted_heads_are_preserved(name, permute):
    task = task_of("numeral-sequence", n=16)
    teacher = model_for(name)
    found = planted_fates(teacher, permute(teacher, seed=3), task)
    assert {f.fate for f in found.fates} == {"preserved"}
    assert any(f.teacher.component != f.student.component for f in found.fates)
    for fate in found.fates:
        assert fate.similarity == pytest.approx(1.0)
        assert fate.teacher.influence == pytest.approx(fate.student.influence, abs=1e-9)
        assert fate.teacher.component.layer == fate.student.component.layer
        assert fate.teacher.roles == fate.student.roles


def test_a_model_that_does_not_do_the_task_has_no_story():
    teacher = model_for("gpt2", torch.float32)
    found = planted_fates(teacher, teacher, task_of("numeral-sequence", n=16))
    assert "is not shown to do mixed" in found.summary
    assert "cannot be said" in found.summary


def test_errors():
    comparison = compared(diagonal(), [2, 1, 1, 0, 2], [2, 1, 1, 0, 2])
    with pytest.raises(ValueError, match="the null has 4 components, tiny-teacher has 5: measure it with the compared"):
        find_fates(comparison, null_of(n=4))
    other = roles_of("another", "ioi", {})
    with pytest.raises(ValueError, match="roles of another on 'ioi' do not belong to a comparison of tiny-teacher"):
        find_fates(comparison, null_of(), roles=(other, other))
    with pytest.raises(ValueError, match="tiny-teacher has no L3H0: see the `fates`"):
        find_fates(comparison, null_of()).of("L3H0")


def test_it_can_be_saved_and_is_a_table(tmp_path):
    found = find_fates(compared(diagonal(), [2, 1, 1, 0, 2], [2, 0, 1, 0, 2]), null_of())
    assert_same(load_run(save_run(tmp_path, found, manifest={}), Fates), found)
    table = found.to_pandas().set_index("teacher")
    assert table["fate"].tolist() == kinds(found)
    assert table.loc["L0H1", "student_influence"] == 0.0
    assert found.counts() == {"preserved": 4, "merged": 0, "split": 0, "repurposed": 0, "discarded": 1}
