"""||X_t^T Y_s||_F^2 of every teacher component t with every student component s, rows centred, in float64.

n rows, T teacher components of width p, S student components of width q. Two ways, of which `squared_norms` takes the one
with fewer multiplications (`operations`):

    rows       <X X^T, Y Y^T>: n^2 (p T + q S) for the Gram matrices of rows, n^2 T S for all pairs of them
    features   X^T Y itself: n p q T S, and n (p^2 T + q^2 S) for each side's own

Both are few large products. Gram matrices are symmetric: only tiles on and above the diagonal are made, each for all
components at once, so that no entry is made twice and none is kept. X^T Y is made for as many components at a time as fit.
The arrays stay where they are; what is worked on is copied to a device in parts. These and their products together take no
more than BLOCK bytes, unless a single component, or the product of a single pair, takes more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, isqrt, prod
from typing import NamedTuple

import torch
from torch import Tensor

from circuitkd.comparison.checks import Array

BLOCK = 512 * 2**20  # bytes: a quarter for either operand, half for the product
TILES, LEAST_TILE = 2, 64  # more tiles a side leave less of a symmetric matrix to make, and copy more
Shape = tuple[int, int]


class SquaredNorms(NamedTuple):
    """`cross` [teacher, student]: ||X^T Y||_F^2; `teacher`, `student` [component]: ||X^T X||_F^2, ||Y^T Y||_F^2."""

    cross: Array
    teacher: Array
    student: Array


def with_float64(device: torch.device | str) -> torch.device:
    """The device, or the CPU in place of one that has no float64."""
    return torch.device("cpu" if torch.device(device).type == "mps" else device)


class Scratch:
    """Memory on a device that is used again by name: fresh pages for every part would cost as much as its product."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = with_float64(device)
        self._held: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Float64 memory of this shape, of any content; what had the name before is overwritten."""
        held, size = self._held.get(name), prod(shape)
        if held is None or len(held) < size:
            held = self._held[name] = torch.empty(size, dtype=torch.float64, device=self.device)
        return held[:size].view(shape)


@dataclass(frozen=True, eq=False)
class Features:
    """Values [component, row, width] of any floating dtype on the host, and their means over rows [component, width] in
    float64 on the device that does the products."""

    values: Tensor
    means: Tensor
    scratch: Scratch

    @classmethod
    def of(cls, values: Array, *, scratch: Scratch) -> Features:
        """Take the means. `values` are not copied, unless they are read-only; both sides share `scratch`."""
        held = torch.from_numpy(values if values.flags.writeable else values.copy())
        means = torch.zeros(held.shape[0], held.shape[2], dtype=torch.float64, device=scratch.device)
        found = cls(held, means, scratch)
        for some in found.parts(held.shape[1]):
            means[some] = found.centred(some).mean(dim=0)
        return found

    @property
    def shape(self) -> Shape:
        """Components, and their width."""
        return self.values.shape[0], self.values.shape[2]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.values.shape[1]

    def parts(self, rows: int) -> Iterator[slice]:
        """All components, as many at a time as fit with so many rows each."""
        return _slices(self.shape[0], _fitting(rows * self.shape[1]))

    def centred(self, components: slice, rows: slice = slice(None), *, name: str = "left") -> Tensor:
        """Some components at some rows, without their means [row, component, width], until the next of this name."""
        values, means = self.values[components, rows].transpose(0, 1), self.means[components]
        return self.scratch.take(name, *values.shape).copy_(values.to(means.device)).sub_(means)

    def row_norms(self) -> Tensor:
        """|x_i - mean|^2 [component, row]."""
        return torch.cat([self.centred(some).square_().sum(dim=2).T for some in self.parts(self.rows)])

    def grams(self, rows: slice, columns: slice, *, name: str) -> Tensor:
        """A tile of X X^T of every component [component, entry], until the next of this name."""
        sides = [len(range(self.rows)[side]) for side in (rows, columns)]
        found = self.scratch.take(name, self.shape[0], *sides)
        for some in self.parts(max(sides)):
            left = self.centred(some, rows).transpose(0, 1)
            right = left if rows == columns else self.centred(some, columns, name="right").transpose(0, 1)
            torch.bmm(left, right.transpose(1, 2), out=found[some])
        return found.flatten(1)


def squared_norms(teacher: Features, student: Features) -> SquaredNorms:
    """All of them, the cheaper way. The sides have equal rows."""
    by_rows, by_features = operations(teacher.shape, student.shape, rows=teacher.rows)
    found = norms_by_rows(teacher, student) if by_rows <= by_features else norms_by_features(teacher, student)
    return SquaredNorms(*(part.cpu().numpy() for part in found))


def operations(teacher: Shape, student: Shape, *, rows: int) -> tuple[float, float]:
    """Multiplications by rows and by features, from (components, width) of both sides."""
    (t, p), (s, q) = teacher, student
    tiles = ceil(rows / _tile(rows, t + s))
    share = (tiles + 1) / (2 * tiles)
    by_rows = float(rows) ** 2 * share * (p * t + q * s + t * s)
    return by_rows, float(rows) * (p * q * t * s + p**2 * t + q**2 * s)


def copies(components: int, *, rows: int) -> int:
    """How often a value is copied by rows: for means, for norms, and once for each tile of a side."""
    return 2 + ceil(rows / _tile(rows, components))


def norms_by_rows(teacher: Features, student: Features) -> tuple[Tensor, Tensor, Tensor]:
    """Through Gram matrices of rows, tile by tile."""
    cross = teacher.means.new_zeros(teacher.shape[0], student.shape[0])
    own = [teacher.means.new_zeros(side.shape[0]) for side in (teacher, student)]
    tiles = list(_slices(teacher.rows, _tile(teacher.rows, len(own[0]) + len(own[1]))))
    for i, rows in enumerate(tiles):
        for columns in tiles[i:]:
            times = 1.0 if columns == rows else 2.0  # a tile above the diagonal stands for the one below it too
            grams = [
                side.grams(rows, columns, name=name) for side, name in ((teacher, "teacher"), (student, "student"))
            ]
            cross.addmm_(grams[0], grams[1].T, alpha=times)
            for total, gram in zip(own, grams, strict=True):
                total += times * torch.linalg.vector_norm(gram, dim=1).square_()
    return cross, own[0], own[1]


def norms_by_features(teacher: Features, student: Features) -> tuple[Tensor, Tensor, Tensor]:
    """Through products of features, block by block."""
    cross = teacher.means.new_zeros(teacher.shape[0], student.shape[0])
    for rows, left in _blocks(teacher, "left"):
        for columns, right in _blocks(student, "right"):
            products = teacher.scratch.take("products", left.shape[1], right.shape[1])
            torch.mm(left.T, right, out=products)
            sides = products.square_().unflatten(1, (-1, student.shape[1])).sum(dim=2)
            cross[rows, columns] = sides.unflatten(0, (-1, teacher.shape[1])).sum(dim=1)
    return cross, _own(teacher), _own(student)


def _blocks(side: Features, name: str) -> Iterator[tuple[slice, Tensor]]:
    """Components beside one another [row, component x width], as many as let the products of two blocks fit."""
    width = side.shape[1]
    for some in _slices(side.shape[0], min(_fitting(side.rows * width), max(1, isqrt(BLOCK // 16) // width))):
        yield some, side.centred(some, name=name).flatten(1)


def _own(side: Features) -> Tensor:
    """||X^T X||_F^2 [component]."""
    found = []
    for some in side.parts(max(side.shape[1], side.rows)):
        values = side.centred(some).transpose(0, 1)
        found.append((values.transpose(1, 2) @ values).square_().sum(dim=(1, 2)))
    return torch.cat(found)


def _tile(rows: int, components: int) -> int:
    """Rows and columns of a tile, of which one for every component is held at a time."""
    most = max(1, isqrt(BLOCK // (16 * components)))
    tiles = max(ceil(rows / most), min(TILES, rows // LEAST_TILE), 1)
    return ceil(rows / tiles)


def _fitting(values: int) -> int:
    """How many components of so many values each make an operand, at least one."""
    return max(1, BLOCK // (32 * values))


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
