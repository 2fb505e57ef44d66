"""What similarities cost in the shapes of Llama-3.1-8B and Minitron-4B-depth, beside the plain formulas.

    python benchmarks/similarity.py               # 1024 x 512 heads 128 wide, 32 x 16 MLPs 4096 wide, 1024 tokens
    python benchmarks/similarity.py --threads 2

CKA: `cka_matrix` of all pairs, beside the formula pair by pair: ||X^T Y||^2 from products of features (heads), or from Gram
matrices of rows, made once for each component (MLPs), whichever is less work for one pair. Directions: those of one MLP's
outputs at 1500 tokens, beside the eigenvectors of their covariance. The plain formulas run on PAIRS and are extrapolated by
the number of pairs. Both run in turn in one process on random numbers; medians of CPU seconds and of their ratios.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from threadpoolctl import threadpool_limits

from circuitkd.comparison.cka import cka_matrix
from circuitkd.comparison.products import BLOCK
from circuitkd.comparison.similarity import leading_directions

HEADS, MLPS = ((1024, 128), (512, 128)), ((32, 4096), (16, 4096))  # (components, width) of teacher and student
ROWS, TOKENS = 1024, 1500
PAIRS = 400, 4  # heads: so many pairs; MLPs: all pairs of so many on either side
Floats = NDArray[np.float64]


def points(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """[component, row, width], rows first in memory, as they are measured."""
    return rng.standard_normal((ROWS, *shape), dtype=np.float32).transpose(1, 0, 2)


def centred(x: NDArray[np.float32]) -> Floats:
    """In float64, without the means over rows."""
    x = x.astype(np.float64)
    return np.ascontiguousarray(x - x.mean(axis=1, keepdims=True))


def plain_heads(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """CPU seconds of all pairs, from some."""
    teacher, student = centred(x[: PAIRS[0] // 20]), centred(y[:20])
    start = time.process_time()
    for a in teacher:
        for b in student:
            ((a.T @ b) ** 2).sum()
    return (time.process_time() - start) * len(x) * len(y) / PAIRS[0]  # centring is little beside it


def plain_mlps(x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    """CPU seconds of all pairs, from some: a Gram matrix of each component, a product for each pair."""
    start = time.process_time()
    grams = [np.stack([(a @ a.T).ravel() for a in centred(side[: PAIRS[1]])]) for side in (x, y)]
    made = time.process_time() - start
    for gram in grams[0]:
        grams[1] @ gram
    paired = time.process_time() - start - made
    return made * (len(x) + len(y)) / (2 * PAIRS[1]) + paired * len(x) * len(y) / PAIRS[1] ** 2


def plain_directions(rows: Floats) -> None:
    """Eigenvectors of the covariance."""
    x = rows - rows.mean(axis=0)
    eigh(x.T @ x, subset_by_index=[rows.shape[1] - 3, rows.shape[1] - 1])


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of a run."""
    start = time.process_time()
    work()
    return time.process_time() - start


def told(name: str, plain: list[float], ours: list[float]) -> None:
    """Medians and their ratio."""
    ratios = [a / b for a, b in zip(plain, ours, strict=True)]
    each = ", ".join(f"{ratio:.1f}" for ratio in ratios)
    print(
        f"{name:28}{statistics.median(plain):9.1f} s {statistics.median(ours):9.1f} s "
        f"{statistics.median(ratios):9.1f}  (runs: {each})",
        flush=True,
    )


def main() -> None:
    """Measure and print medians and ratios."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--threads", type=int, default=1)
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    rng, runs = np.random.default_rng(0), range(chosen.runs)
    print(f"{'':28}{'plain':>11} {'circuitkd':>11} {'ratio':>9}   CPU seconds, {chosen.threads} threads")
    with threadpool_limits(chosen.threads):
        for name, shapes, plain in (("CKA of heads", HEADS, plain_heads), ("CKA of MLPs", MLPS, plain_mlps)):
            x, y = (points(shape, rng) for shape in shapes)
            found = [(plain(x, y), cpu(lambda x=x, y=y: cka_matrix(x, y, debiased=True))) for _ in runs]
            told(f"{name}, {len(x)} x {len(y)}", *(list(side) for side in zip(*found, strict=True)))
        rows = rng.standard_normal((TOKENS, MLPS[0][1]))
        found = [(cpu(lambda: plain_directions(rows)), cpu(lambda: leading_directions(rows))) for _ in runs]
        told("directions of one MLP", *(list(side) for side in zip(*found, strict=True)))
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    held = 4 * ROWS * sum(count * width for count, width in HEADS)
    print(
        f"peak memory of the process {peak / 1e9:.1f} GB: z of the heads is {held / 1e9:.1f}, parts are {BLOCK / 1e9:.1f}"
    )


if __name__ == "__main__":
    main()
