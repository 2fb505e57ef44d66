"""What an objective asks for, and every message of wrong ones."""

from __future__ import annotations

import pytest
import torch

from circuitkd.components import Component
from circuitkd.distill.losses import answer_loss, label_loss, softened_loss
from circuitkd.distill.objective import Alignment, Objective
from circuitkd.distill.signals import Needs, Signals

PAIRS = ((Component.parse("L0H1"), Component.parse("L2H3")), (Component.parse("L1H1"), Component.parse("L0H0")))
TEACHER = tuple(t for _, t in PAIRS)


def test_only_what_is_needed_is_asked_of_the_teacher():
    assert Objective().needs() == Needs(labels=True)
    assert Objective("ground-truth").needs() == Needs()
    assert Objective("kl").needs() == Needs(logits=True)
    both = Objective("kl", alignment=Alignment(PAIRS, points="tokens"))
    assert both.needs() == Needs(TEACHER, "tokens", logits=True)
    assert both.needs(evaluation=True) == Needs(TEACHER, labels=True, logits=True)
    weightless = Objective(alignment=Alignment(PAIRS, weight=0.0))
    assert weightless.needs() == Needs(labels=True)
    assert weightless.active_alignment is None
    assert weightless.needs(evaluation=True) == Needs(TEACHER, labels=True)


def test_task_losses_are_those_of_their_names():
    logits, teacher = torch.randn(3, 7), torch.randn(3, 7)
    batch = {"answers": torch.tensor([[1, 2], [3, -100], [4, -100]])}
    signals = Signals(labels=teacher.argmax(-1), logits=teacher)
    expected = {
        "teacher-labels": label_loss(logits, teacher.argmax(-1)),
        "ground-truth": answer_loss(logits, batch["answers"]),
        "kl": softened_loss(logits, teacher, temperature=3.0),
    }
    for name, values in expected.items():
        assert torch.equal(Objective(name, temperature=3.0).task_losses(logits, batch, signals=signals), values)


def test_heads_of_pairs():
    found = Alignment(PAIRS)
    assert found.student_heads == (PAIRS[0][0], PAIRS[1][0]) and found.teacher_heads == TEACHER


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": ()}, r"no heads are selected: an alignment needs at least one pair \(student head, teacher head\)"),
        ({"kind": "cosine"}, "unknown kind of alignment 'cosine': choose one of cka, surrogate"),
        ({"reduction": "max"}, "unknown reduction 'max': choose one of sum, mean"),
        ({"points": "words"}, "unknown rows of CKA 'words': choose one of answer, tokens"),
        ({"weight": -1.0}, "the weight of the alignment must be at least 0, not -1.0"),
        ({"kind": "surrogate"}, "the surrogate needs the teacher_influence of each pair"),
        ({"kind": "surrogate", "teacher_influence": (1.0, 0.5), "gather_rows": True}, "and works without gather_rows"),
    ],
)
def test_wrong_alignments(options, message):
    with pytest.raises(ValueError, match=message):
        Alignment(**({"pairs": PAIRS} | options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task_loss": "mse"}, "unknown task loss 'mse': choose one of teacher-labels, ground-truth, kl, None"),
        ({"temperature": 0.0}, "temperature must be above 0, not 0.0"),
        ({"head_ablation": 1.0}, "head_ablation is a probability below 1, not 1.0"),
        ({"task_loss": None}, "nothing to train on: give a task loss, or an alignment with a weight above 0"),
        ({"task_loss": None, "alignment": Alignment(PAIRS, weight=0.0)}, "nothing to train on"),
    ],
)
def test_wrong_objectives(options, message):
    with pytest.raises(ValueError, match=message):
        Objective(**options)
