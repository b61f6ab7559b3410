"""Matrices as the kernels read them: panels of rows, so that neighbouring rows lie in one vector."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def packed(matrix: Tensor, panel: int, pair: int) -> Tensor:
    """(..., N, K) -> (..., N / panel, K / pair, panel, pair), contiguous; N and K are filled up with zeros."""
    matrix = F.pad(matrix, (0, -matrix.shape[-1] % pair, 0, -matrix.shape[-2] % panel))
    return matrix.unflatten(-1, (-1, pair)).unflatten(-3, (-1, panel)).transpose(-3, -2).contiguous()


def alternated(first: Tensor, second: Tensor, rows: int) -> Tensor:
    """Two (N, ...) tensors, filled up to a multiple of `rows`, as one that takes `rows` of each in turn."""
    missing = -len(first) % rows
    parts = [F.pad(part, (*(0, 0) * (part.ndim - 1), 0, missing)).unflatten(0, (-1, rows)) for part in (first, second)]
    return torch.stack(parts, dim=1).flatten(0, 2)
