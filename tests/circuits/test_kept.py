import numpy as np
import pytest
import torch

from circuitkd.circuits import kept as kept_module
from circuitkd.circuits.kept import KeptScorer
from circuitkd.circuits.pruning import prune
from circuitkd.components import Component
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.execution import Execution
from circuitkd.interventions.readout import PERFORMANCES
from circuitkd.models.hooks import hooked_logits
from circuitkd.tasks.base import Task
from circuitkd.tasks.registry import TASKS
from circuitkd.zoo.vocabulary import tokenizer
from oracle import ablated_value, replacement
from tiny_models import TINY, tiny


def mixed_task(n=2) -> Task:
    """Prompts of two lengths."""
    examples = [
        e.__class__(**{**vars(e), "id": f"{name}{e.id}"})
        for name in ("numeral-sequence", "ioi")
        for e in TASKS[name](n, 7)
    ]
    return Task("mixed", tuple(examples), origin="generated")


def model_for(name, dtype=torch.float64, seed=0):
    words = tokenizer()
    return tiny(name, dtype=dtype, seed=seed, tokenizer=words, vocab_size=len(words))


def draws(model, seed=0):
    """Sets that differ much, and ones that differ in one component, in an order that uses and outdates every prefix."""
    rng = np.random.default_rng(seed)
    names = list(model.components)
    found = [frozenset(c for c in names if rng.random() < share) for share in (0.5, 0.8, 0.2)]
    layer_0 = frozenset(c for c in names if c.layer != 0 or c.kind == "mlp")
    found += [found[1] - {names[-1]}, found[1] - {names[-2]}, found[1] - {names[0]}, frozenset(), layer_0]
    return found[1:]


def oracle(model, bound, kind, kept):
    values = replacement(model, bound, kind)
    out = [c for c in model.components if c not in kept]
    return np.array([ablated_value(model, e, values(e), out) for e in bound.examples])


CASES = [(name, "mean-positional") for name in sorted(TINY)]
CASES += [(name, kind) for name in ("gpt2", "bert", "llama", "neox-parallel") for kind in ("mean", "zero", "resample")]


@pytest.mark.parametrize("name, kind", CASES)
def test_equals_one_hooked_forward_per_set(name, kind):
    model = model_for(name)
    bound = mixed_task().bind(model)
    scorer = KeptScorer(model, bound, ablation=Ablation(kind))
    chosen = draws(model) if kind == "mean-positional" else draws(model)[-3:]
    for kept in chosen:
        wanted = oracle(model, bound, kind, kept)
        assert np.abs(scorer.values(kept) - wanted).max() < 1e-9 * np.abs(wanted).max()
        assert scorer(kept) == scorer.values(kept).mean()


@pytest.mark.parametrize("stride_bytes", [1e12, 1.0])
def test_batches_and_thinned_caches_change_nothing(stride_bytes, monkeypatch):
    model = model_for("gpt2")
    bound = mixed_task(3).bind(model)
    whole = KeptScorer(model, bound)
    monkeypatch.setattr(kept_module, "CACHE_BYTES", stride_bytes)
    split = KeptScorer(model, bound, execution=Execution(batch_size=2))
    for kept in draws(model):
        np.testing.assert_allclose(split.values(kept), whole.values(kept), rtol=1e-9)
    assert (len(split._parts[0].prefixes) == 1) == (stride_bytes == 1.0)


def test_a_candidate_reruns_only_from_its_layer():
    model = model_for("gpt2", torch.float32)
    scorer = KeptScorer(model, mixed_task().bind(model))
    everything = frozenset(model.components)
    before = scorer.forward_equivalents
    costs = []
    for removed in ("L0H0", "MLP2", "L2H1", "MLP1", "L1H3", "MLP1", "L0H2"):
        scorer(everything - {Component.parse(removed)} - ({Component("mlp", 2)} if removed == "L0H2" else set()))
        costs.append(scorer.forward_equivalents - before)
        before = scorer.forward_equivalents
    # the first set runs all layers; the second too (its prefix was of another set), from then on the prefixes hold
    assert costs[1] > costs[3] > costs[2] > 0
    assert costs[4] > costs[2]
    assert costs[5] == 0.0  # asked for before
    assert scorer.calls == 6


def test_skips_what_is_ablated():
    model = model_for("gpt2", torch.float32)
    everything, nothing = frozenset(model.components), frozenset()
    costs = []
    for kept in (everything, everything - {Component("mlp", 0)}, nothing):
        scorer = KeptScorer(model, mixed_task().bind(model), ablation=Ablation("zero"))
        scorer(kept)
        costs.append(scorer.forward_equivalents)
    assert costs[0] > costs[1] > costs[2]


def test_finished_sets_are_taken_from_the_folder(tmp_path):
    model = model_for("gpt2", torch.float32)
    bound, kept = mixed_task().bind(model), draws(model)[0]
    first = KeptScorer(model, bound, execution=Execution(folder=tmp_path))
    values = first.values(kept)
    again = KeptScorer(model, bound, execution=Execution(folder=tmp_path))
    before = again.forward_equivalents
    assert np.array_equal(again.values(kept), values)
    assert (again.calls, again.forward_equivalents) == (0, before)
    other = KeptScorer(model, bound, ablation=Ablation("zero"), execution=Execution(folder=tmp_path))
    assert np.abs(other.values(kept) - values).max() > 1e-3


def test_feeds_pruning():
    model = model_for("llama", torch.float32, seed=4)
    bound = mixed_task().bind(model)
    scorer = KeptScorer(model, bound)
    naive = {}

    def score(kept):
        if kept not in naive:
            naive[kept] = float(oracle(model, bound, "mean-positional", kept).mean())
        return naive[kept]

    found = prune(model.n_layers, model.n_heads, scorer, threshold=0.05)
    wanted = prune(model.n_layers, model.n_heads, score, threshold=0.05)
    assert found.components == wanted.components
    assert 0 < len(found) < len(model.components)
    assert [d.removed for d in found.history] == [d.removed for d in wanted.history]


def test_says_what_it_measures():
    model = model_for("gpt2", torch.float32)
    scorer = KeptScorer(model, mixed_task(), ablation=Ablation("zero"))
    assert scorer.describe().endswith("everything outside the circuit is replaced by: zero")
    few = KeptScorer(model, mixed_task())
    assert any("fewer than 8 reference prompts" in w for w in few.warnings)


def test_refuses_components_the_model_does_not_have():
    model = model_for("gpt2", torch.float32)
    scorer = KeptScorer(model, mixed_task().bind(model))
    with pytest.raises(
        ValueError, match=r"has no component L0KV1, L7H0: a circuit's nodes are its heads and MLPs, layers"
    ):
        scorer([Component("head", 7, 0), Component("kv", 0, 1)])


@pytest.mark.parametrize("performance", ["accuracy", "log-probability"])
def test_another_performance_is_measured_in_the_same_runs(performance, tmp_path):
    model = model_for("llama")
    bound = mixed_task().bind(model)
    # One folder for all: finished pieces of one measure must not be taken for those of another.
    execution = Execution(folder=tmp_path)
    plain = KeptScorer(model, bound, execution=execution)
    scorer = KeptScorer(model, bound, execution=execution, performance=performance)
    edited = KeptScorer(model, bound, execution=execution, performance=performance)
    for kept in draws(model)[:3]:
        plain.values(kept)
        values = replacement(model, bound, "mean-positional")
        logits = [kept_logits(model, e, values(e), kept) for e in bound.examples]
        probabilities = [
            found.softmax(-1)[list(e.answers)].sum() for found, e in zip(logits, bound.examples, strict=True)
        ]
        wanted = {
            "accuracy": [
                float(int(found.argmax()) in e.answers) for found, e in zip(logits, bound.examples, strict=True)
            ],
            "log-probability": [float(p.log()) for p in probabilities],
        }[performance]
        np.testing.assert_allclose(scorer.values(kept), wanted, atol=1e-9)
        np.testing.assert_array_equal(edited.values(kept), scorer.values(kept))
    assert scorer.calls == 3 and edited.calls == 0
    assert scorer.describe().startswith(PERFORMANCES[performance].definition)


def kept_logits(model, example, values, kept):
    """Logits at the answer of one example by hooks, everything outside `kept` replaced."""
    edits = {}
    for c in model.components:
        if c not in kept:
            here = slice(None) if c.head is None else slice(c.head * model.d_head, (c.head + 1) * model.d_head)
            new = values["mlp" if c.head is None else "z", c.layer][:, here][None]
            edits[c] = lambda old, new=new: new.expand_as(old).clone()
    with torch.no_grad():
        logits = hooked_logits(model, torch.tensor([example.clean]), torch.tensor([len(example.clean)]), edits)
    return logits[0, example.answer_position]


def test_an_unknown_performance():
    with pytest.raises(ValueError, match="unknown measure of performance 'speed': choose one of logit-difference, acc"):
        KeptScorer(model_for("gpt2"), mixed_task(), performance="speed")
