"""The teacher's signals equal those of Hugging Face's own forward, live and from the file."""

from __future__ import annotations

import pytest
import torch

from circuitkd.components import Component
from circuitkd.distill.data import answer_positions, collate, rows_of
from circuitkd.distill.signals import CachedTeacher, LiveTeacher, Needs, at_points
from circuitkd.models import blocks
from circuitkd.models.hooks import hooked_logits, record
from distill_cases import shared_pair
from small_runs import task_of
from tiny_models import TINY

HEADS = tuple(Component.parse(h) for h in ("L1H3", "L0H0", "L1H3"))


def batch_of(bound, rows):
    return collate([rows_of(bound)[i] for i in rows])


def by_hugging_face(model, bound, rows, points):
    """Signals row by row, never padded."""
    z, logits = [], []
    for i in rows:
        e = bound.examples[i]
        with torch.no_grad(), record(model) as seen:
            found = hooked_logits(model, torch.tensor([e.clean]), torch.tensor([len(e.clean)]))
        logits.append(found[0, e.answer_position])
        kept = slice(None) if points == "tokens" else [e.answer_position]
        z.append(torch.stack([seen.z[h.layer][0].unflatten(-1, (-1, model.d_head))[kept, h.head] for h in HEADS]))
    return torch.cat(z, 1), torch.stack(logits)


@pytest.mark.parametrize("points", ["answer", "tokens"])
@pytest.mark.parametrize("name", sorted(TINY))
def test_against_hugging_face(name, points):
    model, bound, rows = shared_pair(name).teacher, shared_pair(name).bound[0], [5, 0, 3]
    z, logits = by_hugging_face(model, bound, rows, points)
    found = LiveTeacher(model, Needs(HEADS, points, labels=True, logits=True)).signals(batch_of(bound, rows))
    assert torch.allclose(found.z, z, atol=1e-4) and torch.allclose(found.logits, logits, atol=1e-3)
    assert torch.equal(found.labels, found.logits.argmax(-1))
    assert not found.z.requires_grad and not found.z.is_inference()


def test_nothing_is_run_beyond_the_last_needed_layer(monkeypatch):
    pair, layers = shared_pair(), []
    plain = blocks.attend
    monkeypatch.setattr(blocks, "attend", lambda m, layer, *a, **k: layers.append(layer) or plain(m, layer, *a, **k))
    batch = batch_of(pair.bound[0], [0, 1])
    found = LiveTeacher(pair.teacher, Needs(HEADS)).signals(batch)
    assert layers == [0, 1] and found.labels is None and found.logits is None
    LiveTeacher(pair.teacher, Needs(HEADS, labels=True)).signals(batch)
    assert layers == [0, 1, 0, 1, 2]
    assert LiveTeacher(pair.teacher, Needs()).signals(batch).z is None
    assert len(layers) == 5


@pytest.mark.parametrize("points", ["answer", "tokens"])
def test_a_cached_teacher_says_the_same(points, tmp_path, monkeypatch):
    pair = shared_pair()
    needs = Needs(HEADS, points, labels=True, logits=True)
    rows = rows_of(pair.bound[0])
    live = LiveTeacher(pair.teacher, needs)
    batch = batch_of(pair.bound[0], [6, 1, 2, 1])
    expected = live.signals(batch)
    first = CachedTeacher(pair.teacher, needs, rows=rows, folder=tmp_path)
    monkeypatch.setattr(blocks, "embed", None)  # from now on no model can be run
    for teacher in (first, CachedTeacher(pair.teacher, needs, rows=rows, folder=tmp_path)):
        found = teacher.signals(batch)
        for name in ("z", "labels", "logits"):
            assert torch.allclose(getattr(found, name), getattr(expected, name), atol=1e-5), name
    assert len(list(tmp_path.iterdir())) == 1


def test_unknown_rows_are_run(tmp_path):
    pair = shared_pair()
    teacher = CachedTeacher(pair.teacher, Needs(HEADS, labels=True), rows=rows_of(pair.bound[0]), folder=tmp_path)
    other = task_of("months-sequence", n=2).bind(pair.teacher)
    expected = teacher.live.signals(batch_of(other, [0, 1]))
    assert torch.equal(teacher.signals(batch_of(other, [0, 1])).z, expected.z)


def test_another_teacher_or_need_has_another_file_and_a_damaged_one_is_made_anew(tmp_path):
    pair = shared_pair()
    rows = rows_of(pair.bound[0])
    first = CachedTeacher(pair.teacher, Needs(HEADS), rows=rows, folder=tmp_path)
    paths = {first.path}
    paths.add(CachedTeacher(pair.student, Needs(HEADS), rows=rows, folder=tmp_path).path)
    paths.add(CachedTeacher(pair.teacher, Needs(HEADS[:1]), rows=rows, folder=tmp_path).path)
    paths.add(CachedTeacher(pair.teacher, Needs(HEADS), rows=rows.select([0, 1]), folder=tmp_path).path)
    assert len(paths) == 4
    first.path.write_bytes(b"damaged")
    again = CachedTeacher(pair.teacher, Needs(HEADS), rows=rows, folder=tmp_path)
    batch = batch_of(pair.bound[0], [0])
    assert torch.equal(again.signals(batch).z, first.signals(batch).z)


def test_wrong_requests(tmp_path):
    with pytest.raises(ValueError, match="unknown rows of CKA 'words': choose one of answer, tokens"):
        Needs(points="words")
    pair, place = shared_pair(), tmp_path / "file"
    place.write_text("")
    with pytest.raises(ValueError, match="cannot keep the teacher's activations in .*; choose another folder"):
        CachedTeacher(pair.teacher, Needs(HEADS), rows=rows_of(pair.bound[0]), folder=place)


def test_points_of_padded_rows():
    batch = batch_of(shared_pair().bound[0], [0, 7])
    z = torch.arange(batch["input_ids"].numel()).reshape(batch["input_ids"].shape)[..., None]
    ends = answer_positions(batch)
    assert at_points(z, batch, points="answer")[:, 0].tolist() == [z[0, ends[0], 0], z[1, ends[1], 0]]
    real = [z[i, :n, 0].tolist() for i, n in enumerate(batch["lengths"])]
    assert at_points(z, batch, points="tokens")[:, 0].tolist() == real[0] + real[1]
