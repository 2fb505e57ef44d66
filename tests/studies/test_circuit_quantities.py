"""Quantities of circuits, for both sides."""

from __future__ import annotations

from dataclasses import replace

import pytest

from circuitkd.studies.circuit_quantities import CIRCUIT_QUANTITIES
from synthetic_study import circuits


def read(name, result, of=""):
    return CIRCUIT_QUANTITIES[name].read(result, of)


def test_of_a_circuit():
    result = circuits()
    teacher, student = result.found.teacher, result.found.student
    assert read("teacher-retained", result).value == pytest.approx(100 * teacher.retained)
    assert read("teacher-retained", result).low == pytest.approx(100 * teacher.evaluation.retained_interval[0])
    assert read("student-without-circuit", result).value == student.evaluation.complement
    assert read("teacher-nodes", result).value == len(teacher.components)
    assert read("student-edges", result).value == len(student.edges)
    first = str(teacher.components[0])
    assert read("teacher-circuit-drop", result, first).value == teacher.minimality[0]
    with pytest.raises(ValueError, match="there is no component in the circuit 'L9H9'"):
        read("teacher-circuit-drop", result, "L9H9")


def test_at_a_threshold():
    result = circuits()
    circuit = result.teacher_thresholds.circuits[0]
    assert read("teacher-retained-at", result, "0.20").value == pytest.approx(100 * circuit.retained)
    assert read("teacher-left-without-at", result, "0.2").value == pytest.approx(100 * (1 - circuit.completeness))
    counts = [read(f"teacher-{what}-at", result, "0.2").value for what in ("nodes", "heads", "mlps")]
    assert counts == [len(circuit.components), len(circuit.heads), len(circuit.mlps)]
    with pytest.raises(ValueError, match="threshold 0.3 was not asked for"):
        read("teacher-nodes-at", result, "0.3")
    with pytest.raises(ValueError, match="there are no thresholds of the student"):
        read("student-nodes-at", result, "0.2")


def test_without_a_circuit():
    result = circuits()
    lost = replace(result, found=replace(result.found, student=None, missing=("it cannot do ioi",)))
    with pytest.raises(ValueError, match=r"the student has no circuit \(it cannot do ioi\)"):
        read("student-nodes", lost)
