from dataclasses import replace
from types import SimpleNamespace

import pytest

from circuitkd.circuits.circuit import Circuit, ModelShape
from circuitkd.circuits.discovery import DiscoveryOptions, find_circuit
from circuitkd.circuits.graph import all_edges
from circuitkd.circuits.kept import KeptScorer
from circuitkd.circuits.overlap import edge_count, overlap, require_models
from circuitkd.comparison.kept import best_matches
from circuitkd.comparison.result import MatchedPair
from circuitkd.components import Component, Edge
from planted import induction, successor
from tiny_models import TINY, tiny

SHAPES = {
    "teacher": ModelShape("teacher", "GPT2LMHeadModel", "aaaa", 3, 2, 2, 8, "pre"),
    "student": ModelShape("student", "GPT2LMHeadModel", "bbbb", 2, 2, 2, 8, "pre"),
}


def pairs(text):
    """Pairs written as L0H0=L1H1."""
    found = []
    for item in text.split():
        teacher, student = (Component.parse(c) for c in item.split("="))
        found.append(MatchedPair(teacher, student, 1.0, 0.9, 0.5, 0.5, 1.0, 0.9))
    return tuple(found)


def comparison(matching, task="t"):
    models = {side: SimpleNamespace(name=side, fingerprint=shape.fingerprint) for side, shape in SHAPES.items()}
    return SimpleNamespace(alignment=SimpleNamespace(pairs=pairs(matching)), task=task, **models)


def circuit(side, components, edges="", **changes):
    shape = replace(SHAPES[side], **changes)
    return Circuit(
        shape,
        "t",
        tuple(Component.parse(c) for c in components.split()),
        tuple(Edge.parse(e) for e in edges.split()),
        tuple(1.0 for _ in edges.split()),
    )


def test_nodes_and_edges_under_the_matching():
    teacher = circuit(
        "teacher",
        "L0H0 L1H1 L2H0 MLP1",
        "embed->L0H0<v> L0H0->L1H1<k> L1H1->MLP1 MLP1->logits L0H0->MLP1 L2H0->logits",
    )
    student = circuit("student", "L0H1 L1H0 MLP0", "embed->L0H1<v> L0H1->L1H0<k> L1H0->logits L0H1->MLP0")
    found = overlap(teacher, student, comparison=comparison("L0H0=L0H1 L1H1=L1H0 MLP1=MLP0 L2H1=L1H1"))
    assert [(str(n.teacher), str(n.student), n.found) for n in found.nodes] == [
        ("L0H0", "L0H1", True),
        ("L1H1", "L1H0", True),
        ("L2H0", "None", False),
        ("MLP1", "MLP0", True),
    ]
    assert found.node_overlap == 3 / 4
    # two heads of four at random, one MLP of two, one component without a match
    assert found.expected_node_overlap == (2 / 4 + 2 / 4 + 1 / 2) / 4
    assert found.reverse_overlap == 1.0
    by_edge = {str(e.teacher): ([str(s) for s in e.students], e.found) for e in found.edges}
    assert by_edge == {
        "embed->L0H0<v>": (["embed->L0H1<v>"], True),
        "L0H0->L1H1<k>": (["L0H1->L1H0<k>"], True),
        "L1H1->MLP1": ([], False),  # L1H0 comes after MLP0
        "MLP1->logits": (["MLP0->logits"], False),
        "L0H0->MLP1": (["L0H1->MLP0"], True),
        "L2H0->logits": ([], False),
    }
    assert found.edge_overlap == 3 / 6
    assert list(found.to_pandas()["found"]) == [True, True, False, True]


def test_sizes_and_depths():
    teacher = circuit("teacher", "L0H0 L0H1 L2H0 MLP1", "embed->L0H0<v>")
    found = overlap(teacher, circuit("student", "MLP1"), comparison=comparison("L0H0=L0H1"))
    side = found.teacher
    assert (side.nodes, side.heads, side.mlps, side.edges) == (4, 3, 1, 1)
    assert side.node_share == 4 / 9
    assert side.edge_share == 1 / edge_count(SHAPES["teacher"])
    assert (side.heads_per_layer, side.mlps_per_layer) == ((2, 0, 1), (0, 1, 0))
    assert side.mean_depth == (0 + 0 + 1 + 0.5) / 4
    assert side.top is None
    assert found.student.mean_depth == 1.0
    assert found.edge_overlap == 0.0


def test_keys_of_groups_are_looked_for_in_the_groups_of_the_matches():
    grouped = {"n_kv_heads": 1}
    matching = "L0H0=L0H0 L1H0=L1H1 L1H1=L1H0"
    # a grouped teacher, a student without groups: the group stands for its circuit heads
    teacher = circuit("teacher", "L0H0 L1H0", "L0H0->L1KV0<k> L0H0->L1H0<q>", **grouped)
    student = circuit("student", "L0H0 L1H1", "L0H0->L1H1<k>")
    found = overlap(teacher, student, comparison=comparison(matching))
    assert [([str(s) for s in e.students], e.found) for e in found.edges] == [
        (["L0H0->L1H1<k>"], True),
        (["L0H0->L1H1<q>"], False),
    ]
    # and the other way round
    teacher = circuit("teacher", "L0H0 L1H0 L1H1", "L0H0->L1H0<v> L0H0->L1H1<v>")
    student = circuit("student", "L0H0 L1H1", "L0H0->L1KV0<v>", **grouped)
    found = overlap(teacher, student, comparison=comparison(matching))
    assert [([str(s) for s in e.students], e.found) for e in found.edges] == [(["L0H0->L1KV0<v>"], True)] * 2


def test_parallel_blocks_have_no_edge_into_their_own_mlp():
    teacher = circuit("teacher", "L0H0 MLP0", "L0H0->MLP0")
    for residual, images in (("pre", ["L1H0->MLP1"]), ("parallel", [])):
        student = circuit("student", "L1H0 MLP1", "L1H0->MLP1", residual=residual)
        found = overlap(teacher, student, comparison=comparison("L0H0=L1H0 MLP0=MLP1"))
        assert [str(s) for s in found.edges[0].students] == images


def test_the_heaviest_pair_is_the_match():
    a, b = pairs("L0H0=L0H0 L0H0=L0H1")
    assert best_matches([a, replace(b, weight=0.5)])[a.teacher] is a
    heavier = replace(b, weight=2.0)
    assert best_matches([a, heavier])[a.teacher] is heavier
    closer = replace(b, similarity=0.95)
    assert best_matches([closer, a])[a.teacher] is closer


@pytest.mark.parametrize("name", sorted(TINY))
def test_edges_are_counted_as_the_graph_has_them(name):
    model = tiny(name)
    assert edge_count(ModelShape.of(model)) == len(all_edges(model))


@pytest.mark.parametrize("layers, heads, edges", [(12, 12, 32491), (24, 14, 179749), (26, 8, 74218), (32, 32, 1592881)])
def test_edges_are_counted_as_in_mib(layers, heads, edges):
    """Its numbers for GPT-2 small, Qwen 2.5, Gemma 2 and Llama 3, with a key and a value per query head."""
    assert edge_count(ModelShape("m", "", "", layers, heads, heads, 8, "pre")) == edges


def test_a_circuit_overlaps_itself_wholly_and_says_where_its_effect_is():
    planted = successor(n=8)
    options = DiscoveryOptions(random_circuits=0, subsets=0)
    found = find_circuit(KeptScorer(planted.model, planted.task), options)
    itself = SimpleNamespace(name="m", fingerprint=found.model.fingerprint)
    same = " ".join(f"{c}={c}" for c in planted.model.components)
    against = SimpleNamespace(
        alignment=SimpleNamespace(pairs=pairs(same)), task=found.task, teacher=itself, student=itself
    )
    result = overlap(found, found, comparison=against)
    assert (result.node_overlap, result.edge_overlap, result.reverse_overlap) == (1.0, 1.0, 1.0)
    assert result.warnings == ()
    assert result.teacher == result.student
    assert result.teacher.top == found.components[max(range(2), key=lambda i: found.minimality[i])]
    assert result.teacher.top_loss == max(found.minimality)
    assert result.teacher.concentration == found.concentration


def test_warns_of_another_task():
    result = overlap(circuit("teacher", "MLP0"), circuit("student", "MLP0"), comparison=comparison("", task="other"))
    assert result.warnings == ("circuits for 't' and 't' under a matching from 'other'",)


def test_refuses_circuits_of_other_models():
    teacher, student = circuit("teacher", "MLP0"), circuit("student", "MLP0")
    with pytest.raises(
        ValueError, match=r"the teacher's circuit belongs to student \(weights bbbb\), the comparison's teacher is"
    ):
        overlap(student, teacher, comparison=comparison(""))
    other = Circuit(ModelShape.of(induction(n=8).model), "t", ())
    with pytest.raises(ValueError, match="the student's circuit belongs to planted"):
        overlap(teacher, other, comparison=comparison(""))
    require_models(comparison(""), teacher=SHAPES["teacher"], student=SHAPES["student"])
    with pytest.raises(ValueError, match=r"the student's circuit belongs to teacher .*: give circuits of those"):
        require_models(comparison(""), teacher=SHAPES["teacher"], student=SHAPES["teacher"])
