"""Two states of a student, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from circuitkd.comparison.changes import find_changes
from synthetic_comparison import synthetic


@pytest.fixture(scope="module")
def before():
    return synthetic()


def test_nothing_moves_between_a_student_and_itself(before):
    found = find_changes(before, before)
    assert found.rematched == () and found.matched == 20
    assert all(m.influence[0] == m.influence[1] and m.effect[0] == m.effect[1] for m in found.moved)
    assert len(found.moved) == len(before.student_sweep.components)


def test_the_largest_change_stands_first(before):
    sweep = before.student_sweep
    largest = int(np.argmax(sweep.drops))
    moved = sweep.effects.copy()
    moved[largest] = 0.0
    found = find_changes(before, replace(before, student_sweep=replace(sweep, effects=moved))).moved[0]
    assert found.student == sweep.components[largest]
    assert found.influence == (1.0, 0.0)
    assert found.effect == (pytest.approx(sweep.drops[largest]), 0.0)


def test_changed_matches_are_listed_by_influence(before):
    pairs = list(before.alignment.pairs)
    changed = [i for i, p in enumerate(pairs) if p.teacher.kind == "mlp"][:2]
    for i in changed:
        other = next(c for c in before.student_sweep.components if c.kind == "mlp" and c != pairs[i].student)
        pairs[i] = replace(pairs[i], student=other, similarity=0.25)
    after = replace(before, alignment=replace(before.alignment, pairs=tuple(pairs)))
    found = find_changes(before, after).rematched
    assert {str(r.teacher) for r in found} == {str(pairs[i].teacher) for i in changed}
    assert [r.influence for r in found] == sorted((r.influence for r in found), reverse=True)
    assert all(r.after.similarity == 0.25 and r.before.student != r.after.student for r in found)


def test_other_comparisons_are_refused(before):
    with pytest.raises(ValueError, match="differ in their task: compare one teacher with the same student before"):
        find_changes(before, replace(before, task="another"))
    with pytest.raises(ValueError, match="differ in their teacher and components of the student"):
        find_changes(before, synthetic(student_layers=3, teacher_layers=5))
