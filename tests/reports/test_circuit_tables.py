"""Rows say the circuit's numbers, with their baseline beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from circuitkd.circuits.overlap import edge_count
from circuitkd.components import Component
from circuitkd.reports import circuit_tables as rows
from circuitkd.reports.tables import markdown
from synthetic_circuit import circuits_of, random_circuit, random_findings, shape_of


@pytest.fixture(scope="module")
def circuit():
    return random_circuit()


def test_one_row_a_circuit(circuit):
    top = circuit.components[int(np.argmax(circuit.minimality))]
    (row,) = rows.circuit_rows([circuit])
    assert row == {
        "model": "tiny-teacher",
        "task": "ioi",
        "nodes": f"{len(circuit.components)} of 20",
        "edges": f"{len(circuit.edges)} of {edge_count(circuit.model)}",
        "faithfulness": "0.91",
        "random": f"{circuit.evaluation.random_mean('faithfulness'):.2f}",
        "completeness": "0.95",
        "top component": f"{top} {100 * circuit.concentration:.0f} %",
    }
    assert markdown([row]).count("|") == 3 * 9
    bare = replace(circuit, edges=(), edge_scores=(), components=())
    bare = replace(bare, evaluation=replace(circuit.evaluation, components=(), minimality=(), random=()))
    (row,) = rows.circuit_rows([bare])
    assert (row["edges"], row["random"], row["top component"]) == ("–", "n/a", "–")


def test_components_by_layer_from_the_top(circuit):
    listed = rows.layer_rows(circuit)
    layers = [int(row["layer"]) for row in listed]
    assert layers == sorted({c.layer for c in circuit.components}, reverse=True)
    text = " ".join(row["heads"] + " " + row["MLP"] for row in listed)
    for component, loss in zip(circuit.components, circuit.minimality, strict=True):
        assert f"{component} {loss:.1f}" in text


def test_edges_the_strongest_first(circuit):
    listed = rows.edge_rows(circuit, most=3)
    order = np.argsort(circuit.edge_scores)[::-1][:3]
    assert [row["edge"] for row in listed] == [str(circuit.edges[i]) for i in order]
    assert [row["effect"] for row in listed] == [f"{circuit.edge_scores[i]:.3f}" for i in order]
    assert listed[0]["share"] == f"{100 * circuit.edge_scores[order[0]] / 10.8:.1f}"
    assert len(rows.edge_rows(circuit)) == len(circuit.edges)
    assert rows.edge_rows(replace(circuit, evaluation=None), most=1)[0]["share"] == "n/a"


def test_every_number_stands_beside_random_circuits(circuit):
    listed = {row["number"].split(",")[0]: row for row in rows.evaluation_rows(circuit)}
    e = circuit.evaluation
    assert listed["faithfulness"]["circuit"] == "0.91 [0.89, 0.93]"
    assert listed["faithfulness"]["random"] == f"{e.random_mean('faithfulness'):.2f}"
    values = [r.faithfulness for r in e.random]
    assert listed["faithfulness"]["range"] == f"{min(values):.2f} to {max(values):.2f}"
    least = int(np.argmin(e.minimality))
    assert listed["smallest marginal loss"]["circuit"] == f"{min(e.minimality):.1f} ({e.components[least]})"
    assert listed["smallest marginal loss"]["random"] == f"{e.random_mean('marginal_loss'):.1f}"
    assert listed["faithfulness of the edges alone"]["circuit"] == "0.88"
    assert "1 subsets" in next(name for name in listed if name.startswith("mean |m(C"))
    none = replace(circuit, evaluation=replace(e, random=(), subsets=()), edge_evaluation=None)
    assert [row["random"] for row in rows.evaluation_rows(none)] == ["–"] * 4


def test_logit_differences_behind_the_shares(circuit):
    found = {row["run"]: row["logits"] for row in rows.level_rows(circuit)}
    assert list(found.values()) == ["12.000", "10.800", "0.600", "-1.000"]


def test_thresholds_curves_and_groups():
    found = random_findings()
    listed = rows.threshold_rows(found.thresholds)
    assert [row["threshold"] for row in listed] == ["10 %", "15 %", "20 %", "25 %", "30 %"]
    assert [int(row["nodes"]) for row in listed] == [len(c.components) for c in found.thresholds.circuits]
    assert listed[2]["Jaccard"] == "1.00"
    assert [row["CPR"] for row in rows.curve_rows(found.curves)] == [f"{found.curves.nodes.cpr:.3f}"] * 2
    groups = rows.group_rows(found.groups)
    assert [row["group"] for row in groups][:2] == ["value fetchers", "position transmitters"]
    first, second = found.groups.groups[0].heads
    assert groups[0]["heads"] == f"{first} -1.00, {second} -0.93"
    empty = replace(found.groups, groups=tuple(replace(g, heads=()) for g in found.groups.groups))
    assert rows.group_rows(empty)[0]["heads"] == "–"


def test_two_circuits():
    found = circuits_of()
    o = found.overlap
    (row,) = rows.overlap_rows([found])
    assert row["nodes"] == f"{len(found.teacher.components)} / {len(found.student.components)}"
    assert row["nodes found"] == f"{sum(n.found for n in o.nodes)} of {len(o.nodes)}"
    assert row["by chance"] == f"{len(o.nodes) * o.expected_node_overlap:.1f}"
    assert row["edges found"] == f"{sum(e.found for e in o.edges)} of {len(o.edges)}"
    assert row["top share %"] == f"{100 * found.teacher.concentration:.0f} / {100 * found.student.concentration:.0f}"
    facts = {row["fact"]: row for row in rows.side_rows(found)}
    assert facts["heads per layer, from layer 0"]["teacher"] == " ".join(map(str, o.teacher.heads_per_layer))
    assert facts["faithfulness"]["student"] == "0.91"
    assert facts["top component, points"]["teacher"] == f"{o.teacher.top} {o.teacher.top_loss:.1f}"
    sentence = rows.overlap_sentence(found)
    assert sentence.startswith(f"{sum(n.found for n in o.nodes)} of the teacher’s {len(o.nodes)} circuit components")
    assert sentence.endswith(f"{len(o.edges)} edges are edges of the student’s circuit too.")


def test_a_circuit_that_is_missing():
    found = replace(circuits_of(), student=None, overlap=None, missing=("it cannot",))
    (row,) = rows.overlap_rows([found])
    assert row["nodes"] == f"{len(found.teacher.components)} / –"
    assert (row["nodes found"], row["top share %"]) == ("–", "–")
    assert rows.side_rows(found) == []
    assert rows.overlap_sentence(found) == ""


def test_a_sentence_about_a_circuit(circuit):
    text = rows.circuit_sentence(circuit)
    assert text.startswith(f"{len(circuit.components)} of 20 components and {len(circuit.edges)} of")
    assert "the model keeps 90 % of its logit difference, with random ones in their place" in text
    alone = replace(circuit, edges=(), evaluation=replace(circuit.evaluation, random=()))
    assert rows.circuit_sentence(alone).endswith(
        "components: with all others replaced the model keeps 90 % of its logit difference."
    )


def test_a_circuit_that_was_never_evaluated_has_no_rows():
    bare = replace(random_circuit(shape_of()), evaluation=None, components=(Component("mlp", 0),))
    with pytest.raises(
        ValueError, match="imported and never evaluated: run .*circuitkd circuit MODEL --task NAME --circuit FILE"
    ):
        rows.evaluation_rows(bare)


def test_a_diagrams_numbers(circuit):
    data = rows.circuit_data(circuit)
    edge = circuit.edges[0]
    assert data.rows[0] == (edge.sender, edge.receiver, edge.slot or "", circuit.edge_scores[0], None)
    assert data.rows[-1] == (circuit.components[-1], "", "", None, circuit.minimality[-1])
    assert len(data.rows) == len(circuit.edges) + len(circuit.components)
