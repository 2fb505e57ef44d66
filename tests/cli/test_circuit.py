"""`circuitkd circuit` on a model whose circuit is planted: found, measured, drawn, exported, and refused where it must
be."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from circuitkd.artifacts import load_run
from circuitkd.circuit_analysis import Curves
from circuitkd.circuits.circuit import Circuit
from circuitkd.circuits.discovery import ThresholdSweep
from circuitkd.circuits.formats import read_eap_ig
from circuitkd.cli import app
from circuitkd.components import Edge
from circuitkd.tasks.base import Task
from circuitkd.tasks.jsonl import write_task
from planted import successor
from synthetic_comparison import synthetic

COMPONENTS = ["L0H1", "MLP1"]
EDGES = ["embed->L0H1<v>", "L0H1->MLP1", "MLP1->logits"]


def swapped(task: Task) -> Task:
    """Answer and distractor exchanged: what the model cannot do."""
    return replace(task, examples=tuple(replace(e, answer=e.distractor, distractor=e.answer) for e in task.examples))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the model `planted`, its task `counting.jsonl`, and `wrong.jsonl`, which it cannot do."""
    folder = tmp_path_factory.mktemp("planted")
    planted = successor(n=8)
    planted.model.hf.save_pretrained(folder / "planted")
    planted.model.tokenizer.save_pretrained(folder / "planted")
    write_task(planted.task, folder / "counting.jsonl")
    write_task(swapped(planted.task), folder / "wrong.jsonl")
    return folder


@pytest.fixture(scope="module")
def made(place):
    """Where the circuit was found once: the run folder `out` with thresholds, and `graph.json` for EAP-IG."""
    words = ("circuit", place / "planted", "--task", place / "counting.jsonl", "--dtype", "float64", "--thresholds")
    found = CliRunner().invoke(
        app, [str(w) for w in (*words, "--output-dir", place / "out", "--export", place / "graph.json")]
    )
    assert found.exit_code == 0
    return place


@pytest.fixture
def circuit(run, place):
    """Run `circuitkd circuit` on the planted model, on its task unless another is named."""

    def command(*arguments, task="counting.jsonl"):
        return run("circuit", place / "planted", "--task", place / task, "--dtype", "float64", *arguments)

    return command


def result_of(folder):
    """What `result.json` of a run folder holds."""
    return json.loads((Path(folder) / "result.json").read_text())["result"]


def test_the_planted_circuit_is_found_saved_and_drawn(circuit):
    found = circuit("--output-dir", "out")
    assert found.code == 0
    assert "planted on counting: 2 of 6 components and 3 of 46 edges" in found.stdout
    assert "Evaluation, 8 examples" in found.stdout
    assert "20 random" in found.stdout
    assert "mean-positional over corrupted prompts" in " ".join(found.stdout.split())
    assert found.stdout.endswith(f"run folder: out\nreport:     {Path('out/report.html')}\n")
    saved = Circuit.load("out")
    assert [str(c) for c in saved.components] == COMPONENTS
    assert [str(e) for e in saved.edges] == EDGES
    for edge, score in zip(saved.edges, saved.edge_scores, strict=True):
        assert any(str(edge) in line and f"{score:.3f}" in line for line in found.stdout.splitlines())
    assert (saved.manifest["task_seed"], saved.manifest["dtype"]) == ("0", "float64")
    names = {path.name for path in Path("out").iterdir()}
    assert names == {"manifest.json", "result.json", "arrays.safetensors", "report.html", "circuit.svg"}
    assert ElementTree.parse("out/circuit.svg").getroot().tag.endswith("svg")
    assert "2 of 6 components" in Path("out/report.html").read_text()
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert "threshold 0.2" in manifest["nodes"]
    again = circuit("--output-dir", "out", "--json")
    assert "taken from out: it holds this result already" in again.stderr
    assert again.json["components"] == COMPONENTS
    other = circuit("--output-dir", "out", "--threshold", 0.3)
    assert other.code == 2
    assert "out holds the finished result of another run (it differs in options)" in other.stderr


def test_options_reach_the_library_and_files_are_exported(circuit, place):
    files = ("--export", "x/c.json", "--export", "c.csv", "--export", "c.graphml", "--export", "c.svg")
    found = circuit(
        "--threshold", 0.3, "--criterion", "marginal", "--ablation", "resample", "--edge-share", 0.05, "--json", *files
    )
    assert found.code == 0
    result = found.json
    assert (result["pruning"]["threshold"], result["pruning"]["criterion"]) == (0.3, "marginal")
    assert "resample" in result["evaluation"]["definition"]
    assert result["manifest"]["edges"] == "path patching inside the circuit, at least 5 % of the circuit"
    graph = json.loads(Path("x/c.json").read_text())
    assert sorted(name for name, info in graph["edges"].items() if info["in_graph"]) == [
        "a0.h1->m1",
        "input->a0.h1<v>",
        "m1->logits",
    ]
    assert Path("c.csv").read_text().startswith("sender,receiver,slot,score\nembed,L0H1,v,")
    for name in ("c.graphml", "c.svg"):
        ElementTree.parse(name)
    assert "run folder: circuitkd-runs/planted--circuit/counting" in found.stderr


def test_nodes_alone(circuit):
    found = circuit("--no-edges", "--json")
    assert (found.json["edges"], found.json["edge_evaluation"]) == ([], None)


def test_thresholds_and_curves_are_kept_and_shown(circuit, made):
    shutil.copytree(made / "out", "out")
    found = circuit("--thresholds", "--curves", "--output-dir", "out")
    assert found.code == 0
    assert found.stderr.count("it holds this result already") == 2
    sweep = load_run("out/thresholds", ThresholdSweep)
    assert sweep.thresholds == (0.1, 0.15, 0.2, 0.25, 0.3)
    assert [[str(c) for c in s.components] for s in sweep.circuits] == [COMPONENTS] * 5
    curves = load_run("out/curves", Curves)
    assert "Other thresholds" in found.stdout
    assert f"{curves.nodes.cpr:.3f}  {curves.nodes.cmd:.3f}" in found.stdout
    page = Path("out/report.html").read_text()
    assert "Other thresholds" in page and "Circuits of growing size" in page
    again = circuit("--thresholds", "--output-dir", "out", "--json")
    assert Path("out/report.html").read_text() == page  # the curves are still there
    assert again.json["thresholds"]["thresholds"] == [0.1, 0.15, 0.2, 0.25, 0.3]


def test_the_page_leaves_out_what_is_of_an_earlier_request(circuit, made):
    shutil.copytree(made / "out", "out")
    assert "Other thresholds" in Path("out/report.html").read_text()
    assert circuit("--output-dir", "out", "--no-edges", "--overwrite").code == 0
    assert "Other thresholds" not in Path("out/report.html").read_text()


def test_several_tasks_leave_out_what_the_model_cannot_do(circuit, run, place):
    found = circuit("--task", place / "wrong.jsonl")
    assert found.code == 0
    assert "Circuits of" in found.stdout
    assert "counting" in found.stdout
    assert "warning: " in found.stderr
    assert "cannot do wrong: its mean logit difference is -" in found.stderr
    root = Path("circuitkd-runs/planted--circuit")
    (row,) = json.loads((root / "index.json").read_text())["runs"]
    assert (row["folder"], row["task"], row["nodes"], row["edges"]) == ("counting", "counting", 2, 3)
    assert (root / "report.html").is_file()
    values = circuit("--task", place / "wrong.jsonl", "--json").json
    assert [value["task"] for value in values] == ["counting"]


def test_report_draws_circuits_again(made, run):
    assert run("report", made / "out", "--output", "one.html").code == 0
    assert Path("one.html").read_text() == (made / "out" / "report.html").read_text()
    assert run("report", made / "out", made / "out", "--output", "two.html").code == 0
    assert "circuits for counting" in Path("two.html").read_text()


def test_report_does_not_mix_kinds(made, run):
    synthetic(examples=4).save("one")
    found = run("report", made / "out", "one", "--output", "all.html")
    assert found.stderr == "error: comparisons and circuits have pages of their own: name folders of one kind\n"


def test_a_circuit_file_is_measured(circuit, made):
    measured = circuit("--circuit", made / "graph.json", "--json")
    assert measured.code == 0
    assert measured.json["components"] == COMPONENTS
    assert measured.json["pruning"] is None
    assert measured.json["manifest"]["read_from"] == "graph.json"
    assert measured.json["evaluation"] == result_of(made / "out")["evaluation"]
    again = circuit("--circuit", made / "out", "--output-dir", "again", "--json")
    assert again.json["edges"] == EDGES


def test_groups_refuse_a_task_without_labels(circuit):
    found = circuit("--groups")
    assert found.code == 2
    assert "has no single position labelled 'query_letter'; use entity-tracking" in found.stderr


def test_groups_of_a_model(run, models):
    arguments = ("--task", "entity-tracking", "--n", 2, "--groups", "--no-edges", "--force", "--output-dir", "out")
    found = run("circuit", models / "big", *arguments)
    assert found.code == 0
    assert "Entity-tracking groups" in found.stdout
    assert "value fetchers" in Path("out/report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--threshold", "1.5"), r"threshold 1.5 is outside (0, 1): it is the share of the logit difference that may"),
        (("--threshold", "20"), "for 20 % write 0.2"),
        (("--threshold", "0"), "threshold 0.0 is outside (0, 1)"),
        (("--criterion", "step"), "unknown criterion 'step': choose one of cumulative, marginal"),
        (("--edge-share", "1"), "edge_share 1.0 is outside [0, 1): 0.01 keeps edges that cost 1 % or more"),
        (("--export", "c.dot"), "--export c.dot: the suffix must be one of .json (EAP-IG and MIB), .csv"),
        (("--circuit", "none.json"), "none.json does not exist: give a circuit file (.json) or a run folder"),
        (
            ("--circuit", "c.json", "--thresholds"),
            "--circuit measures a circuit as it is, --thresholds looks for others",
        ),
    ],
)
def test_bad_options(circuit, arguments, message):
    found = circuit(*arguments)
    assert (found.code, found.stdout) == (2, "")
    assert message in found.stderr
    assert found.stderr.count("error: ") == 1


def test_a_model_that_cannot_do_the_task_is_refused_unless_forced(circuit):
    found = circuit(task="wrong.jsonl")
    assert (found.code, found.stdout) == (2, "")
    assert "cannot do wrong: its mean logit difference is -" in found.stderr
    assert "choose another task, or force it (force=True, --force)" in found.stderr
    forced = circuit("--force", task="wrong.jsonl")
    assert forced.code == 0
    assert "the circuit was forced, its shares mean nothing" in forced.stderr
    assert "the circuit was forced" in Path("circuitkd-runs/planted--circuit/wrong/report.html").read_text()


def test_no_task_at_all_that_the_model_can_do(circuit, place):
    write_task(swapped(successor(seed=1, n=8).task), Path("worse.jsonl"))
    found = circuit("--task", "worse.jsonl", task="wrong.jsonl")
    assert found.code == 2
    assert "cannot do wrong" in found.stderr and "cannot do worse" in found.stderr


def test_several_tasks_cannot_be_exported(circuit, place):
    found = circuit("--task", place / "wrong.jsonl", "--export", "c.csv")
    assert "--export writes one circuit: give one --task" in found.stderr


def test_circuit_files_that_do_not_fit(circuit, run, models, made):
    other = run("circuit", models / "big", "--task", "ioi", "--n", 2, "--circuit", made / "out")
    assert other.code == 2
    assert "this circuit belongs to" in other.stderr
    assert "load the model it was found in, in the same dtype, or discover the circuit again" in other.stderr
    shape = run("circuit", models / "big", "--task", "ioi", "--n", 2, "--circuit", made / "graph.json")
    assert "graph.json is of another model: its cfg says" in shape.stderr
    graph = json.loads((made / "graph.json").read_text())
    unknown = graph | {"edges": graph["edges"] | {"m1->a0.h0<q>": {"score": 1.0, "in_graph": True}}}
    Path("unknown.json").write_text(json.dumps(unknown))
    found = circuit("--circuit", "unknown.json")
    assert found.code == 2
    assert "has no edge MLP1->L0H0<q>: a sender reaches only what is computed after it" in found.stderr


def test_a_disconnected_circuit_is_refused(circuit, made):
    graph = json.loads((made / "graph.json").read_text())
    graph["edges"]["a0.h1->m1"]["in_graph"] = False
    Path("broken.json").write_text(json.dumps(graph))
    found = circuit("--circuit", "broken.json")
    assert found.code == 2
    assert "the circuit is disconnected: none of its" in found.stderr
    assert Edge.parse("L0H1->MLP1") not in read_eap_ig("broken.json", successor(n=2).model).edges


def test_compare_shows_both_circuits(run, place):
    pair = (place / "planted", place / "planted", "--task", place / "counting.jsonl", "--dtype", "float64")
    plain = run("compare", *pair, "--no-random-null", "--output-dir", "out")
    assert plain.code == 0
    assert 'class="diagram' not in Path("out/report.html").read_text()
    found = run("compare", *pair, "--no-random-null", "--output-dir", "out", "--circuits")
    assert found.code == 0
    assert "taken from out: it holds this result already" in found.stderr
    assert "Circuits of teacher and student" in found.stdout
    assert "2 of 2 0.8 3 of 3" in " ".join(found.stdout.split())
    page = Path("out/report.html").read_text()
    assert "2 of the teacher’s 2 circuit components have their match in the student’s circuit" in page
    assert page.count('<svg class="diagram') == 2
    assert run("report", "out").code == 0
    assert Path("out/report.html").read_text().count('<svg class="diagram') == 2
    again = run("compare", *pair, "--no-random-null", "--output-dir", "out", "--circuits", "--json")
    assert again.stderr.count("it holds this result already") == 2
    assert again.json["circuits"]["overlap"]["node_overlap"] == 1.0
    Path("out/circuits/result.json").write_text("{")
    assert "circuits left out of the report: " in run("report", "out").stderr


def test_compare_goes_on_where_a_model_has_no_circuit(run, place):
    pair = (place / "planted", place / "planted", "--task", place / "wrong.jsonl", "--dtype", "float64")
    found = run("compare", *pair, "--no-random-null", "--output-dir", "out", "--circuits")
    assert found.code == 0
    assert found.stderr.count("cannot do wrong: its mean logit difference is -") == 2
    assert "No circuit: " in Path("out/report.html").read_text()
