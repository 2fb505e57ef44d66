from dataclasses import replace

import numpy as np
import pytest

from circuitkd.circuits.connected import NoCircuit
from circuitkd.circuits.discovery import DiscoveryOptions, discover, evaluated, find_circuit, jaccard, threshold_sweep
from circuitkd.circuits.graph import all_edges
from circuitkd.circuits.kept import KeptScorer
from circuitkd.components import Component
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.execution import Execution
from planted import induction, successor

PLANTED = {"induction": induction, "successor": successor}


@pytest.fixture(scope="module", params=sorted(PLANTED))
def planted(request):
    return PLANTED[request.param](n=8)


def reversed_task(task):
    """Answer and distractor exchanged: what the model cannot do."""
    swapped = tuple(replace(e, answer=e.distractor, distractor=e.answer) for e in task.examples)
    return replace(task, examples=swapped)


def test_a_planted_circuit_is_found_whole(planted):
    found = discover(planted.model, planted.task)
    assert set(found.components) == planted.components
    assert set(found.edges) == planted.edges
    assert found.retained == pytest.approx(1.0, abs=0.02)
    assert found.faithfulness == pytest.approx(1.0, abs=0.02)
    assert found.completeness == pytest.approx(1.0, abs=0.05)
    assert min(found.minimality) > 90
    assert found.edge_evaluation.faithfulness == pytest.approx(1.0, abs=0.02)
    assert found.evaluation.random_mean("faithfulness") < 0.5
    assert len(found.evaluation.random) == 20
    # every planted edge is needed: its score is nearly the whole logit difference
    assert min(found.edge_scores) > 0.9 * found.evaluation.circuit
    assert found.warnings == ()


@pytest.mark.parametrize("kind", ["zero", "resample"])
def test_other_ablations_find_the_same_components(planted, kind):
    scorer = KeptScorer(planted.model, planted.task, ablation=Ablation(kind))
    found = find_circuit(scorer, DiscoveryOptions(edge_share=None, random_circuits=2, subsets=1))
    assert set(found.components) == planted.components
    assert (found.edges, found.edge_evaluation) == ((), None)
    assert found.manifest["edges"] == "path patching inside the circuit, none"
    assert found.evaluation.definition.endswith(Ablation(kind).describe())


def test_a_model_that_cannot_do_the_task_is_refused_unless_forced():
    planted = successor(n=8)
    task = reversed_task(planted.task)
    with pytest.raises(ValueError, match=r"cannot do planted-successor: its mean logit difference is -\d.*force=True"):
        discover(planted.model, task)
    found = discover(planted.model, task, force=True)
    assert set(found.components) == planted.components
    assert "the circuit was forced" in found.warnings[0]


def test_a_model_that_may_only_be_guessing_is_refused_too():
    planted = successor(n=8)
    half = tuple(reversed_task(planted.task).examples[:4]) + planted.task.examples[4:]
    scorer = KeptScorer(planted.model, replace(planted.task, examples=half))
    full = scorer.values(scorer.everything)
    assert full.min() < 0 < full.max()
    verdict = "is not shown to do" if full.mean() > 0 else "cannot do"
    with pytest.raises(NoCircuit, match=rf"{verdict} planted-successor: its mean .* \(95 % interval -\d.* to \d"):
        find_circuit(scorer)


def test_components_without_a_strong_path_are_dropped_with_a_warning():
    planted = induction(n=8)
    scorer = KeptScorer(planted.model, planted.task)
    none = DiscoveryOptions(edge_share=0.9999999, random_circuits=0, subsets=0)
    with pytest.raises(ValueError, match="disconnected: .*keep more edges"):
        # above what the previous-token head costs: only the induction head's own edges would be left, and of them a part
        find_circuit(scorer, replace(none, threshold=0.999999))
    everything = DiscoveryOptions(threshold=1e-9, edge_share=0.5, random_circuits=0, subsets=0)
    found = find_circuit(scorer, everything)
    assert set(found.components) == planted.components
    assert len(found.pruning.components) > len(found.components)
    dropped = [c for c in found.pruning.components if c not in found.components]
    assert f"{len(dropped)} components were dropped ({', '.join(map(str, dropped))})" in found.warnings[0]


def test_an_edge_share_of_zero_keeps_every_edge_that_helps():
    planted = induction(n=8)
    scorer = KeptScorer(planted.model, planted.task)
    found = find_circuit(scorer, DiscoveryOptions(threshold=1e-9, edge_share=0.0, random_circuits=0, subsets=0))
    assert planted.edges < set(found.edges) < set(all_edges(planted.model))
    assert min(found.edge_scores) >= 0


def test_progress_is_reported():
    planted, seen = induction(n=8), []
    execution = Execution(progress=lambda label, done, total: seen.append((label, done, total)))
    discover(planted.model, planted.task, execution=execution)
    labels = {label for label, _, _ in seen}
    assert {"node pruning", "path patching"} <= labels
    assert all(done <= total for _, done, total in seen)


def test_a_threshold_sweep_is_a_table_of_circuits():
    planted = induction(n=8)
    options = DiscoveryOptions(random_circuits=1, subsets=1)
    found = threshold_sweep(planted.model, planted.task, thresholds=(1e-6, 0.2, 0.3), options=options)
    table = found.to_pandas()
    assert list(table["threshold"]) == [1e-6, 0.2, 0.3]
    assert list(table["nodes"]) == [len(c.components) for c in found.circuits]
    assert list(table["edges"][1:]) == [5, 5]
    assert list(table["heads"] + table["mlps"]) == list(table["nodes"])
    assert table["retained"][1] == found.circuits[1].retained
    assert table["node_jaccard"][1] == 1.0
    assert (
        table["node_jaccard"][0]
        == found.jaccard[0, 1]
        == jaccard(found.circuits[0].components, found.circuits[1].components)
    )
    assert np.array_equal(found.jaccard, found.jaccard.T)
    assert found.circuits[2].pruning.threshold == 0.3
    alone = discover(planted.model, planted.task)
    assert found.circuits[1].components == alone.components


def test_a_circuit_from_elsewhere_can_be_evaluated():
    planted = successor(n=8)
    found, scorer = discover(planted.model, planted.task), KeptScorer(planted.model, planted.task)
    bare = replace(found, evaluation=None, edge_evaluation=None, task="")
    again = evaluated(bare, scorer)
    assert again.evaluation == found.evaluation
    assert again.edge_evaluation == found.edge_evaluation
    assert again.task == planted.task.name
    nodes = evaluated(replace(bare, edges=(), edge_scores=()), scorer, options=DiscoveryOptions(random_circuits=3))
    assert (nodes.edge_evaluation, len(nodes.evaluation.random)) == (None, 3)
    with pytest.raises(ValueError, match="this circuit belongs to planted-successor"):
        evaluated(bare, KeptScorer(induction(n=8).model, induction(n=8).task))


def test_jaccard_of_sets():
    a, b, c = Component("mlp", 0), Component("mlp", 1), Component("mlp", 2)
    assert jaccard([a, b], [b, c]) == 1 / 3
    assert jaccard([], []) == 1.0


def test_refuses_bad_options():
    planted = induction(n=8)
    with pytest.raises(ValueError, match=r"threshold 1.0 is outside \(0, 1\)"):
        discover(planted.model, planted.task, threshold=1.0)
    with pytest.raises(ValueError, match="unknown criterion 'step': choose one of cumulative, marginal"):
        DiscoveryOptions(criterion="step")
    with pytest.raises(ValueError, match=r"edge_share 1.5 is outside \[0, 1\)"):
        DiscoveryOptions(edge_share=1.5)
    with pytest.raises(ValueError, match="a sweep needs at least one threshold"):
        threshold_sweep(planted.model, planted.task, thresholds=())
