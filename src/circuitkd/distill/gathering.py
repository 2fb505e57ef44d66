"""CKA over the rows of a whole optimiser step: of all processes and accumulation steps.

CKA is a statistic of its batch, so the gradient of each micro-batch needs the rows of all the others. They enter as
constants: with x = (own rows, other rows), the gradient of CKA(x) by the own rows is what this micro-batch contributes,
and over micro-batches and processes the contributions add up to the whole gradient, since weights do not change within
a step. For accumulation the other rows come from one more forward without gradient per micro-batch; that is why
dropout, or anything else that makes a second forward differ, cannot be used with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PairRows:
    """Rows of CKA of head pairs: z of the students' heads [pair, point, p] and of the teachers' [pair, point, q]."""

    student: Tensor
    teacher: Tensor


def gathered(accelerator: Any, rows: PairRows) -> list[PairRows]:
    """The rows of every process, as constants, in the order of the processes."""
    rows = PairRows(rows.student.detach(), rows.teacher)
    if accelerator.num_processes == 1:
        return [rows]
    counts = accelerator.gather(torch.tensor([rows.student.shape[1]], device=rows.student.device)).tolist()
    sides = [_gathered(accelerator, side, counts) for side in (rows.student, rows.teacher)]
    return [PairRows(student, teacher) for student, teacher in zip(*sides, strict=True)]


def _gathered(accelerator: Any, x: Tensor, counts: Sequence[int]) -> list[Tensor]:
    # Collectives join the first axis and want equal sizes: points come first, and are padded.
    padded = torch.nn.functional.pad(x.transpose(0, 1), (0, 0, 0, 0, 0, max(counts) - x.shape[1])).contiguous()
    every = accelerator.gather(padded).split(max(counts))
    return [part[:count].transpose(0, 1) for part, count in zip(every, counts, strict=True)]


def joined(parts: Sequence[Sequence[PairRows]], own: PairRows, *, at: tuple[int, int]) -> PairRows:
    """All rows of a step, `parts` [micro-batch][process], with those at index `at` replaced by `own`, which has the
    gradient."""
    flat = [own if (i, j) == at else rows for i, part in enumerate(parts) for j, rows in enumerate(part)]
    return PairRows(torch.cat([r.student for r in flat], dim=1), torch.cat([r.teacher for r in flat], dim=1))
