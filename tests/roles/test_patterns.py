import numpy as np
import pytest
import torch

from circuitkd.interventions.execution import Execution
from circuitkd.models import wrap
from circuitkd.models.random_model import randomly_initialised
from circuitkd.roles.patterns import mean_patterns, role_scores
from circuitkd.tasks.registry import load_task
from planted_roles import name_roles, sequence_roles
from small_runs import model_for, task_of
from tiny_models import SPECS, tiny_hf


@pytest.mark.parametrize("name", sorted(SPECS))
def test_mean_patterns_are_hugging_faces(name):
    words = model_for(name).tokenizer
    model = model_for(name)
    hf = tiny_hf(name, vocab_size=len(words), attention="eager").double()
    task = task_of("ioi", "greater-than", n=3).bind(wrap(hf, words, check=False))
    for scene, found, prompts in mean_patterns(model, task, execution=Execution(batch_size=2)):
        rows = [e for e in task.examples if len(e.clean) == scene.n_pos and e.answer_position == scene.end]
        chosen = [e for e in rows if tuple(dict(scene.names).get(k) for k in ("IO", "S2")) == names(e)]
        chosen = [e for e in chosen if tokens(e) == scene.tokens]
        with torch.no_grad():
            seen = hf(torch.tensor([e.clean for e in chosen]), output_attentions=True).attentions
        expected = torch.cat([layer.double().mean(0) for layer in seen]).numpy()
        assert prompts == len(chosen)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def names(example):
    places = [example.positions.get(name) for name in ("IO", "S2")]
    return tuple(p and p[0] for p in places)


def tokens(example):
    first = {}
    return tuple(first.setdefault(t, i) for i, t in enumerate(example.clean))


@pytest.mark.parametrize("make", [sequence_roles, name_roles])
def test_planted_roles_are_found_and_no_others(make):
    planted = make()
    found = role_scores(planted.model, planted.task)
    expected = {head: {role} for role, head in planted.heads.items()}
    if make is sequence_roles:  # what follows "in" is a member
        expected[planted.heads["induction"]].add("mover")
    assert {head: set(found.of(head)) for head in found.heads if found.of(head)} == expected
    for role, head in planted.heads.items():
        assert found.best(role) == head or role == "mover"
        assert found.score[found.heads.index(head), found.roles.index(role)] > 0.9


# Qwen3 normalises queries and keys, so its attention is sharp from the start.
@pytest.mark.parametrize("name", sorted(set(SPECS) - {"qwen3"}))
def test_an_untrained_model_has_no_roles(name):
    for seed in range(2):
        model = randomly_initialised(model_for(name, torch.float32), seed=seed)
        for task in ("numeral-sequence", "ioi"):
            assert not role_scores(model, load_task(task, n=8), shuffles=200).found.any()


def test_sharp_random_models_get_roles_as_rarely_as_promised():
    task, hits, cells = load_task("numeral-sequence", n=24), [], []
    for seed in range(12):
        found = role_scores(model_for(("gpt2", "llama", "qwen3", "bert")[seed % 4], torch.float32, seed), task)
        hits.append(found.found.any(axis=0).sum())
        cells.append(found.found.mean())
    promised = float(found.error_rates.sum())
    assert np.mean(hits) < promised + 2 * (promised / len(hits)) ** 0.5
    assert np.mean(cells) < 0.01


def test_progress_counts_prompts():
    seen = []
    execution = Execution(progress=lambda *call: seen.append(call))
    role_scores(model_for("gpt2", torch.float32), load_task("ioi", n=6), shuffles=200, execution=execution)
    assert seen[-1] == ("role scores", 6, 6)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
