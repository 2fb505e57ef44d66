"""Contributions of micro-batches and processes add up to the gradient of CKA over all rows."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from circuitkd.distill.gathering import PairRows, gathered, joined
from circuitkd.distill.losses import alignment_loss


def draw(points, width=4, seed=0):
    return torch.randn(2, points, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class TwoProcesses:
    """The collectives of two processes, seen from the first; the other's tensors come in the same order."""

    num_processes = 2

    def __init__(self, other):
        self.other = list(other)

    def gather(self, mine):
        return torch.cat([mine, self.other.pop(0)])


def test_rows_of_one_process_are_constants():
    rows = PairRows(draw(5).requires_grad_(), draw(5, seed=1))
    (found,) = gathered(SimpleNamespace(num_processes=1), rows)
    assert torch.equal(found.student, rows.student) and not found.student.requires_grad


def test_unequal_numbers_of_rows_are_gathered_in_order():
    mine, theirs = PairRows(draw(3), draw(3, 6, seed=1)), PairRows(draw(5, seed=2), draw(5, 6, seed=3))
    sent = [torch.tensor([5]), *(side.transpose(0, 1) for side in (theirs.student, theirs.teacher))]
    found = gathered(TwoProcesses(sent), mine)
    for rows, expected in zip(found, (mine, theirs), strict=True):
        assert torch.equal(rows.student, expected.student) and torch.equal(rows.teacher, expected.teacher)


def test_contributions_add_up():
    sizes = [[3, 2], [4, 3]]  # two micro-batches on two processes
    student, teacher = draw(12).requires_grad_(), draw(12, 5, seed=1)
    whole = alignment_loss(student, teacher)
    whole.backward()
    starts = iter([0, 3, 5, 9, 12])
    first, slices = next(starts), []
    for end in starts:
        slices.append(slice(first, end))
        first = end
    parts, flat = [], iter(slices)
    for sizes_of_micro in sizes:
        spans = [next(flat) for _ in sizes_of_micro]
        parts.append([PairRows(student.detach()[:, s], teacher[:, s]) for s in spans])
    total = torch.zeros_like(student)
    for index, span in enumerate(slices):
        own = student.detach()[:, span].clone().requires_grad_()
        every = joined(parts, PairRows(own, teacher[:, span]), at=divmod(index, 2))
        loss = alignment_loss(every.student, every.teacher)
        assert torch.allclose(loss, whole)
        loss.backward()
        total[:, span] += own.grad
    assert torch.allclose(total, student.grad, atol=1e-12)
