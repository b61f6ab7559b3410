"""Causal attention of packed sequences and trees by the native kernels, forward and backward; see `attention.c`."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_float, c_int64, c_void_p
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ponder.models.native.build import Kernels


class _Attention(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("query", "key", "value")),
        *((name, c_int64) for name in ("query_heads", "key_heads", "dim")),
        ("scaling", c_float),
        ("window", c_int64),
        ("trees", c_int64),
        *((name, c_void_p) for name in ("trunks", "trunk_starts", "families", "branches", "branch_starts")),
        ("scratch", c_void_p),
        ("scratch_bytes", c_int64),
    ]


class Trees:
    """Where the tokens of each tree lie in packed rows: all trunks first, then all branches.

    Args:
        trunks: Tokens of each trunk.
        branches: Per trunk, the tokens of each of its branches.
    """

    def __init__(self, trunks: Sequence[int], branches: Sequence[Sequence[int]]) -> None:
        """Plan once; the same for every layer."""
        lengths = [length for family in branches for length in family]
        starts = list(accumulate([*trunks, *lengths], initial=0))
        families = list(accumulate((len(family) for family in branches), initial=0))
        self.count = len(trunks)
        self.longest = max(trunk + max(family, default=0) for trunk, family in zip(trunks, branches, strict=True))
        self.numbers = {
            "trunks": torch.tensor(trunks),
            "trunk_starts": torch.tensor(starts[: len(trunks)]),
            "families": torch.tensor(families),
            "branches": torch.tensor(lengths, dtype=torch.int64),
            "branch_starts": torch.tensor(starts[len(trunks) : -1], dtype=torch.int64),
        }


def tree_attention(
    kernels: Kernels, trees: Trees, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None
) -> Tensor:
    """Attention (T, query heads, dim) of packed queries, keys and values, (T, heads, dim) each."""
    return _TreeAttention.apply(kernels, trees, query, key, value, scaling, window or 0)  # type: ignore[no-any-return]


class _TreeAttention(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        kernels: Kernels,
        trees: Trees,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float,
        window: int,
    ) -> Tensor:
        query, key, value = (tensor.contiguous() for tensor in (query, key, value))
        output, sums = torch.empty_like(query), query.new_empty(query.shape[:2], dtype=torch.float32)
        plan, _scratch = _plan(kernels, trees, query, key, value, scaling, window)
        kernels.functions.attention_forward(
            ctypes.byref(plan), *(c_void_p(t.data_ptr()) for t in (output, sums)), c_int64(torch.get_num_threads())
        )
        ctx.given = kernels, trees, scaling, window
        ctx.save_for_backward(query, key, value, output, sums)
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        kernels, trees, scaling, window = ctx.given
        query, key, value, output, sums = ctx.saved_tensors
        grad = grad.contiguous()
        down = [torch.empty_like(tensor) for tensor in (query, key, value)]
        plan, _scratch = _plan(kernels, trees, query, key, value, scaling, window)
        kernels.functions.attention_backward(
            ctypes.byref(plan),
            *(c_void_p(tensor.data_ptr()) for tensor in (output, grad, sums, *down)),
            c_int64(torch.get_num_threads()),
        )
        return None, None, *down, None, None


def _plan(
    kernels: Kernels, trees: Trees, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int
) -> tuple[_Attention, Tensor]:
    """The kernel's description of the work, and its scratch, which has to outlive the call."""
    _, query_heads, dim = query.shape
    size = kernels.functions.attention_scratch(c_int64(dim), c_int64(trees.longest))
    scratch = torch.empty(size * torch.get_num_threads(), dtype=torch.uint8)
    numbers = {name: tensor.data_ptr() for name, tensor in trees.numbers.items()}
    plan = _Attention(
        query.data_ptr(), key.data_ptr(), value.data_ptr(), query_heads, key.shape[1], dim, scaling, window,
        trees.count, **numbers, scratch=scratch.data_ptr(), scratch_bytes=size,
    )  # fmt: skip
    return plan, scratch
