"""Options of a study file are the library's, and default to the same."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from circuitkd.analysis import CompareOptions
from circuitkd.circuits.discovery import DiscoveryOptions
from circuitkd.comparison.noise import SEEDS, STDS
from circuitkd.distill.conditions import BEYOND, PAPER, ExperimentOptions, Grid
from circuitkd.studies.settings import CircuitSettings, CompareSettings, DistillSettings, NoiseSettings
from circuitkd.tasks.registry import load_task


def test_defaults_are_the_librarys():
    assert CompareSettings().options() == CompareOptions()
    assert CircuitSettings().options() == DiscoveryOptions()
    assert NoiseSettings().stds() == STDS and NoiseSettings().seeds == len(SEEDS)
    assert DistillSettings(conditions="all").options() == ExperimentOptions()
    assert DistillSettings().options().conditions == PAPER and BEYOND[0] not in DistillSettings().options().conditions


def test_options_reach_the_library():
    compare = CompareSettings(head_similarity="cka", preset="released-notebook-ioi", random_null=False)
    assert compare.options().score.measures.head == "cka"
    assert compare.options().notebook == "ioi" and not compare.options().random_null
    assert CompareSettings(preset="released-notebook").options().notebook is True
    assert CompareSettings(ablation="zero").ablation_of(load_task("ioi", 1)).kind == "zero"
    assert CompareSettings().ablation_of(load_task("question-answering", 1)).kind == "mean"
    assert CircuitSettings(threshold=0.1, edge_share=None).options() == DiscoveryOptions(0.1, edge_share=None)
    assert NoiseSettings(steps=3, largest=1.0).stds() == (0.0, 0.5, 1.0)
    distill = DistillSettings(heads=3, steps=7, weight=0.5, seeds=2, search=True).options()
    assert (distill.heads, distill.training.steps, distill.losses.weight, distill.seeds) == (3, 7, 0.5, (0, 1))
    assert distill.search == Grid()


def test_path_patching_takes_a_group_size():
    with pytest.raises(ValidationError, match="heads is for circuit: ablation; path patching takes group_size"):
        DistillSettings(circuit="path-patching", heads=3)
