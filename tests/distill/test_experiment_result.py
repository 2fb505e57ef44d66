"""Tables and tests by hand on made-up runs; what is saved comes back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from circuitkd.components import Component
from circuitkd.distill.circuit_parameters import Untouched
from circuitkd.distill.evaluation import CircuitAccuracy, McNemar
from circuitkd.distill.experiment_result import DistillationRun, ExperimentResult, mean_and_std
from circuitkd.distill.head_map import HeadMap
from circuitkd.reports.tables import markdown
from equal_results import assert_same

HEADS = (Component.parse("L0H1"), Component.parse("L1H0"))
MAP = HeadMap("impact", "least |dP_s - dP_t|", HEADS, HEADS, (0.1, 0.2), (0.3, 0.4), (0.2, float("nan")))


def run(condition, seed, right, circuit=(1, 0, 0, 0)):
    accuracy = CircuitAccuracy(np.array(right, dtype=float), np.array(circuit, dtype=float), np.zeros((3, 4)))
    trained = condition != "untrained"
    return DistillationRun(
        condition,
        seed,
        accuracy,
        0.5,
        ce=0.25 + seed,
        cka=0.5,
        alignment=0.75,
        mean_drop=10.0,
        head_share=0.25 * trained,
        parameter_share=0.05 * trained,
        loss_steps=np.array([1.0, 2.0]),
        losses=np.array([3.0, 1.5]),
        seconds=1.0,
        untouched=Untouched("a", "a", 7) if trained else None,
        pairs=MAP if "random" in condition else None,
        task_losses=np.array([1.0, 0.75]),
    )


@pytest.fixture(scope="module")
def result():
    runs = (
        run("untrained", 0, (1, 0, 0, 0)),
        run("untrained", 1, (1, 0, 0, 0)),
        run("all parameters, CE", 0, (1, 1, 1, 1)),
        run("all parameters, CE", 1, (1, 1, 0, 0)),
        run("random, once", 0, (0, 0, 0, 0)),
    )
    return ExperimentResult(
        "t", "s", "task", HEADS, MAP, ("a", "b", "c", "d"), np.ones(4), runs, ("careful",), {"x": "y"}
    )


def test_the_table(result):
    first, second, third = result.rows()
    assert first == {
        "condition": "untrained",
        "full": "25.0 ± 0.0",
        "circuit": "25.0 ± 0.0",
        "random": "0.0 ± 0.0",
        "faithfulness": "1.00 ± 0.00",
        "CE": "0.750 ± 0.707",
        "CKA": "0.500 ± 0.000",
        "alignment": "0.750 ± 0.000",
        "mean drop": "10.0 ± 0.0",
        "heads": "0 %",
        "parameters": "0.0 %",
        # Three and one examples that only one gets right: p 1/4 and 1, of which the median.
        "p, all parameters, CE": "0.625",
    }
    assert second["p, all parameters, CE"] == "–" and second["full"] == "75.0 ± 35.4" and second["heads"] == "25 %"
    assert third["full"] == "0.0" and third["faithfulness"] == "–"
    assert "p, circuit, CE" not in first
    assert markdown(result.rows()).count("\n") == 5


def test_tests_are_seed_by_seed(result):
    assert result.tests("untrained", "all parameters, CE") == (McNemar(0, 3, 0.25), McNemar(0, 1, 1.0))
    assert result.tests("random, once", "untrained") == (McNemar(0, 1, 1.0),)
    with pytest.raises(
        ValueError, match="no condition 'other' in this experiment: there are untrained, all parameters"
    ):
        result.tests("untrained", "other")


def test_frames(result):
    frame = result.to_pandas()
    assert list(frame["condition"]) == [r.condition for r in result.runs]
    assert frame.loc[2, "full"] == 1.0 and frame.loc[3, "faithfulness"] == 0.5 and frame.loc[0, "validation"] == 0.5
    curves = result.curves()
    assert len(curves) == 10
    assert curves.iloc[1].to_dict() == {"condition": "untrained", "seed": 0, "step": 2, "loss": 1.5, "task_loss": 0.75}
    earlier = replace(result, runs=tuple(replace(r, task_losses=np.zeros(0)) for r in result.runs))
    assert earlier.curves()["task_loss"].isna().all() and len(earlier.curves()) == 10


def test_comes_back_as_it_was_saved(result, tmp_path):
    again = ExperimentResult.load(result.save(tmp_path))
    assert_same(again, result)
    assert again.rows() == result.rows()


def test_numbers_over_seeds():
    assert mean_and_std([0.5, 1.0, 1.5], 2) == "1.00 ± 0.50"
    assert mean_and_std([0.123], 2) == "0.12"
    assert mean_and_std([0.1, float("nan")], 2) == "–"
