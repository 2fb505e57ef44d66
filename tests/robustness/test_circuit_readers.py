"""Circuit files, ours and EAP-IG's, on damaged bytes and odd values: a circuit that can be used, or one clear
ValueError that names the file."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitkd.circuits.circuit import Circuit, ModelShape
from circuitkd.circuits.eap_ig import read_eap_ig, read_eap_ig_scores, write_eap_ig
from circuitkd.circuits.formats import read_circuit, write_csv, write_graphml
from circuitkd.components import Component, Edge
from circuitkd.reports.circuit_page import write_svg
from damage import as_json, clear_refusal, damaged, read_or_refuse, reshaped
from equal_results import assert_same
from synthetic_circuit import random_circuit, shape_of
from tiny_models import tiny

SMALL = shape_of(layers=2, heads=2)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("circuit-readers")


@pytest.fixture(scope="module")
def model():
    return tiny("llama")


@pytest.fixture(scope="module")
def graph(place, model):
    """An EAP-IG file of the model, as a JSON value."""
    heads = (Component("head", 1, 2), Component("mlp", 0))
    edges = tuple(Edge.parse(e) for e in ("MLP0->L1KV1<k>", "embed->MLP0", "L1H2->logits"))
    whole = Circuit(ModelShape.of(model), "", heads, edges, (0.5, 1.0, -2.0))
    return json.loads(write_eap_ig(whole, place / "graph.json").read_text())


def use(circuit: Circuit | None, place) -> None:
    """A circuit that was read can be saved, exported and drawn."""
    if circuit is None:
        return
    assert_same(Circuit.load(circuit.save(place / "again.json")), circuit)
    circuit.to_pandas()
    with clear_refusal():
        write_csv(circuit, place / "again.csv")
        write_graphml(circuit, place / "again.graphml")
        write_eap_ig(circuit, place / "again-eap-ig.json")
        write_svg(circuit, place / "again.svg")


@settings(max_examples=8)
@given(share=st.floats(0.2, 1), edges=st.floats(0, 1), kv=st.sampled_from([1, 2]), seed=st.integers(0, 99))
def test_any_circuit_comes_back_equal(place, share, edges, kv, seed):
    made = random_circuit(shape_of(layers=2, heads=2, kv_heads=kv), share=share, edges=edges, seed=seed)
    for name in ("mine.json", "folder"):
        assert_same(Circuit.load(made.save(place / name)), made)


GOOD = random_circuit(SMALL, share=0.6)


@pytest.fixture(scope="module")
def record(place):
    few = replace(GOOD.evaluation, subsets=(), random=GOOD.evaluation.random[:1])
    return json.loads(replace(GOOD, evaluation=few).save(place / "good.json").read_text())


@settings(max_examples=40)
@given(data=st.data())
def test_a_damaged_circuit_file_is_read_or_refused(place, record, data):
    use(read_or_refuse(Circuit.load, place / "mine.json", data.draw(damaged(as_json(record)))), place)


@settings(max_examples=40)
@given(data=st.data())
def test_a_circuit_file_of_odd_values_is_read_or_refused(place, record, data):
    use(read_or_refuse(Circuit.load, place / "mine.json", as_json(data.draw(reshaped(record)))), place)


@settings(max_examples=40)
@given(data=st.data())
def test_a_damaged_eap_ig_file_is_read_or_refused(place, model, graph, data):
    content = data.draw(damaged(as_json(graph)) | reshaped(graph).map(as_json))
    read = data.draw(st.sampled_from((read_eap_ig, read_eap_ig_scores, read_circuit)))
    found = read_or_refuse(lambda path: read(path, model), place / "mine.json", content)
    use(found if isinstance(found, Circuit) else None, place)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["edge_scores"].pop(),
        lambda c: c["edges"].pop(),
        lambda c: c["components"].pop(),
        lambda c: c["evaluation"]["minimality"].append(1.0),
    ],
)
def test_a_circuit_of_uneven_lists_is_refused(place, record, change):
    made = json.loads(json.dumps(record))
    change(made["circuit"])
    (place / "mine.json").write_bytes(as_json(made))
    message = r"mine\.json is not a circuit of this version: it does not have one score for each edge and one loss for"
    with pytest.raises(ValueError, match=message):
        Circuit.load(place / "mine.json")
