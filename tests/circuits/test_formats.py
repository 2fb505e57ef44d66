import csv
from xml.etree import ElementTree

import pytest

from circuitkd.circuits.circuit import Circuit, ModelShape
from circuitkd.circuits.discovery import DiscoveryOptions, find_circuit
from circuitkd.circuits.formats import GRAPHML, read_circuit, read_eap_ig, write_csv, write_eap_ig, write_graphml
from circuitkd.circuits.kept import KeptScorer
from circuitkd.components import Component, Edge
from planted import induction
from tiny_models import tiny


@pytest.fixture(scope="module")
def planted():
    return induction(n=8)


@pytest.fixture(scope="module")
def found(planted):
    options = DiscoveryOptions(random_circuits=0, subsets=0)
    return find_circuit(KeptScorer(planted.model, planted.task), options)


def grouped_circuit():
    return Circuit(
        ModelShape.of(tiny("llama")),
        "",
        (Component("head", 1, 2), Component("mlp", 0)),
        tuple(Edge.parse(e) for e in ("MLP0->L1KV1<k>", "embed->MLP0", "L1H2->logits")),
        (0.5, 1.0, -2.0),
    )


def graph(path):
    root = ElementTree.parse(path).getroot()
    tags = {"g": GRAPHML}

    def data(element):
        return {d.get("key"): d.text for d in element.findall("g:data", tags)}

    nodes = {n.get("id"): data(n) for n in root.findall("g:graph/g:node", tags)}
    edges = [(e.get("source"), e.get("target"), data(e)) for e in root.findall("g:graph/g:edge", tags)]
    return root, nodes, edges


def test_csv_has_one_edge_a_row(found, tmp_path):
    with write_csv(found, tmp_path / "edges.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    again = [Edge.parse(f"{r['sender']}->{r['receiver']}" + (f"<{r['slot']}>" if r["slot"] else "")) for r in rows]
    assert tuple(again) == found.edges
    assert [float(r["score"]) for r in rows] == list(found.edge_scores)


def test_graphml_holds_nodes_edges_and_their_numbers(found, tmp_path):
    root, nodes, edges = graph(write_graphml(found, tmp_path / "c.graphml"))
    assert root.tag == f"{{{GRAPHML}}}graphml"
    assert root.find(f"{{{GRAPHML}}}graph").get("edgedefault") == "directed"
    assert set(nodes) == {"embed", "L0H0", "L1H0", "logits"}
    assert nodes["L1H0"] == {"kind": "head", "layer": "1", "head": "0", "marginal_loss": str(found.minimality[1])}
    assert nodes["embed"] == {"kind": "embed"}
    assert len(edges) == len(found.edges)
    for (source, target, facts), edge, score in zip(edges, found.edges, found.edge_scores, strict=True):
        assert (source, target) == (str(edge.sender), str(edge.receiver))
        assert facts == ({"slot": edge.slot} if edge.slot else {}) | {"score": str(score)}
    keys = {k.get("id"): k.get("attr.type") for k in root.findall(f"{{{GRAPHML}}}key")}
    assert keys["marginal_loss"] == "double"


def test_graphml_connects_a_group_with_the_heads_that_read_it(tmp_path):
    _, nodes, edges = graph(write_graphml(grouped_circuit(), tmp_path / "g.graphml"))
    assert nodes["L1KV1"] == {"kind": "kv", "layer": "1", "head": "1"}
    assert ("MLP0", "L1KV1", {"slot": "k", "score": "0.5"}) in edges
    assert ("L1KV1", "L1H2", {"slot": "reads"}) in edges
    assert len(edges) == 4


def test_any_circuit_file_is_read_as_what_it_is(found, planted, tmp_path):
    assert read_circuit(write_eap_ig(found, tmp_path / "g.json"), planted.model).edges == found.edges
    assert read_circuit(found.save(tmp_path / "own.json"), planted.model) == found
    assert read_circuit(found.save(tmp_path / "run"), planted.model) == found
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ValueError, match="is not a circuit of this version"):
        read_circuit(tmp_path / "list.json", planted.model)
    with pytest.raises(ValueError, match="does not exist: give a circuit file"):
        read_circuit(tmp_path / "none.json", planted.model)


def test_eap_ig_is_here_too(found, planted, tmp_path):
    again = read_eap_ig(write_eap_ig(found, tmp_path / "g.json"), planted.model)
    assert set(again.edges) == set(found.edges)


@pytest.mark.parametrize("write", [write_csv, write_graphml, write_eap_ig])
def test_what_cannot_be_written_is_said(found, tmp_path, write):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write"):
        write(found, tmp_path / "file" / "x")
