from dataclasses import replace

import pytest

from circuitkd.components import Component
from circuitkd.roles.fate_result import Fate, Side
from circuitkd.roles.fate_words import summary
from synthetic_comparison import synthetic

MANY = {"head": 9, "mlp": 9}


@pytest.fixture(scope="module")
def comparison():
    return synthetic(task="ioi")


def side(name, drop=20.0, *, influential=True, width=2.0):
    return Side(Component.parse(name), drop / 100, influential, drop, (drop - width, drop + width))


def fate(kind, teacher, student, *, others=(), reason="because", similarity=0.9):
    return Fate(kind, teacher, student, similarity, 0.5, tuple(map(Component.parse, others)), reason)


def test_every_kind_is_told_with_its_numbers(comparison):
    told = summary(
        [
            fate("preserved", side("L0H0", 30), side("L1H0", 60)),
            fate("merged", side("L0H1"), side("L1H1"), others=["L0H2"], similarity=0.9),
            fate("merged", side("L0H2"), side("L1H1"), others=["L0H1"], similarity=0.6),
            fate("split", side("L0H3"), side("L1H2"), others=["L1H3"]),
            fate("repurposed", side("MLP0"), side("MLP1"), reason="other roles: a became b"),
            fate("discarded", side("MLP1"), side("MLP0", influential=False)),
            fate("preserved", side("MLP2", 0, influential=False), side("MLP1", 0, influential=False)),
        ],
        comparison,
        heirs=MANY,
    )
    assert told.startswith(
        "tiny-teacher has 4 attention heads and 3 MLPs. On ioi, 6 are shown to matter by themselves: switching one off "
        "weakens the preference for the right answer, most of all L0H0 (by 30 %)."
    )
    assert (
        "tiny-student kept 1 of these: for each it has a component that is alike and matters as well (L0H0 as L1H0)."
        in told
    )
    assert "The student depends on 1 of them more heavily than the teacher" in told
    assert (
        "2 were merged: where the teacher has several, one component of the student is what each of them is most like; "
        "into L1H1: L0H1 (similarity 0.90), L0H2 (similarity 0.60)." in told
    )
    assert "had to share" not in told
    assert (
        "1 was split: for each, several components that matter in the student are most like it (L0H3 over L1H2, L1H3)."
        in told
    )
    assert "1 changed in weight or in role (MLP0: other roles: a became b)." in told
    assert "1 was discarded (MLP1): nothing in the student is alike" in told
    assert "One other is not shown to matter in the teacher" in told
    assert "it does not prove that two components compute the same" in told


def test_what_did_not_happen_is_not_told(comparison):
    told = summary([fate("preserved", side("L0H0"), side("L0H0"))], comparison, heirs=MANY)
    for word in ("merged", "split", "discarded", "changed in", "more heavily", "One other", "had to share"):
        assert word not in told
    assert told.startswith(
        "tiny-teacher has 1 attention head and 0 MLPs. On ioi, one is shown to matter by itself: switching off L0H0 (by 20 "
        "%) weakens the preference for the right answer."
    )


def test_mergers_that_had_to_be_are_called_so(comparison):
    pair = [fate("merged", side(f"L0H{i}"), side("L1H1")) for i in range(2)]
    told = summary(pair, comparison, heirs={"head": 1, "mlp": 9})
    assert (
        "Only 1 head matters in the student, so the 2 teacher heads that are like such could not have one each: some had to "
        "share, whatever the student learned." in told
    )
    # one head for each of them, though both chose the same, and MLPs are no help
    assert "had to share" not in summary(pair, comparison, heirs={"head": 2, "mlp": 0})


def test_heavier_reliance_needs_intervals_that_do_not_meet(comparison):
    told = summary([fate("preserved", side("L0H0", 20, width=15), side("L0H0", 30, width=15))], comparison, heirs=MANY)
    assert "more heavily" not in told


def test_a_long_list_is_cut_and_counted(comparison):
    many = [fate("preserved", side(f"L0H{i}"), side(f"L0H{i}")) for i in range(9)]
    told = summary(many, comparison, heirs=MANY)
    assert "L0H3 as L0H3; 5 more)" in told
    assert "L0H4 as" not in told


def test_gained_influence_is_mentioned_among_the_rest(comparison):
    told = summary(
        [
            fate("preserved", side("L0H0"), side("L0H0")),
            fate("repurposed", side("L0H1", 0, influential=False), side("L0H1")),
        ],
        comparison,
        heirs=MANY,
    )
    assert "though 1 of them has a counterpart that matters in the student" in told


def test_nothing_that_matters_is_said_so(comparison):
    told = summary([fate("preserved", side("L0H0", 0, influential=False), side("L0H0", 0))], comparison, heirs=MANY)
    assert "none of them is shown to matter by itself: switching off any one of them weakens the preference" in told
    assert "kept" not in told


@pytest.mark.parametrize("which", ["teacher", "student"])
def test_a_model_that_is_not_shown_to_do_the_task_has_no_story(comparison, which):
    poor = replace(getattr(comparison.performance, which), value=0.2, low=-0.1)
    failing = replace(comparison, performance=replace(comparison.performance, **{which: poor}))
    told = summary([fate("preserved", side("L0H0"), side("L0H0"))], failing, heirs=MANY)
    assert told == (
        f"tiny-{which} is not shown to do ioi (its mean logit difference is 0.20, 95 % interval from -0.10), so what "
        "became of the teacher's components on this task cannot be said."
    )
