"""The Python of the pages, run: that of the start page as it stands, that of the page on extending in its files' place."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
import transformers

from circuitkd.comparison import pair_similarity
from circuitkd.distill import objective
from circuitkd.models import architectures, self_check, wrap
from circuitkd.tasks import registry
from circuitkd.tasks.validation import validate
from markdown_pages import blocks
from tiny_models import tiny_tokenizer


def code_for(file: str) -> str:
    """The block of docs/extending.md that says it belongs into this file."""
    found = [b.text for b in blocks("python") if b.page.name == "extending.md" and b.text.startswith(f"# {file}\n")]
    assert len(found) == 1, f"docs/extending.md has {len(found)} blocks for {file}"
    return found[0]


def run_in(module: ModuleType, file: str) -> dict[str, object]:
    """Run the page's code among the names of `module`, which keeps what it has."""
    names = dict(vars(module))
    exec(compile(code_for(file), file, "exec"), names)
    return names


@pytest.mark.slow
def test_the_start_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = [b for b in blocks("python") if b.page.name == "start.md"]
    names: dict[str, object] = {}
    exec(compile(block.text, str(block), "exec"), names)
    assert (tmp_path / "README.md").read_text().count("## Circuits kept") == 1
    assert len(names["result"].to_pandas()) == len(names["teacher"].components)


def test_the_architecture(monkeypatch):
    entry = run_in(architectures, "src/circuitkd/models/architectures.py")["_OLMO"]
    monkeypatch.setattr(architectures, "ARCHITECTURES", architectures.ARCHITECTURES | {"OlmoForCausalLM": entry})
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    tokens = tiny_tokenizer()
    config = transformers.OlmoConfig(**shape, vocab_size=len(tokens), pad_token_id=0, eos_token_id=None)
    torch.manual_seed(0)
    hf = transformers.OlmoForCausalLM(config).eval()
    assert self_check(wrap(hf, tokens, name="tiny-olmo", check=False)).passed
    config.clip_qkv = 1.0
    with pytest.raises(ValueError, match="clip_qkv=1.0 changes the computation and is not understood; only None is"):
        wrap(hf, tokens, name="tiny-olmo")


def test_the_task(monkeypatch):
    file = ModuleType("circuitkd.tasks.giving_again")
    exec(compile(code_for("src/circuitkd/tasks/giving_again.py"), "giving_again.py", "exec"), vars(file))
    names = {"TASKS": dict(registry.TASKS), "giving_again": file.giving_again}
    exec(code_for("src/circuitkd/tasks/registry.py"), names)
    monkeypatch.setattr(registry, "TASKS", names["TASKS"])
    task = registry.load_task("giving-again", 20, seed=1)
    one = task.examples[0]
    words = one.clean.split()
    assert [words[i] for i in one.labels["giver"]] == [one.distractor.strip()] * 2
    assert words[one.labels["taker"]].rstrip(".") == one.answer.strip()
    assert len(words) == one.labels["end"] + 1
    assert file.__doc__.startswith("Giving again")
    assert validate(task).ok


def test_the_similarity():
    names = run_in(pair_similarity, "src/circuitkd/comparison/pair_similarity.py")
    rng = np.random.default_rng(0)
    patterns = rng.random((3, 5, 5))
    side = ModuleType("measured")
    side.patterns = {5: patterns}
    squashed = ModuleType("measured")
    squashed.patterns = {5: patterns**3}
    found = names["_rank_correlation"](side, squashed)
    np.testing.assert_allclose(np.diag(found), 1)
    assert np.abs(found - np.diag(np.diag(found))).max() < 0.9


def test_the_loss():
    names = dict(vars(objective)) | {"TASK_LOSSES": dict(objective.TASK_LOSSES)}
    exec(compile(code_for("src/circuitkd/distill/objective.py"), "objective.py", "exec"), names)
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    batch = {"answers": torch.tensor([[0, -1], [1, 2]])}
    found = names["TASK_LOSSES"]["brier"](objective.Objective(), logits, batch, None)
    right = torch.stack([logits[0].softmax(-1)[0], torch.tensor(2 / 3, dtype=torch.float64)])
    torch.testing.assert_close(found, (1 - right) ** 2)
