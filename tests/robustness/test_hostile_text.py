"""Prompts, labels, ids, file and folder names that are HTML, JavaScript or template code: on every page they are text."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from circuitkd.circuits.circuit import Circuit, ModelShape
from circuitkd.cli import app
from circuitkd.components import Component, Edge
from circuitkd.models.loading import load
from reports.conftest import browser, opened  # noqa: F401
from tiny_models import tiny_hf

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SCRIPT = "</script><script>alert(1)</script>"
WORDS = (
    SCRIPT,
    "<img/src=x/onerror=alert(2)>",
    "{{7*7}}",
    "{%raw%}",
    "${7*7}",
    "\"'`&amp;&lt;",
    "<!--",
    "]]>",
    "--></style>",
    "\u202egnp.exe",
    "javascript:alert(3)",
)
TEACHER, STUDENT = "<img src=x onerror=alert(4)>", "\"'><svg onload=alert(5)>"
TASK = "<iframe srcdoc=x> {{7*7}} \u2028 \u05d0"
STUDY = {
    "title": SCRIPT,
    "description": SCRIPT,
    "pairs": [{"name": "p", "teacher": TEACHER, "student": STUDENT}],
    "tasks": [{"name": f"{TASK}.jsonl", "label": "t"}],
    "analyses": [{"kind": "compare"}, {"kind": "noise", "options": {"steps": 2, "seeds": 1}}],
    "printed": [{"source": SCRIPT, "pair": "p", "task": "t", "quantity": "alignment", "value": 0.5}],
}


def save_model(folder, *, layers, seed):
    """A tiny GPT-2 with every hostile word as one token."""
    vocabulary = ("[PAD]", "[UNK]", *WORDS, *(f"n{i}" for i in range(24)), "X", "Y")
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")
    tiny_hf("gpt2", seed=seed, vocab_size=len(vocabulary), n_layer=layers).save_pretrained(folder)
    fast.save_pretrained(folder)


def rows(n=24):
    for i in range(n):
        clean = f"n{i} {' '.join(WORDS)}"
        yield {
            "id": f"{SCRIPT}{i}\u2028",
            "clean": clean,
            "corrupted": clean.replace(f"n{i} ", f"n{(i + 1) % n} "),
            "answer": " X",
            "distractor": " Y",
            "labels": {SCRIPT: 1, "end": len(WORDS)},
            "template": SCRIPT,
        }


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    save_model(folder / TEACHER, layers=2, seed=0)
    save_model(folder / STUDENT, layers=1, seed=1)
    task = folder / f"{TASK}.jsonl"
    task.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    (folder / "study.yaml").write_text(json.dumps(STUDY))
    pair = (folder / TEACHER, folder / STUDENT)
    parts, edges = ["L0H0", "MLP1"], ["embed->L0H0<v>", "L0H0->MLP1", "MLP1->logits"]
    shape = ModelShape.of(load(str(pair[0])))
    made = Circuit(shape, SCRIPT, tuple(map(Component.parse, parts)), tuple(map(Edge.parse, edges)), (1.0, 1.0, 1.0))
    whole = made.save(folder / "circuit.json")
    quick = ("--steps", 1, "--seeds", 1, "--batch-size", 8, "--paper-only", "--heads", "L0H0")
    commands = {
        "comparison": ("compare", *pair, "--task", task, "--circuits", "--no-random-null"),
        "roles": ("roles", *pair, "--task", task),
        "circuit": ("circuit", pair[0], "--task", task, "--circuit", whole),
        "experiment": ("distill", *pair, "--task", task, *quick),
        "study": ("study", folder / "study.yaml"),
    }
    for name, arguments in commands.items():
        arguments = [str(a) for a in (*arguments, "--output-dir", folder / name)]
        found = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert found.exit_code == 0, found.stderr
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == sorted([*commands, TEACHER, STUDENT])
    return folder


@pytest.mark.parametrize("name", ["comparison", "roles", "circuit", "experiment", "study"])
def test_nothing_runs_and_nothing_is_fetched(pages, opened, name):  # noqa: F811
    tab = opened(pages / name / "report.html")
    dialogs = []
    tab.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    for _ in range(4):
        tab.mouse.wheel(0, 3000)
        tab.wait_for_timeout(200)
    text = tab.evaluate("document.documentElement.textContent")
    assert dialogs == []
    assert (SCRIPT if name == "study" else TEACHER) in text
    assert tab.evaluate("document.querySelectorAll('img, iframe, object, embed, base, link').length") == 0
    assert tab.evaluate(
        "[...document.querySelectorAll('*')].every(e => [...e.attributes].every(a => !a.name.startsWith('on')))"
    )
    assert tab.evaluate("[...document.querySelectorAll('[href]')].every(e => !/^javascript:/i.test(e.href))")


def test_a_drawing_that_stands_alone_runs_nothing(pages, opened):  # noqa: F811
    tab = opened(pages / "circuit" / "circuit.svg")
    dialogs = []
    tab.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    tab.wait_for_timeout(200)
    assert dialogs == []
    assert tab.evaluate("document.querySelectorAll('script, img, iframe, foreignObject').length") == 0
    assert TEACHER in tab.evaluate("document.documentElement.getAttribute('aria-label')")
