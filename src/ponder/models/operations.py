"""What a Llama-shaped layer does beside attention, by torch: the reference of the native kernels.

Between products everything is computed in float32 and converted at its ends.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ponder.models.projection import Projection


class Operations(Protocol):
    """A layer's products, and the three operations between them."""

    def linear(self, rows: Tensor, projection: Projection) -> Tensor:
        """Rows (T, in) to (T, out)."""
        ...

    def norm(
        self, states: Tensor, change: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """States (T, width) plus a change (T, width), and that sum normalised (T, width) in `dtype`."""
        ...

    def heads(
        self,
        joined: Tensor,
        norm: Tensor | None,
        angles: tuple[Tensor, Tensor],
        query_heads: int,
        key_heads: int,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys (both normalised where `norm` is there, and turned) and values, (T, heads, dim) each.

        Args:
            joined: (T, query + 2 key heads, dim).
            norm: (query + key heads, dim) of models that normalise heads.
            angles: Cosine and sine (T, dim) of the tokens' positions, the sine negative in its first half.
            query_heads: Of all heads.
            key_heads: As many keys as values.
            eps: Of the norm.
        """
        ...

    def gated(self, both: Tensor) -> Tensor:
        """(T, 2 inner), gates in front, to silu(gate) * up, (T, inner)."""
        ...


class TorchOperations:
    """`Operations` on any device and in any dtype."""

    def linear(self, rows: Tensor, projection: Projection) -> Tensor:
        """See `Operations.linear`."""
        return F.linear(rows, projection.weight, projection.bias)

    def norm(
        self, states: Tensor, change: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """See `Operations.norm`."""
        if change is not None:
            change = change.to(states.dtype)
            states = states + change if torch.is_grad_enabled() else change.add_(states)
        return states, normed(states, weight, eps, dtype)

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
        turned, value = joined.split((query_heads + key_heads, key_heads), dim=1)
        if norm is not None:
            turned = normed(turned, norm, eps, torch.float32)
        cos, sin = (part[:, None] for part in angles)
        query, key = _rotated(turned, cos, sin, joined.dtype).split((query_heads, key_heads), dim=1)
        return query, key, value

    def gated(self, both: Tensor) -> Tensor:
        """See `Operations.gated`."""
        gate, up = both.chunk(2, dim=-1)
        return F.silu(gate) * up


def normed(states: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """States (..., width) over their root mean square, times a weight that has the last axis or the last two."""
    if torch.is_grad_enabled():
        return _RootMeanSquare.apply(states, weight, eps, dtype)  # type: ignore[no-any-return]
    states = states.float()
    return (states * _inverse_size(states, eps)).mul_(weight.float()).to(dtype)


def _inverse_size(states: Tensor, eps: float) -> Tensor:
    """(..., 1): 1 over the root mean square of the last axis."""
    size = torch.linalg.vector_norm(states, dim=-1, keepdim=True)
    return torch.addcmul(size.new_tensor(eps), size, size, value=1 / states.shape[-1]).rsqrt_()


class _RootMeanSquare(torch.autograd.Function):
    """RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4), computed in float32, with its gradient in one piece.

    The weight is (width,) or has the last two axes of the states.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:  # type: ignore[override]
        """States (..., width) to the same shape, in `dtype`."""
        exact = states.float()
        inverse = _inverse_size(exact, eps)
        ctx.save_for_backward(states, weight, inverse)
        return (exact * inverse).mul_(weight.float()).to(dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        """With n = x / rms(x): dx = (g w - n mean(g w n)) / rms(x), dw = sum of g n."""
        states, weight, inverse = ctx.saved_tensors
        unit, grad = states.float() * inverse, grad.float()
        inner = grad * weight.float()
        along = torch.linalg.vecdot(inner, unit).mul_(-1 / unit.shape[-1])[..., None]
        down = torch.addcmul(inner, unit, along).mul_(inverse)
        rows = unit.mul_(grad).flatten(0, unit.ndim - weight.ndim - 1)
        return down.to(states.dtype), rows.sum(0).to(weight.dtype), None, None


def _rotated(heads: Tensor, cos: Tensor, sin: Tensor, dtype: torch.dtype) -> Tensor:
    if torch.is_grad_enabled():
        return _Rotation.apply(heads, cos, sin, dtype)  # type: ignore[no-any-return]
    return _turned(heads.float(), cos, sin, 1).to(dtype)


class _Rotation(torch.autograd.Function):
    """Rotary positions (Su et al. 2021, arXiv:2104.09864, eq. 34), halves paired; its gradient turns back."""

    @staticmethod
    def forward(ctx: Any, heads: Tensor, cos: Tensor, sin: Tensor, dtype: torch.dtype) -> Tensor:  # type: ignore[override]
        """(T, heads, dim) by angles (T, 1, dim), the sine negative in its first half, to `dtype`."""
        ctx.save_for_backward(cos, sin)
        ctx.given = heads.dtype
        return _turned(heads.float(), cos, sin, 1).to(dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        """The inverse rotation."""
        cos, sin = ctx.saved_tensors
        return _turned(grad.float(), cos, sin, -1).to(ctx.given), None, None, None


def _turned(heads: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    return (heads * cos).addcmul_(heads.roll(heads.shape[-1] // 2, -1), sin, value=sign)
