"""The picture of fates: who is in it, how thick, and where ribbons end."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from circuitkd.components import Component
from circuitkd.reports import fate_diagram as module
from circuitkd.reports.fate_diagram import SCALE, SPAN, THINNEST, fate_diagram
from circuitkd.roles.fate_result import Fate, Fates, Side


def side(name, influence, *, influential=None, roles=()):
    has = influence >= 0.05 if influential is None else influential
    return Side(Component.parse(name), influence, has, 10 * influence, (0.0, 1.0), roles)


def fates(*listed):
    """Fates of (kind, teacher, influence, student, influence, others)."""
    made = []
    for kind, teacher, influence, student, other, *more in listed:
        others = tuple(map(Component.parse, more))
        made.append(Fate(kind, side(teacher, influence), side(student, other), 0.9, 0.5, others, f"why {teacher}"))
    return Fates("tiny-teacher", "tiny-student", "ioi", 12, tuple(made), "rules", "summary")


def numbers(path):
    return [float(x) for x in re.findall(r"-?\d+(?:\.\d+)?", path)]


def with_influence(comparison, **wanted):
    """The comparison with these influences of student components, 0 for all others."""
    sweep = comparison.student_sweep
    effects = 0 * sweep.effects - 0.01  # nothing else does more than chance
    for name, influence in wanted.items():
        effects[sweep.components.index(Component.parse(name))] = influence
    return replace(comparison, student_sweep=replace(sweep, effects=effects))


def test_nothing_that_matters_is_no_picture(comparison):
    idle = fates(("preserved", "L0H0", 0.0, "L0H0", 0.0), ("discarded", "MLP1", 0.01, "MLP0", 0.0))
    assert fate_diagram(idle, comparison) is None


def test_where_a_model_is_not_shown_to_do_the_task_there_is_no_picture(comparison):
    kept = fates(("preserved", "MLP0", 1.0, "MLP0", 1.0))
    assert fate_diagram(kept, with_influence(comparison, MLP0=1.0)) is not None
    for side in ("teacher", "student"):
        weak = replace(getattr(comparison.performance, side), low=-0.1)
        undone = replace(comparison, performance=replace(comparison.performance, **{side: weak}))
        assert fate_diagram(kept, with_influence(undone, MLP0=1.0)) is None


def test_an_influence_that_may_be_chance_does_not_matter(comparison):
    pair = with_influence(comparison, MLP0=1.0, L1H3=0.3)
    sweep = pair.student_sweep
    noisy = sweep.effects.copy()
    noisy[sweep.components.index(Component.parse("L1H3"))] *= np.where(np.arange(len(sweep.examples)) % 2, 21.0, -19.0)
    found = fate_diagram(
        fates(("preserved", "MLP0", 1.0, "MLP0", 1.0)), replace(pair, student_sweep=replace(sweep, effects=noisy))
    )
    assert [str(n.component) for n in found.student] == ["MLP0"]


def test_bars_and_ribbons_are_as_thick_as_influences(comparison):
    pair = with_influence(comparison, MLP0=1.0, L0H1=0.5)
    found = fate_diagram(fates(("preserved", "MLP0", 1.0, "MLP0", 1.0), ("preserved", "L0H0", 0.25, "L0H1", 0.5)), pair)
    left = {str(n.component): n for n in found.teacher}
    right = {str(n.component): n for n in found.student}
    assert left["MLP0"].height == SCALE and left["L0H0"].height == pytest.approx(SCALE / 4)
    assert right["L0H1"].height == pytest.approx(SCALE / 2)
    ribbon = next(r for r in found.ribbons if str(r.teacher) == "L0H0")
    assert ribbon.title == "L0H0, preserved: why L0H0"
    ends = numbers(ribbon.path)
    assert ends[1] == pytest.approx(left["L0H0"].y, abs=0.1) and ends[6] == SPAN
    assert ends[7] == pytest.approx(right["L0H1"].y, abs=0.1)
    assert ends[8] - ends[7] == pytest.approx(right["L0H1"].height, abs=0.1)


def test_what_merged_shares_the_bar_that_it_became(comparison):
    merged = fates(
        ("merged", "L0H0", 0.4, "L1H0", 1.0, "L1H1"),
        ("preserved", "MLP0", 0.9, "MLP0", 0.2),
        ("merged", "L1H1", 0.3, "L1H0", 1.0, "L0H0"),
    )
    found = fate_diagram(merged, with_influence(comparison, L1H0=1.0, MLP0=0.2))
    assert [text for _, _, text in found.headings] == ["preserved 1", "merged 2"]
    bar = next(n for n in found.student if str(n.component) == "L1H0")
    starts = sorted(numbers(r.path)[7] for r in found.ribbons if r.fate == "merged")
    assert starts == pytest.approx([bar.y, bar.y + bar.height / 2], abs=0.1)
    assert len(found.student) == 2


def test_what_was_split_ends_in_several(comparison):
    found = fate_diagram(
        fates(("split", "L0H0", 1.0, "L0H1", 0.5, "L1H2")), with_influence(comparison, L0H1=0.5, L1H2=1.0)
    )
    assert {str(r.student) for r in found.ribbons} == {"L0H1", "L1H2"}
    assert all(str(r.teacher) == "L0H0" for r in found.ribbons)
    first, second = sorted(found.ribbons, key=lambda r: numbers(r.path)[1])
    assert numbers(second.path)[1] - numbers(first.path)[1] == pytest.approx(SCALE / 2, abs=0.1)


def test_what_was_discarded_leads_nowhere_and_names_its_lookalike(comparison):
    listed = ("preserved", "MLP0", 1.0, "MLP0", 1.0), ("discarded", "L2H0", 0.8, "L1H1", 0.0)
    found = fate_diagram(fates(*listed), with_influence(comparison, MLP0=1.0))
    ribbon = found.ribbons[1]
    assert ribbon.student is None and ribbon.lookalike == "most like L1H1"
    assert 0 < ribbon.end[0] < SPAN
    assert [str(n.component) for n in found.student] == ["MLP0"] and found.new is None


def test_what_matters_in_the_student_alone_is_named(comparison):
    pair = with_influence(comparison, MLP0=1.0, L1H3=0.3, L0H0=0.04)
    found = fate_diagram(fates(("preserved", "MLP0", 1.0, "MLP0", 1.0)), pair)
    assert [str(n.component) for n in found.student] == ["MLP0", "L1H3"]
    assert found.new[1] == "matter in the student only"
    assert found.student[1].note == "0.30"


def test_what_came_to_matter_is_drawn_thin_at_its_left(comparison):
    found = fate_diagram(fates(("repurposed", "L0H0", 0.0, "L0H1", 1.0)), with_influence(comparison, L0H1=1.0))
    assert found.teacher[0].height == THINNEST
    assert found.student[0].height == SCALE


def test_only_so_many_are_drawn(comparison, monkeypatch):
    monkeypatch.setattr(module, "MOST", 2)
    listed = [("preserved", f"L{i}H0", 0.1 + i / 10, "L0H0", 0.05) for i in range(4)]
    found = fate_diagram(fates(*listed), with_influence(comparison, L0H0=1.0, L1H3=0.9))
    assert [str(n.component) for n in found.teacher] == ["L3H0", "L2H0"]
    assert found.hidden == 2
    assert [str(n.component) for n in found.student] == ["L0H0", "L1H3"]
    assert found.new[1] == "matter in the student only"


def test_names_have_room(comparison):
    long = fates(("preserved", "MLP0", 1.0, "MLP0", 1.0))
    wide = replace(long.fates[0], teacher=side("MLP0", 1.0, roles=("numeral detection", "similar member", "mover")))
    found = fate_diagram(replace(long, fates=(wide,)), with_influence(comparison, MLP0=1.0))
    assert found.teacher[0].note == "1.00 · numeral detection, similar member, mover"
    assert found.left > 6 * len(found.teacher[0].note) > found.right
    nodes = [*found.teacher, *found.student]
    assert found.height > max(n.y + n.height for n in nodes)
