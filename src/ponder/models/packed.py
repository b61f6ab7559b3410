"""Attention for training: many sequences packed in one row, so that linear layers never see padding.

Inside `attend` the sequences are gathered into buckets of similar length. Short buckets materialise their
scores, with the query heads of one key-value head as rows of one matrix product; long ones use torch's fused
attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MATERIALISE_UP_TO = 384
"""Longest bucket (tokens) whose scores are materialised; above it the fused kernel wins."""
MAX_PADDING = 1.25
"""Longest over shortest sequence of one bucket."""
MAX_BUCKET_TOKENS = 16_384


class PackedLayout:
    """Block-diagonal causal attention over sequences that lie one after another.

    Args:
        lengths: Tokens of each sequence as they are packed; longest first makes full buckets.
        device: Where the tokens are.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device | str = "cpu") -> None:
        """Plan the buckets; they are the same for every layer."""
        self._buckets = [_Bucket(start, sizes, device) for start, sizes in _plan(lengths)]

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scaling: float,
        sliding_window: int | None,
        softcap: float | None,
    ) -> Tensor:
        """See `ponder.models.attention.Layout`."""
        rows = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]  # (T, heads, head_dim)
        outputs = []
        for bucket in self._buckets:
            q, k, v = (bucket.gather(tensor).transpose(1, 2) for tensor in rows)
            out = causal_attention(q, k, v, scaling, sliding_window, softcap)
            outputs.append(bucket.scatter(out.transpose(1, 2)))
        return (outputs[0] if len(outputs) == 1 else torch.cat(outputs))[None]


class _Bucket:
    """Neighbouring sequences of similar length: the way from packed rows to a padded (B, L) grid and back."""

    def __init__(self, start: int, lengths: Sequence[int], device: torch.device | str) -> None:
        self.count, self.length = len(lengths), max(lengths)
        self.span = slice(start, start + sum(lengths))
        self.uniform = min(lengths) == self.length
        if not self.uniform:
            sizes = torch.tensor(lengths)
            steps = torch.arange(self.length)
            real = steps < sizes[:, None]
            begins = sizes.cumsum(0) - sizes
            # Padding repeats the last token of its own sequence: no query that is kept ever sees it.
            self.index = (begins[:, None] + torch.minimum(steps, sizes[:, None] - 1)).flatten().to(device)
            self.inverse = real.flatten().nonzero()[:, 0].to(device)

    def gather(self, packed: Tensor) -> Tensor:
        """(T, heads, head_dim) -> (B, L, heads, head_dim)."""
        mine = packed[self.span]
        if not self.uniform:
            mine = _Regroup.apply(mine, self.index, self.inverse)
        return mine.reshape(self.count, self.length, *packed.shape[1:])

    def scatter(self, padded: Tensor) -> Tensor:
        """(B, L, heads, head_dim) -> the bucket's (tokens, heads, head_dim)."""
        flat = padded.reshape(self.count * self.length, *padded.shape[2:])
        return flat if self.uniform else flat[self.inverse]


class _Regroup(torch.autograd.Function):
    """A gather whose backward pass is a gather too, because padded places never receive a gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, inverse: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(inverse)
        return rows[index]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return grad[ctx.saved_tensors[0]], None, None


def causal_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float,
    sliding_window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Causal attention of a padded batch, (B, heads, L, head_dim), with grouped key-value heads."""
    length = query.shape[2]
    window = sliding_window if sliding_window is not None and sliding_window < length else None
    if softcap is None and (length > MATERIALISE_UP_TO or query.is_cuda):
        mask = None if window is None else _mask(length, window, query.device, torch.bool)
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=True
        )
    batch, heads, _, width = query.shape
    # The query heads of one key-value head lie under each other: one product serves them all.
    stacked = query.reshape(batch, key.shape[1], -1, width)
    scores = (stacked @ key.transpose(2, 3)).unflatten(2, (-1, length))
    if softcap is not None:
        scores = softcap * torch.tanh(scores * (scaling / softcap))
        scaling = 1.0
    scores = torch.add(_mask(length, window, query.device, scores.dtype), scores, alpha=scaling)
    return (scores.softmax(-1).flatten(2, 3) @ value).view(batch, heads, length, width)


@cache
def _mask(length: int, window: int | None, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(L, L): what a query (row) may see, as booleans or as 0 and -inf to be added."""
    seen = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    if window is not None:
        seen = seen.triu(1 - window)
    if dtype == torch.bool:
        return seen
    return torch.zeros(length, length, dtype=dtype, device=device).masked_fill(~seen, float("-inf"))


def _plan(lengths: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Cut neighbours of similar length into buckets: (first packed row, lengths)."""
    start, bucket = 0, []
    for length in lengths:
        sizes = [*bucket, length]
        if bucket and (max(sizes) > MAX_PADDING * min(sizes) or max(sizes) * len(sizes) > MAX_BUCKET_TOKENS):
            yield start, bucket
            start, bucket = start + sum(bucket), []
        bucket.append(length)
    if bucket:
        yield start, bucket
