"""Students of the teacher's own shape whose matrices are rounded to int8 or cut to low rank.

int8      weight-only, symmetric, one scale for each output channel: scale = max |w| / 127, w' = scale * round(w / scale),
          so |w' - w| <= scale / 2
low rank  W' = the closest matrix of rank r (SVD); r is the largest rank whose two factors hold at most `keep` of W's
          entries, r = keep * m n / (m + n)

Every matrix inside the blocks is changed (attention and MLP); embeddings, norms and biases are not. The values are
stored dequantised and multiplied out, in the teacher's class: this is exactly the function that an int8 or factored
checkpoint computes, without its smaller file.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

import circuitkd as ck


def to_int8(model: ck.CircuitModel) -> tuple[Any, int]:
    """The Hugging Face model with int8 values in its matrices, and the bytes that they would take (scales in float32)."""
    hf, stored = copy.deepcopy(model.hf), 0
    with torch.no_grad():
        for module in matrices(hf, model):
            outputs = 0 if isinstance(module, nn.Linear) else 1
            module.weight.copy_(rounded(module.weight, outputs))
            stored += module.weight.numel() + 4 * module.weight.shape[outputs]
    return hf, stored


def rounded(weight: Tensor, outputs: int) -> Tensor:
    """The matrix with int8 values times one scale for each index of dimension `outputs`."""
    scale = weight.abs().amax(dim=1 - outputs, keepdim=True) / 127
    scale = scale.masked_fill(scale == 0, 1.0)
    return (weight / scale).round().to(torch.int8).to(weight.dtype) * scale


def to_low_rank(model: ck.CircuitModel, keep: float) -> tuple[Any, list[tuple[int, float]]]:
    """The Hugging Face model with truncated matrices, and for each the rank and the share of squared singular values
    kept."""
    hf, found = copy.deepcopy(model.hf), []
    with torch.no_grad():
        for module in matrices(hf, model):
            rows, columns = module.weight.shape
            rank = min(max(1, int(keep * rows * columns / (rows + columns))), rows, columns)
            matrix, energy = truncated(module.weight, rank)
            module.weight.copy_(matrix)
            found.append((rank, energy))
    return hf, found


def truncated(matrix: Tensor, rank: int) -> tuple[Tensor, float]:
    """The closest matrix of this rank (least squares), and the share of squared singular values in it."""
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    squares = s.double().square()
    return (u[:, :rank] * s[:rank]) @ v[:rank], float(squares[:rank].sum() / squares.sum().clamp(min=1e-300))


def matrices(hf: Any, model: ck.CircuitModel) -> Iterator[nn.Module]:
    """The linear maps inside the blocks of `hf`, which has the model's class."""
    for module in hf.get_submodule(model.architecture.blocks).modules():
        if isinstance(module, nn.Linear | Conv1D):
            yield module
