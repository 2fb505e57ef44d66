"""The diagram says what the circuit says: every component a box, every edge a wire of its width, colour and ends."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from circuitkd.components import Component, Edge
from circuitkd.reports.diagram import THINNEST, WIDEST, diagram, matches, unmatched
from circuitkd.reports.layered import LANE
from synthetic_circuit import circuits_of, random_circuit, shape_of


def small(edges="embed->L0H1<v> L0H1->MLP1 MLP1->logits embed->logits", scores=(4.0, 2.0, 8.0, -1.0), **shape):
    made = random_circuit(shape_of(layers=2, heads=2, **shape))
    components = (Component.parse("L0H1"), Component.parse("MLP1"))
    evaluation = replace(made.evaluation, components=components, minimality=(20.0, -5.0), circuit=10.0)
    chosen = tuple(Edge.parse(e) for e in edges.split())
    return replace(made, components=components, edges=chosen, edge_scores=tuple(scores), evaluation=evaluation)


def box_of(drawn, name):
    return next(box for box in drawn.boxes if box.name == name)


def numbers(path):
    return [float(n) for n in re.findall(r"-?\d+\.?\d*", path)]


def test_boxes_and_wires_of_a_small_circuit():
    drawn = diagram(small())
    assert {box.name for box in drawn.boxes} == {"embed", "logits", "L0H1", "MLP1"}
    assert (box_of(drawn, "L0H1").note, box_of(drawn, "MLP1").note) == ("20.0", "-5.0")
    assert (box_of(drawn, "L0H1").share, box_of(drawn, "MLP1").share) == (1.0, 0.0)
    assert [letter for _, letter in box_of(drawn, "L0H1").ports] == ["v"]
    wires = {(c.sender, c.receiver): c for c in drawn.curves}
    assert {key: c.kind for key, c in wires.items()} == {
        ("embed", "L0H1"): "v",
        ("L0H1", "MLP1"): "mlp",
        ("MLP1", "logits"): "logits",
        ("embed", "logits"): "logits",
    }
    assert wires["MLP1", "logits"].width == WIDEST
    assert wires["L0H1", "MLP1"].width == pytest.approx(THINNEST + (WIDEST - THINNEST) / 4)
    assert wires["embed", "logits"].is_negative
    assert not wires["embed", "L0H1"].is_negative
    expected = "embed → L0H1, its value: effect 4.000 logits (40.0 % of the circuit’s logit difference)"
    assert wires["embed", "L0H1"].title == expected
    assert "without it the circuit loses 20.0 points" in box_of(drawn, "L0H1").title
    assert drawn.kinds == {"v": "value", "mlp": "MLP", "logits": "logits"}
    assert (drawn.drawn, drawn.total, drawn.widest) == (4, 4, 8.0)


def test_wires_begin_and_end_at_their_boxes():
    drawn = diagram(random_circuit(shape_of(layers=5), share=0.6, edges=0.4))
    for curve in drawn.curves:
        values = numbers(curve.path)
        sender, receiver = box_of(drawn, curve.sender), box_of(drawn, curve.receiver)
        assert sender.x - 1 <= values[0] <= sender.x + sender.width + 1
        assert values[1] == pytest.approx(sender.y, abs=0.06)
        assert receiver.x - 1 <= values[-2] <= receiver.x + receiver.width + 1
        assert values[-1] == pytest.approx(receiver.y + receiver.height, abs=0.06)
    for box in drawn.boxes:
        assert drawn.left - 0.1 <= box.x
        assert box.x + box.width <= drawn.width
        assert 0 <= box.y <= drawn.height


@pytest.mark.parametrize("layers, heads, share", [(4, 4, 0.6), (12, 12, 0.15)])
def test_boxes_do_not_overlap_and_no_wire_runs_behind_one(layers, heads, share):
    drawn = diagram(random_circuit(shape_of(layers=layers, heads=heads), share=share, edges=0.15))
    inner = [box for box in drawn.boxes if box.kind != "bar"]
    for i, box in enumerate(inner):
        for other in inner[i + 1 :]:
            beside = box.x + box.width <= other.x or other.x + other.width <= box.x
            assert beside or box.y + box.height <= other.y or other.y + other.height <= box.y
    for curve in drawn.curves:
        # a lane is where the path goes straight up: "...x y V top"
        for x, bottom, top in re.findall(r"([\d.]+) ([\d.]+)V(-?[\d.]+)", curve.path):
            for box in inner:
                if float(top) - 0.1 <= box.y <= float(bottom) + 0.1:
                    assert not box.x - LANE / 2 + 0.1 < float(x) < box.x + box.width + LANE / 2 - 0.1


def test_only_the_strongest_edges_are_drawn():
    made = random_circuit(shape_of(layers=6), share=0.8, edges=0.8)
    drawn = diagram(made, most=7)
    assert (drawn.drawn, drawn.total) == (7, len(made.edges))
    strongest = sorted(zip(made.edge_scores, made.edges, strict=True), key=lambda pair: -pair[0])[:7]
    assert {(c.sender, c.receiver) for c in drawn.curves} == {(str(e.sender), str(e.receiver)) for _, e in strongest}
    assert {box.name for box in drawn.boxes} >= {str(c) for c in made.components}


def test_groups_are_boxes_that_their_heads_read():
    shape = shape_of(layers=2, heads=4, kv_heads=2)
    made = random_circuit(shape)
    components = tuple(Component.parse(c) for c in ("L0H0", "L1H2", "L1H3"))
    edges = tuple(Edge.parse(e) for e in ("L0H0->L1KV1<k>", "L0H0->L1H2<q>"))
    evaluation = replace(made.evaluation, components=components, minimality=(1.0, 2.0, 3.0))
    drawn = diagram(replace(made, components=components, edges=edges, edge_scores=(1.0, 2.0), evaluation=evaluation))
    links = [(c.sender, c.receiver) for c in drawn.curves if c.kind == "reads"]
    assert sorted(links) == [("L1KV1", "L1H2"), ("L1KV1", "L1H3")]
    assert box_of(drawn, "L1KV1").note == ""
    assert "a key and value that several heads read" in box_of(drawn, "L1KV1").title
    assert (drawn.drawn, drawn.kinds) == (2, {"q": "query", "k": "key"})


def test_circuits_without_edges_scores_or_evaluation():
    bare = small(edges="", scores=())
    assert {box.name for box in diagram(bare).boxes} == {"embed", "logits", "L0H1", "MLP1"}
    assert diagram(bare).curves == ()
    imported = replace(small(scores=(float("nan"),) * 4), evaluation=None)
    drawn = diagram(imported)
    assert {c.width for c in drawn.curves} == {THINNEST}
    assert drawn.curves[0].title.endswith(": no score")
    assert box_of(drawn, "L0H1").title == "L0H1"
    empty = replace(bare, components=(), evaluation=None)
    assert [box.name for box in diagram(empty).boxes] == ["embed", "logits"]


def test_matches_of_two_circuits():
    found = circuits_of()
    nodes = found.overlap.nodes
    missing = unmatched(found)
    assert missing == [n.teacher for n in nodes if not n.found]
    assert matches(found) == {str(n.teacher): str(n.student) for n in nodes}
    drawn = diagram(found.teacher, unmatched=missing)
    assert {box.name for box in drawn.boxes if box.is_unmatched} == {str(c) for c in missing}
    nothing = replace(found, overlap=None)
    assert (unmatched(nothing), matches(nothing)) == ([], {})
