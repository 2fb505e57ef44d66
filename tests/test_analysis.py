"""Whole comparisons: what they do not depend on, what they do, and what they refuse."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from circuitkd import analysis as module
from circuitkd.analysis import CompareOptions, compare, noise_curve, prepare, run_measure, run_sweep
from circuitkd.circuits.screening import screened_sweep
from circuitkd.comparison import measure as measures_of
from circuitkd.comparison import pair_similarity as similarities
from circuitkd.comparison.noise import GaussianNoise
from circuitkd.comparison.notebook_preset import released_notebook
from circuitkd.comparison.pair_similarity import Measures, notebook_similarity, pair_similarity
from circuitkd.comparison.pairs import MatchOptions
from circuitkd.comparison.result import Comparison
from circuitkd.comparison.scoring import ScoreOptions, score
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.execution import Execution, fingerprint
from circuitkd.interventions.sweep import sweep
from circuitkd.models.hooks import hooked_logits
from circuitkd.models.random_model import randomly_initialised
from circuitkd.tasks.base import Task
from equal_results import assert_same, numbers
from same_function import (
    permuted_bert,
    permuted_gpt2,
    permuted_llama,
    rotated_llama,
    with_plain_norms,
    with_twins,
)
from small_runs import model_for, prompts, task_of
from tiny_models import TINY, tiny
from two_tokenizers import byte_level, byte_level_model

QUICK = CompareOptions(random_null=False)
TASK = task_of()


@cache
def pair():
    """A teacher, a smaller student, and their comparison."""
    teacher, student = model_for("gpt2"), model_for("gpt2", seed=1, n_layer=2)
    return teacher, student, compare(teacher, student, TASK)


def same_logits(a, b, *, within=1e-9):
    tokens = torch.tensor([e.clean for e in TASK.bind(a).examples[:3]])
    lengths = torch.full((3,), tokens.shape[1])
    with torch.no_grad():
        found = [hooked_logits(m, tokens, lengths) for m in (a, b)]
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=within * float(found[0].abs().max()))


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_model_aligns_with_itself(name):
    model = model_for(name)
    found = compare(model, model, TASK, options=QUICK)
    for value in (found.alignment.score, found.alignment.mean_similarity, found.alignment.mean_agreement):
        assert value == pytest.approx(1.0, abs=1e-9)
    assert all(p.teacher == p.student for p in found.alignment.pairs)
    assert found.alignment.comparable
    assert (found.performance.gap.value, found.robustness.slope) == (0.0, None)
    assert found.variants["max+nearest"] == found.alignment.score


def test_heads_of_equal_patterns_align_with_themselves():
    model = with_twins(model_for("gpt2"))
    found = compare(model, model, TASK, options=QUICK)
    assert found.similarity.head[0, 1] == pytest.approx(1.0, abs=1e-12)
    assert found.similarity.head[2, 3] == pytest.approx(1.0, abs=1e-12)
    assert abs(found.teacher_sweep.drops[0] - found.teacher_sweep.drops[1]) > 0.01
    assert found.alignment.score == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(
    "name, permuted", [("gpt2", permuted_gpt2), ("bert", permuted_bert), ("llama", permuted_llama)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_heads_does_not_matter(name, permuted, seed):
    model = model_for(name)
    other = permuted(model, seed=seed)
    same_logits(model, other)
    found = compare(model, other, TASK, options=QUICK)
    assert found.alignment.score == pytest.approx(1.0, abs=1e-6)
    heads = [p for p in found.alignment.pairs if p.teacher.kind == "head"]
    assert any(p.teacher != p.student for p in heads)
    assert all(p.teacher.layer == p.student.layer for p in heads)
    assert len({p.student for p in heads}) == len(heads)


def test_the_order_of_heads_does_not_matter_for_twins():
    model = with_twins(model_for("gpt2"))
    found = compare(model, permuted_gpt2(model), TASK, options=QUICK)
    assert found.alignment.score == pytest.approx(1.0, abs=1e-6)


def test_the_residual_basis_does_matter():
    """A rotation leaves the logits alone and heads aligned, and takes eigenvectors of MLP outputs apart; CKA sees it."""
    model = with_plain_norms(model_for("llama"))
    other = rotated_llama(model)
    # Llama's norms round to single precision, in another place for another basis.
    same_logits(model, other, within=1e-5)
    found = compare(model, other, TASK, options=QUICK)
    effects = found.teacher_sweep.effects
    np.testing.assert_allclose(effects, found.student_sweep.effects, rtol=0, atol=1e-4 * np.abs(effects).max())
    assert found.alignment.head.score == pytest.approx(1.0, abs=1e-5)
    assert found.alignment.mlp.mean_similarity < 0.7
    assert found.alignment.score < 0.95
    by_cka = compare(model, other, TASK, options=CompareOptions(ScoreOptions(Measures(mlp="cka")), random_null=False))
    assert by_cka.alignment.score == pytest.approx(1.0, abs=1e-5)
    assert not by_cka.alignment.comparable


def test_models_of_unequal_width_are_compared_by_cka():
    teacher, student = model_for("gpt2"), model_for("gpt2", seed=1, n_embd=24, n_layer=2, n_head=3)
    found = compare(teacher, student, TASK)
    assert found.similarity.mlp_measure == "debiased linear CKA of MLP outputs"
    assert not found.alignment.comparable
    assert 0 < found.alignment.score < 1
    assert found.similarity.mlp.shape == (3, 2)
    assert np.isfinite(numbers(found)).all()
    for options in (
        CompareOptions(ScoreOptions(Measures(mlp="eigenvectors"))),
        CompareOptions(ScoreOptions(Measures(head="result"))),
        CompareOptions(notebook=True),
    ):
        with pytest.raises(
            ValueError, match="needs models of equal width, and these have d_model 32 and 24, d_head 8 and 8"
        ):
            compare(teacher, student, TASK, options=options, execution=Execution(progress=must_not_run))


def must_not_run(*_):
    raise AssertionError("a long run was begun")


@pytest.mark.parametrize("student", ["gpt2", "neox-parallel"])
def test_different_tokens_are_compared_word_by_word(student):
    teacher, other = model_for("gpt2"), byte_level_model(student)
    task = task_of("ioi", n=3, ablation="mean")
    found = compare(teacher, other, task, options=QUICK)
    assert "the models read different tokens: patterns are compared word by word" in found.warnings
    assert found.manifest["patterns"] == "by word"
    assert np.isfinite(numbers(found)).all()
    assert found.patterns[0].teacher.shape[-1] < found.patterns[0].student.shape[-1]
    assert len(found.patterns[0].student_tokens) == found.patterns[0].student.shape[-1]


def test_a_causal_and_a_masked_model():
    found = compare(model_for("gpt2"), model_for("bert", num_hidden_layers=2), TASK, options=QUICK)
    assert "the models read different tokens: patterns are compared word by word" in found.warnings
    assert (found.teacher.is_causal, found.student.is_causal) == (True, False)
    assert found.patterns[0].student_tokens[-2:] == ("[MASK]", ".")
    assert np.isfinite(numbers(found)).all()
    turned = compare(model_for("bert", num_hidden_layers=2), model_for("gpt2"), TASK, options=QUICK)
    np.testing.assert_allclose(turned.similarity.head, found.similarity.head.T, atol=1e-12)


def test_a_word_level_copy_with_other_token_ids_still_aligns():
    """The same model under a vocabulary in another order: word by word and token by token are the same here."""
    model = model_for("gpt2")
    task = Task("t", tuple(replace(e, clean=e.clean, labels={}) for e in TASK.examples), origin="generated")
    shuffled = shuffled_vocabulary(model)
    found = compare(model, shuffled, task, options=QUICK)
    assert found.manifest["patterns"] == "by word"
    np.testing.assert_allclose(found.teacher_sweep.effects, found.student_sweep.effects, atol=1e-9)
    assert found.alignment.score == pytest.approx(1.0, abs=1e-6)


def shuffled_vocabulary(model):
    """The model with its token ids permuted, and a tokenizer to match."""
    size = model.vocab_size
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0))
    hf = copy.deepcopy(model.hf)
    with torch.no_grad():
        hf.transformer.wte.weight[order] = model.hf.transformer.wte.weight.clone()
    state = model.tokenizer.backend_tokenizer.to_str()
    backend = type(model.tokenizer.backend_tokenizer).from_str(_renumbered(state, order.tolist()))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")
    return module.CircuitModel.of(hf, tokenizer, name="shuffled")


def _renumbered(state, order):
    import json

    record = json.loads(state)
    record["model"]["vocab"] = {token: order[i] for token, i in record["model"]["vocab"].items()}
    for added in record["added_tokens"]:
        added["id"] = order[added["id"]]
    return json.dumps(record)


def test_only_the_most_influential():
    teacher, student, whole = pair()
    options = CompareOptions(ScoreOptions(matching=MatchOptions(top=4)), random_null=False)
    found = compare(teacher, student, TASK, options=options)
    best = [{c for _, c in sorted(zip(-s.influence(), s.components, strict=True))[:4]} for s in sweeps_of(whole)]
    assert found.alignment.pairs
    assert all(p.teacher in best[0] and p.student in best[1] for p in found.alignment.pairs)
    assert not found.alignment.comparable
    assert "top 4 components of both" in found.alignment.definition


def sweeps_of(comparison):
    return comparison.teacher_sweep, comparison.student_sweep


@pytest.mark.parametrize("wanted", [True, "ioi"])
def test_the_released_notebooks(wanted):
    teacher, student, whole = pair()
    found = compare(teacher, student, TASK, options=CompareOptions(random_null=False, notebook=wanted))
    prepared = prepare(teacher, student, TASK)
    similarity = notebook_similarity(run_measure(prepared, 0), run_measure(prepared, 1))
    retained = tuple(s.retained_percent for s in sweeps_of(whole))
    assert_same(found.notebook, released_notebook(similarity, retained, ioi=wanted == "ioi"))
    assert found.alignment.score == whole.alignment.score
    assert whole.notebook is None


def test_only_the_notebooks_similarity_has_a_bos():
    words = copy.deepcopy(byte_level())
    words.bos_token = words.eos_token
    teacher, student = (tiny("gpt2", torch.float64, s, tokenizer=words, vocab_size=len(words)) for s in (0, 1))
    task = task_of("ioi", n=2)
    found = compare(teacher, student, task, options=CompareOptions(random_null=False, notebook="ioi"))
    with_bos = prepare(teacher, student, replace(task, bos=True))
    sizes = [len(p.tasks[0].examples[0].clean) for p in (with_bos, prepare(teacher, student, task))]
    assert sizes[0] == sizes[1] + 1 == len(found.patterns[0].teacher_tokens) + 1
    similarity = notebook_similarity(run_measure(with_bos, 0), run_measure(with_bos, 1))
    retained = tuple(s.retained_percent for s in sweeps_of(found))
    assert_same(found.notebook, released_notebook(similarity, retained, ioi=True))


def test_an_unknown_notebook_is_refused():
    with pytest.raises(ValueError, match="unknown notebook 'bert': choose True, False, or 'ioi' for the IOI notebook"):
        CompareOptions(notebook="bert")


def test_saved_and_loaded(tmp_path):
    teacher, student, whole = pair()
    assert_same(Comparison.load(whole.save(tmp_path / "one")), whole)
    found = compare(teacher, student, TASK, options=CompareOptions(random_null=False, notebook=True))
    assert_same(Comparison.load(found.save(tmp_path / "two")), found)


def test_a_randomly_initialised_student_is_another_one():
    teacher, student, whole = pair()
    null = whole.alignment.null
    fresh = randomly_initialised(student, seed=module.NULL_SEED)
    by_hand = compare(teacher, fresh, TASK, options=QUICK).alignment
    assert null.random_score == pytest.approx(by_hand.score, abs=1e-12)
    assert null.random_similarity == pytest.approx(by_hand.mean_similarity, abs=1e-12)
    assert null.random_agreement == pytest.approx(by_hand.mean_agreement, abs=1e-12)
    assert abs(null.random_score - whole.alignment.score) > 1e-3
    similarity = compare(teacher, fresh, TASK, options=QUICK).similarity
    largest = [*similarity.head.max(axis=1), *similarity.mlp.max(axis=1)]
    np.testing.assert_allclose(null.random_largest, largest, atol=1e-12)
    assert compare(teacher, student, TASK, options=QUICK).alignment.null.random_score is None


def test_what_stands_beside_the_score():
    teacher, student, whole = pair()
    assert whole.performance.teacher.value == pytest.approx(whole.teacher_sweep.base.mean())
    assert whole.performance.n == len(TASK)
    compression = 1 - student.parameter_count / teacher.parameter_count
    assert whole.robustness.slope.compression == pytest.approx(compression)
    gap = whole.robustness.student.mean_drop - whole.robustness.teacher.mean_drop
    assert whole.robustness.slope.per_unit == pytest.approx(gap / compression, abs=3 / compression)
    assert len(whole.variants) == 9
    assert whole.variants["max+nearest"] == whole.alignment.score
    assert whole.alignment.interval[0] <= whole.alignment.score <= whole.alignment.interval[1]
    assert [p.example for p in whole.patterns] == [e.id for e in TASK.examples[:2]]
    np.testing.assert_allclose(whole.patterns[0].teacher.sum(-1), 1.0, atol=1e-5)
    assert len(whole.patterns[0].teacher) == 12
    assert whole.manifest["data_sha256"] == TASK.digest()
    assert whole.manifest["ablation"] == "mean-positional over corrupted prompts, grouped by length"
    assert fingerprint(teacher) in whole.manifest["teacher"]
    assert whole.student.fingerprint == fingerprint(student)
    assert whole.manifest["patterns"] == "by token"
    assert whole.warnings[0].startswith("tiny-gpt2: ")


def test_batches_change_nothing():
    teacher, student, whole = pair()
    found = compare(teacher, student, TASK, options=QUICK, execution=Execution(batch_size=1))
    assert found.alignment.score == pytest.approx(whole.alignment.score, abs=1e-12)
    np.testing.assert_allclose(found.similarity.head, whole.similarity.head, atol=1e-12)
    np.testing.assert_allclose(found.similarity.mlp, whole.similarity.mlp, atol=1e-9)


def test_an_interrupted_comparison_resumes(tmp_path):
    teacher, student, whole = pair()
    seen = []

    def progress(label, done, total):
        seen.append(done)
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(teacher, student, TASK, execution=Execution(progress=progress, folder=tmp_path))
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(kept) == 4
    found = compare(teacher, student, TASK, execution=Execution(folder=tmp_path))
    assert found.alignment.score == whole.alignment.score
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(list(tmp_path.iterdir())) == 3 + 2 + 2


def test_without_memory_the_similarity_pass_takes_fewer_prompts(monkeypatch):
    teacher, student, whole = pair()
    real, seen = module.measure, []

    def limited(*args, batch_size, **more):
        seen.append(batch_size)
        if batch_size > 2:
            raise torch.OutOfMemoryError("no memory")
        return real(*args, batch_size=batch_size, **more)

    monkeypatch.setattr(module, "measure", limited)
    found = compare(teacher, student, TASK, options=QUICK)
    assert seen == [6, 3, 1] * 2
    assert found.alignment.score == pytest.approx(whole.alignment.score, abs=1e-12)

    def never(*args, **more):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(module, "measure", never)
    with pytest.raises(torch.OutOfMemoryError):
        compare(teacher, student, TASK, options=QUICK)


@pytest.mark.parametrize("origin", ["generated", "file"])
def test_what_one_model_cannot_take_is_left_out_for_both(origin):
    sizes = sorted({len(e.clean) for e in TASK.bind(model_for("gpt2")).examples})
    teacher, short = model_for("gpt2"), model_for("gpt2", seed=1, n_positions=sizes[0])
    task = replace(TASK, origin=origin)
    found = compare(teacher, short, task, options=QUICK)
    assert len(found.dropped) == 3
    assert all("the model's context is" in why for why in found.dropped.values())
    kept = tuple(e.id for e in TASK.examples if e.id not in found.dropped)
    assert found.teacher_sweep.examples == found.student_sweep.examples == kept
    assert found.performance.n == 3
    assert found.manifest["examples"] == "3"
    turned = compare(short, teacher, task, options=QUICK)
    assert (turned.dropped, turned.teacher_sweep.examples) == (found.dropped, kept)


def test_what_neither_model_can_take_is_an_error_in_a_persons_task():
    bad = replace(TASK.examples[0], answer=" zebra")
    task = Task("mine", (bad, *TASK.examples[1:]), origin="file")
    teacher, student, _ = pair()
    with pytest.raises(ValueError, match="task 'mine' does not fit tiny-gpt2: 1 of 6 examples are bad"):
        compare(teacher, student, task, execution=Execution(progress=must_not_run))
    generated = compare(teacher, student, replace(task, origin="generated"), options=QUICK)
    assert list(generated.dropped) == [bad.id]


def test_one_example_is_no_comparison():
    teacher, student, _ = pair()
    message = "needs at least two examples, and tiny-gpt2 and tiny-gpt2 can both take 1 of 'one': give more prompts"
    with pytest.raises(ValueError, match=message):
        compare(teacher, student, Task("one", TASK.examples[:1]))
    bad = replace(TASK.examples[1], answer=" zebra")
    two = Task("two", (TASK.examples[0], bad), origin="generated")
    with pytest.raises(
        ValueError, match=r"can both take 1 of 'two'; 1 were dropped \(first: ' zebra' is not in this model"
    ):
        compare(teacher, student, two)


def test_equal_prompts_are_told_and_still_give_numbers():
    one = prompts("numeral-sequence", 1)[0]
    task = Task("same", tuple(replace(one, id=str(i)) for i in range(8)))
    teacher, student, _ = pair()
    found = compare(teacher, student, task)
    told = "all prompts are equal: the examples measure one thing only, and intervals over them mean nothing"
    assert f"tiny-gpt2: {told}" in found.warnings
    assert np.isfinite(numbers(found)).all()
    assert compare(teacher, teacher, task, options=QUICK).alignment.score == pytest.approx(1.0, abs=1e-9)


def test_a_baseline_near_or_below_zero_is_told():
    teacher, student, whole = pair()
    signs = np.sign(whole.student_sweep.base)
    turned = [
        replace(e, answer=e.distractor, distractor=e.answer) if s > 0 else e
        for e, s in zip(TASK.examples, signs, strict=True)
    ]
    found = compare(teacher, student, Task("against", tuple(turned), origin="generated"), options=QUICK)
    assert found.student_sweep.base.mean() < 0
    assert any("the model does not do the task: its mean logit difference is -" in w for w in found.warnings)
    assert np.isfinite(numbers(found)).all()
    assert 0 <= found.robustness.student.mean_drop <= 100


def test_a_baseline_of_exactly_zero_has_no_percentages():
    teacher, student, _ = pair()
    dead = copy.deepcopy(student.hf)
    with torch.no_grad():
        dead.transformer.ln_f.weight.zero_()
        dead.transformer.ln_f.bias.zero_()
    silent = module.CircuitModel.of(dead, student.tokenizer, name="silent")
    with pytest.raises(
        ValueError, match="silent: the mean logit difference on 'mixed' is exactly 0, so effects have no per"
    ):
        compare(teacher, silent, TASK, options=QUICK)


@pytest.mark.parametrize("side", ["teacher", "student"])
def test_logits_that_are_no_numbers_are_refused(side):
    models = dict(zip(("teacher", "student"), pair()[:2], strict=True))
    broken = copy.deepcopy(models[side].hf)
    with torch.no_grad():
        broken.transformer.h[1].mlp.c_fc.bias[0] = float("nan")
    models[side] = module.CircuitModel.of(broken, models[side].tokenizer, name="broken")
    with pytest.raises(
        ValueError, match="broken gives NaN or infinite logits on example .*: check its weights and dtype"
    ):
        compare(models["teacher"], models["student"], TASK)


def test_reference_prompts_that_do_not_fit_are_refused_before_any_run():
    teacher, student, _ = pair()
    ablation = Ablation(source="file", reference=task_of("ioi", n=9))
    with pytest.raises(
        ValueError, match="no reference prompt has 23 tokens, as example numeral-sequence-0 of 'mixed' has"
    ):
        compare(teacher, student, TASK, ablation=ablation, execution=Execution(progress=must_not_run))


def test_texts_that_differ_are_refused_before_any_run(monkeypatch):
    teacher, student = model_for("gpt2"), byte_level_model()
    task = task_of("ioi", n=2, ablation="mean")
    real = module.bind_both

    def other_text(*args, **more):
        one, two = real(*args, **more)
        changed = tuple(replace(e, text=e.text.replace("to", "at")) for e in two.examples)
        return one, replace(two, examples=changed)

    monkeypatch.setattr(module, "bind_both", other_text)
    with pytest.raises(ValueError, match="the models read different words"):
        compare(teacher, student, task, execution=Execution(progress=must_not_run))


def test_noise_takes_a_copy_away_from_its_teacher():
    model, seen = model_for("gpt2"), []
    options = {"stds": (0.0, 0.2, 2.0), "seeds": (3, 4)}

    def progress(label, done, total):
        if label == "noise experiment":
            seen.append((done, total))

    curve = noise_curve(model, model, TASK, **options, execution=Execution(progress=progress))
    assert seen == [(i, 6) for i in range(1, 7)]
    assert (curve.stds, curve.seeds) == (options["stds"], options["seeds"])
    np.testing.assert_allclose(curve.scores[0], 1.0, atol=1e-9)
    np.testing.assert_allclose(curve.agreements[0], 1.0, atol=1e-9)
    assert (curve.scores[1:] < 1 - 1e-4).all()
    assert curve.scores[1, 0] != curve.scores[1, 1]
    assert curve.similarities[2].mean() < curve.similarities[1].mean()
    again = noise_curve(model, model, TASK, **options, execution=Execution(batch_size=1))
    np.testing.assert_allclose(again.scores, curve.scores, atol=1e-9)


def test_without_noise_the_curve_begins_at_the_comparison():
    teacher, student, whole = pair()
    curve = noise_curve(teacher, student, TASK, stds=(0.0,), seeds=(0,))
    assert curve.scores[0, 0] == pytest.approx(whole.alignment.score, abs=1e-12)
    assert curve.similarities[0, 0] == pytest.approx(whole.alignment.mean_similarity, abs=1e-12)


def refused(*args, **more):
    raise AssertionError("nobody asked for this")


@pytest.mark.parametrize("width", [32, 24])
def test_noise_makes_only_what_scores_and_scores_as_before(width, monkeypatch):
    teacher, student = model_for("gpt2"), model_for("gpt2", seed=1, n_embd=width, n_layer=2, n_head=width // 8)
    prepared = prepare(teacher, student, TASK)
    drops, measured = run_sweep(prepared, 0).drops, run_measure(prepared, 0)
    wanted = []
    for std in (0.0, 0.5):
        noise = GaussianNoise(std, 3)
        disturbed = run_measure(prepared, 1, noise=noise)
        everything = pair_similarity(measured, disturbed, measures=Measures(), others=True)
        effects = (drops, run_sweep(prepared, 1, noise=noise).drops)
        wanted.append(score(everything, effects, options=ScoreOptions()).total)
    monkeypatch.setattr(similarities, "subspace_overlap", refused)
    monkeypatch.setattr(similarities, "cka_matrix" if width == 32 else "rank_cosine", refused)
    monkeypatch.setattr(measures_of, "_KEEPERS", {n: measures_of._KEEPERS[n] for n in needed_for(width)})
    curve = noise_curve(teacher, student, TASK, stds=(0.0, 0.5), seeds=(3,))
    np.testing.assert_allclose(curve.scores[:, 0], [w.score for w in wanted], atol=1e-12)
    np.testing.assert_allclose(curve.similarities[:, 0], [w.mean_similarity for w in wanted], atol=1e-12)


def needed_for(width):
    return ("patterns", "mlp_vectors" if width == 32 else "mlp_points")


def test_cka_of_a_comparison_is_made_once_not_for_the_untrained_student(monkeypatch):
    teacher, student, _ = pair()
    real, calls = similarities.cka_matrix, []
    monkeypatch.setattr(
        similarities, "cka_matrix", lambda x, *rest, **more: calls.append(x.shape) or real(x, *rest, **more)
    )
    compare(teacher, student, TASK)
    assert [shape[0] for shape in calls] == [12, 3]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"stds": ()}, "the noise experiment needs at least one standard deviation and one seed"),
        ({"seeds": ()}, "the noise experiment needs at least one standard deviation and one seed"),
        ({"stds": (0.1, -0.1)}, "noise needs std and seed of 0 or above, got -0.1 and 0"),
    ],
)
def test_an_impossible_noise_experiment_is_refused_before_any_run(options, message):
    teacher, student, _ = pair()
    with pytest.raises(ValueError, match=message):
        noise_curve(teacher, student, TASK, **options, execution=Execution(progress=must_not_run))


def test_a_screened_comparison_ablates_the_largest_estimates_of_both_models():
    teacher, student, whole = pair()
    options = CompareOptions(screen=3)
    found = compare(teacher, student, TASK, options=options)
    for model, swept, full in zip((teacher, student), sweeps_of(found), sweeps_of(whole), strict=True):
        assert_same(swept, screened_sweep(model, TASK, top=3).sweep)
        assert len(swept.estimated) == len(model.components) - 3
        measured = [i for i, c in enumerate(swept.components) if c not in swept.estimated]
        np.testing.assert_allclose(swept.effects[measured], full.effects[measured], rtol=0, atol=1e-10)
        sizes = f"{len(swept.estimated)} of {len(model.components)} components are estimated by attribution"
        assert any(w.startswith(f"{model.name}: {sizes}") for w in found.warnings)
    # the randomly initialised student is screened too
    assert found.alignment.null.random_agreement != whole.alignment.null.random_agreement
    assert found.manifest["effects"].startswith("ablation of the 3 components of largest attribution")
    assert "effects" not in whole.manifest
    # Where a model has no more components than that, all are ablated.
    everything = compare(teacher, student, TASK, options=replace(QUICK, screen=15))
    assert all(not swept.estimated for swept in sweeps_of(everything))
    with pytest.raises(ValueError, match="screen must be at least 1 component, not 0: leave it out to ablate all"):
        CompareOptions(screen=0)


def test_steps_by_hand():
    teacher, student, whole = pair()
    prepared = prepare(teacher, student, TASK)
    assert prepared.ablation == Ablation("mean-positional")
    assert prepare(teacher, student, replace(TASK, ablation="mean")).ablation == Ablation("mean")
    for side, found in enumerate(sweeps_of(whole)):
        assert_same(run_sweep(prepared, side), found)
        assert_same(sweep((teacher, student)[side], TASK), found)
