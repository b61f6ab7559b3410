"""The operations between a layer's products by the native kernels, forward and backward; see `layers.c`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ponder.models.native.build import Kernels, kernels
from ponder.models.native.calling import call
from ponder.models.native.linear import linear
from ponder.models.projection import Projection


def native_operations(states: Tensor, dtype: torch.dtype, widths: tuple[int, ...], head_dim: int) -> Native | None:
    """The native operations for states of a device, products in `dtype` and these sizes, where there are any.

    Args:
        states: Whose device counts.
        dtype: Of the products.
        widths: Of everything that is read in whole panels.
        head_dim: Whose halves are read in whole vectors.
    """
    if states.device.type != "cpu" or dtype not in (torch.float32, torch.bfloat16):
        return None
    found = kernels(dtype == torch.bfloat16)
    if found is None or head_dim % (2 * found.lanes) or any(width % found.panel for width in widths):
        return None
    return Native(found)


@dataclass(frozen=True, slots=True)
class Native:
    """`ponder.models.operations.Operations`; states between layers are float32, products as the kernels'."""

    kernels: Kernels

    def linear(self, rows: Tensor, projection: Projection) -> Tensor:
        """See `Operations.linear`."""
        return linear(projection.panels(self.kernels), rows, self.kernels.dtype)

    def norm(
        self, states: Tensor, change: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """See `Operations.norm`."""
        return _Norm.apply(self.kernels, states.float(), change, weight, eps, dtype)  # type: ignore[no-any-return]

    def heads(
        self,
        joined: Tensor,
        norm: Tensor | None,
        angles: tuple[Tensor, Tensor],
        query_heads: int,
        key_heads: int,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `Operations.heads`."""
        return _Heads.apply(self.kernels, joined, norm, *angles, query_heads, key_heads, eps)  # type: ignore[no-any-return]

    def gated(self, both: Tensor) -> Tensor:
        """See `Operations.gated`."""
        return _Gated.apply(self.kernels, both)  # type: ignore[no-any-return]


class _Norm(torch.autograd.Function):
    """Residual and RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4) in one."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        kernels: Kernels,
        states: Tensor,
        change: Tensor | None,
        weight: Tensor,
        eps: float,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """(T, width) to the sum and the normed sum, (T, width) each."""
        rows, width = states.shape
        total = states if change is None else torch.empty_like(states)
        normed, inverse = torch.empty_like(states, dtype=dtype), states.new_empty(rows)
        exact = weight.float().contiguous()
        call(kernels, "norm_forward", states.contiguous(), None if change is None else change.contiguous(), exact,
             rows, width, eps, total, normed, inverse, torch.get_num_threads())  # fmt: skip
        ctx.kernels, ctx.changed, ctx.dtypes = kernels, change is not None, (dtype, weight.dtype)
        ctx.save_for_backward(total, exact, inverse)
        ctx.set_materialize_grads(False)
        return total, normed

    @staticmethod
    def backward(ctx: Any, later: Tensor | None, grad: Tensor | None) -> tuple[Any, ...]:  # type: ignore[override]
        """See `norm_backward` in C."""
        total, weight, inverse = ctx.saved_tensors
        (rows, width), threads = total.shape, torch.get_num_threads()
        dtype, weight_dtype = ctx.dtypes
        grad = torch.zeros_like(total, dtype=dtype) if grad is None else grad.contiguous()
        down = torch.empty_like(total)
        changed = torch.empty_like(total, dtype=dtype) if ctx.changed else None
        weight_grad, parts = torch.zeros_like(weight), weight.new_zeros(threads, width)
        call(ctx.kernels, "norm_backward", grad, None if later is None else later.contiguous(), total, weight, inverse,
             rows, width, down, changed, weight_grad, parts, threads)  # fmt: skip
        return None, down, changed, weight_grad.to(weight_dtype), None, None


class _Heads(torch.autograd.Function):
    """Norm of heads and rotary positions (Su et al. 2021, arXiv:2104.09864, eq. 34), halves paired, in one."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        kernels: Kernels,
        joined: Tensor,
        norm: Tensor | None,
        cos: Tensor,
        sin: Tensor,
        query_heads: int,
        key_heads: int,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(T, query + 2 key heads, dim) to queries, keys and values, (T, heads, dim) each."""
        rows, _, dim = joined.shape
        exact = None if norm is None else norm.float().contiguous()
        joined, cos, sin = joined.contiguous(), cos.float().contiguous(), sin.float().contiguous()
        query = joined.new_empty(rows, query_heads, dim)
        key, value = (joined.new_empty(rows, key_heads, dim) for _ in range(2))
        inverse = cos.new_empty(rows, query_heads + key_heads)
        call(kernels, "heads_forward", joined, exact, cos, sin, rows, query_heads, key_heads, dim, eps,
             query, key, value, inverse, torch.get_num_threads())  # fmt: skip
        ctx.kernels, ctx.norm_dtype = kernels, None if norm is None else norm.dtype
        ctx.save_for_backward(joined, exact, cos, sin, inverse)
        return query, key, value

    @staticmethod
    def backward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        """See `heads_backward` in C."""
        joined, norm, cos, sin, inverse = ctx.saved_tensors
        threads, (rows, _, dim) = torch.get_num_threads(), joined.shape
        down = torch.empty_like(joined)
        norm_grad = None if norm is None else torch.zeros_like(norm)
        parts = None if norm is None else norm.new_zeros(threads, *norm.shape)
        call(ctx.kernels, "heads_backward", query.contiguous(), key.contiguous(), value.contiguous(), joined, norm,
             cos, sin, inverse, rows, query.shape[1], key.shape[1], dim, down, norm_grad, parts, threads)  # fmt: skip
        return None, down, None if norm_grad is None else norm_grad.to(ctx.norm_dtype), None, None, None, None, None


class _Gated(torch.autograd.Function):
    """SwiGLU's product (Shazeer 2020, arXiv:2002.05202, eq. 6)."""

    @staticmethod
    def forward(ctx: Any, kernels: Kernels, both: Tensor) -> Tensor:  # type: ignore[override]
        """(T, 2 inner) to (T, inner)."""
        both = both.contiguous()
        rows, inner = both.shape[0], both.shape[1] // 2
        output = both.new_empty(rows, inner)
        call(kernels, "gated_forward", both, rows, inner, output, torch.get_num_threads())
        ctx.kernels = kernels
        ctx.save_for_backward(both)
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:  # type: ignore[override]
        """See `gated_backward` in C."""
        (both,) = ctx.saved_tensors
        down = torch.empty_like(both)
        call(ctx.kernels, "gated_backward", grad.contiguous(), both, len(both), both.shape[1] // 2, down,
             torch.get_num_threads())  # fmt: skip
        return None, down
