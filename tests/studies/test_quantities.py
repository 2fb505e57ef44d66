"""The registry: names are unique, every quantity is of a kind of analysis, and a printed value finds its job."""

from __future__ import annotations

from pathlib import Path

from circuitkd.studies.circuit_quantities import CIRCUIT_QUANTITIES
from circuitkd.studies.comparison_quantities import COMPARISON_QUANTITIES
from circuitkd.studies.distillation_quantities import DISTILLATION_QUANTITIES
from circuitkd.studies.job_kinds import RUNNERS
from circuitkd.studies.quantities import QUANTITIES, job_of
from circuitkd.studies.role_quantities import ROLE_QUANTITIES
from circuitkd.studies.settings import CircuitSettings, CompareSettings, DistillSettings, NoiseSettings
from circuitkd.studies.study_file import KINDS, PairSpec, Study, TaskSpec
from synthetic_study import study_of


def test_names_are_unique():
    parts = (COMPARISON_QUANTITIES, CIRCUIT_QUANTITIES, ROLE_QUANTITIES, DISTILLATION_QUANTITIES)
    assert sum(map(len, parts)) == len(QUANTITIES)
    assert {q.kind for q in QUANTITIES.values()} == set(KINDS) == set(RUNNERS)


def test_a_printed_value_finds_its_job():
    study = study_of()
    assert [job_of(study, p).folder for p in study.printed] == ["one/ioi/compare"] * 4


def test_the_page_names_every_quantity_and_every_key():
    text = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
    of_teacher = {name.replace("student-", "teacher-") for name in QUANTITIES}
    assert [name for name in sorted(of_teacher) if f"`{name}`" not in text] == []
    records = (Study, PairSpec, TaskSpec, CompareSettings, CircuitSettings, NoiseSettings, DistillSettings)
    keys = {key for record in records for key in record.model_fields}
    assert [key for key in sorted(keys) if f"`{key}`" not in text and f"`{key}: " not in text] == []
