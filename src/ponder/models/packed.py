"""Attention for training: many sequences packed in one row, so that linear layers never see padding.

Sequences that begin alike may share their beginning: a trunk that is computed once, and branches that each
go on from it. Inside `attend` trunks and branches are gathered into buckets of similar length. Short buckets
materialise their scores, with the query heads of one key-value head as rows of one matrix product; long ones
use torch's fused attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ponder.models.native.attention import Trees, tree_attention
from ponder.models.native.build import Kernels, kernels

MATERIALISE_UP_TO = 384
"""Longest sequence (tokens) whose scores are materialised; above it the fused kernel wins."""
MAX_PADDING = 1.25
"""Longest over shortest sequence of one bucket."""
MAX_BUCKET_TOKENS = 16_384


class PackedLayout:
    """Causal attention over sequences, or trees of sequences, that lie one after another.

    Packed rows hold all trunks in order, then all branches in the order of their trunks.

    Args:
        trunks: Tokens of each trunk; a sequence that shares nothing is a trunk without branches.
        device: Where the tokens are.
        branches: Per trunk, the tokens of each branch, at least 1; omitted when there are none at all.
            Neighbours of similar length and equally many branches make full buckets.
    """

    def __init__(
        self,
        trunks: Sequence[int],
        device: torch.device | str = "cpu",
        branches: Sequence[Sequence[int]] | None = None,
    ) -> None:
        """Remember the sequences; how they are attended to is planned once, when it is known by what."""
        self._trunk_lengths, self._branch_lengths = trunks, branches or [()] * len(trunks)
        self._device = device

    @cached_property
    def _trees(self) -> Trees:
        return Trees(self._trunk_lengths, self._branch_lengths)

    @cached_property
    def _buckets(self) -> tuple[list[_Bucket], list[_Forest]]:
        """Trunks and forests, the same for every layer."""
        trunks, branches, device = self._trunk_lengths, self._branch_lengths, self._device
        starts = [0]
        for length in trunks:
            starts.append(starts[-1] + length)
        buckets = [_Bucket(starts[i], trunks[i:j], device) for i, j in _runs(trunks)]
        forests: list[_Forest] = []
        row = starts[-1]
        for i, j in _forest_runs(trunks, branches):
            leaves = [length for family in branches[i:j] for length in family]
            forest = _Forest(_Bucket(starts[i], trunks[i:j], device), _Bucket(row, leaves, device))
            forests.append(forest)
            row += sum(leaves)
        return buckets, forests

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
        if softcap is None and (native := self._native(rows[0])) is not None:
            return tree_attention(native, self._trees, rows[0], rows[1], rows[2], scaling, sliding_window)[None]
        outputs: list[Tensor] = []
        buckets, forests = self._buckets
        for bucket in buckets:
            q, k, v = (bucket.gather(tensor).transpose(1, 2) for tensor in rows)
            out = causal_attention(q, k, v, scaling, sliding_window, softcap)
            outputs.append(bucket.scatter(out.transpose(1, 2)))
        for forest in forests:
            outputs.append(forest.attend(rows[0], rows[1], rows[2], scaling, sliding_window, softcap))
        return (outputs[0] if len(outputs) == 1 else torch.cat(outputs))[None]

    def _native(self, query: Tensor) -> Kernels | None:
        """The kernels for queries (T, heads, head_dim), where there are any."""
        return native_attention(query.shape[2], query.dtype, query.device)


def native_attention(head_dim: int, dtype: torch.dtype, device: torch.device) -> Kernels | None:
    """The kernels that attend with such heads, where there are any."""
    if device.type != "cpu" or dtype not in (torch.float32, torch.bfloat16):
        return None
    found = kernels(dtype == torch.bfloat16)
    return found if found is not None and head_dim % found.panel == 0 else None


class _Bucket:
    """Neighbouring sequences of similar length: the way from packed rows to a padded (B, L) grid and back."""

    def __init__(self, start: int, lengths: Sequence[int], device: torch.device | str) -> None:
        self.count, self.length = len(lengths), max(lengths)
        self.span = slice(start, start + sum(lengths))
        self.uniform = min(lengths) == self.length
        sizes = torch.tensor(lengths)
        steps = torch.arange(self.length)
        self.real = (steps < sizes[:, None]).to(device)  # (B, L)
        if not self.uniform:
            begins = sizes.cumsum(0) - sizes
            # Padding repeats the last token of its own sequence: no query that is kept ever sees it.
            self.index = (begins[:, None] + torch.minimum(steps, sizes[:, None] - 1)).flatten().to(device)
            self.inverse = self.real.flatten().nonzero()[:, 0]

    def gather(self, packed: Tensor) -> Tensor:
        """(T, heads, head_dim) -> (B, L, heads, head_dim)."""
        mine = packed[self.span]
        if not self.uniform:
            mine = _Regroup.apply(mine, self.index, self.inverse)
        return mine.reshape(self.count, self.length, *packed.shape[1:])

    def scatter(self, padded: Tensor) -> Tensor:
        """(B, L, heads, head_dim) -> the bucket's (tokens, heads, head_dim)."""
        flat = padded.reshape(self.count * self.length, *padded.shape[2:])
        return flat if self.uniform else _Regroup.apply(flat, self.inverse, self.index, self.real.flatten())


class _Forest:
    """Trees with equally many branches: every branch attends to its trunk and to itself.

    Axes: N trees, K key-value heads, G branches of a tree, R query heads of a key-value head, P trunk tokens,
    S branch tokens.
    """

    def __init__(self, trunk: _Bucket, leaf: _Bucket) -> None:
        self.trunk, self.leaf = trunk, leaf
        self._masks: dict[int | None, Tensor] = {}

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float,
        sliding_window: int | None,
        softcap: float | None,
    ) -> Tensor:
        """(T, heads, head_dim) each -> the branches' (tokens, heads, head_dim)."""
        n, p, s, kv = self.trunk.count, self.trunk.length, self.leaf.length, key.shape[1]
        g, r, d = self.leaf.count // n, query.shape[1] // kv, query.shape[2]
        q = self.leaf.gather(query).view(n, g, s, kv, r, d).permute(0, 3, 1, 4, 2, 5)  # (N, K, G, R, S, D)
        k, v = (self.leaf.gather(t).view(n, g, s, kv, d).permute(0, 3, 1, 2, 4) for t in (key, value))
        trunk_k, trunk_v = (self.trunk.gather(t).transpose(1, 2) for t in (key, value))  # (N, K, P, D)
        on_trunk = q.reshape(n, kv, g * r * s, d) @ trunk_k.mT
        on_self = q.reshape(n, kv, g, r * s, d) @ k.mT
        scores = torch.cat((on_trunk.view(n, kv, g, r, s, p), on_self.view(n, kv, g, r, s, s)), dim=-1)
        weights = _softmax(scores, self._mask(sliding_window, scores.dtype), scaling, softcap)
        out = (weights[..., :p].reshape(n, kv, g * r * s, p) @ trunk_v).view(n, kv, g, r, s, d)
        out = out + (weights[..., p:].reshape(n, kv, g, r * s, s) @ v).view(n, kv, g, r, s, d)
        return self.leaf.scatter(out.permute(0, 2, 4, 1, 3, 5).reshape(n * g, s, kv * r, d))

    def _mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """(N, 1, 1, 1, S, P + S): 0 where a branch's query may look, else -inf; made once for all layers."""
        if window not in self._masks:
            n, p, s = self.trunk.count, self.trunk.length, self.leaf.length
            real = self.trunk.real[:, None, :].expand(n, s, p)
            if window is not None:
                sizes = self.trunk.real.sum(1)[:, None, None]
                steps, keys = (torch.arange(size, device=real.device) for size in (s, p))
                real = real & (sizes + steps[:, None] - keys < window)
            own = _seen(s, window, real.device).expand(n, s, s)
            self._masks[window] = _additive(torch.cat((real, own), dim=-1), dtype)[:, None, None, None]
        return self._masks[window]


class _Regroup(torch.autograd.Function):
    """A gather whose backward pass is a gather too.

    Between packed rows and a padded grid that is exact both ways: padded places never receive a gradient, and
    `real` clears the places of a gradient that padding would otherwise fill.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, rows: Tensor, index: Tensor, inverse: Tensor, real: Tensor | None = None
    ) -> Tensor:
        """`rows[index]`; `inverse` leads back."""
        ctx.save_for_backward(inverse, real)
        return rows[index]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gather back."""
        inverse, real = ctx.saved_tensors
        back = grad[inverse]
        if real is not None:
            back *= real[:, None, None]
        return back, None, None, None


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
        mask = None if window is None else _seen(length, window, query.device)
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=True
        )
    batch, heads, _, width = query.shape
    # The query heads of one key-value head lie under each other: one product serves them all.
    stacked = query.reshape(batch, key.shape[1], -1, width)
    scores = (stacked @ key.mT).unflatten(2, (-1, length))
    weights = _softmax(scores, _mask(length, window, query.device, scores.dtype), scaling, softcap)
    return (weights.flatten(2, 3) @ value).view(batch, heads, length, width)


def _softmax(scores: Tensor, mask: Tensor, scaling: float, softcap: float | None) -> Tensor:
    """Attention weights of raw scores, under a mask that is added."""
    if softcap is not None:
        scores = softcap * torch.tanh(scores * (scaling / softcap))
        scaling = 1.0
    return torch.add(mask, scores, alpha=scaling).softmax(-1)


@cache
def _mask(length: int, window: int | None, device: torch.device, dtype: torch.dtype) -> Tensor:
    return _additive(_seen(length, window, device), dtype)


def _seen(length: int, window: int | None, device: torch.device) -> Tensor:
    """(L, L): which keys (columns) a query (row) may see."""
    seen = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return seen if window is None else seen.triu(1 - window)


def _additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, float("-inf"))


def _runs(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Cut neighbours of similar length into buckets: (first, behind the last)."""
    first = 0
    for last in range(1, len(lengths) + 1):
        sizes = lengths[first : last + 1]
        full = max(sizes) > MAX_PADDING * min(sizes) or max(sizes) * len(sizes) > MAX_BUCKET_TOKENS
        if last == len(lengths) or full:
            yield first, last
            first = last


def _forest_runs(trunks: Sequence[int], branches: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    """Cut neighbouring trees with equally many branches into forests: (first, behind the last)."""
    first = 0
    for last in range(1, len(trunks) + 1):
        counts = {len(family) for family in branches[first : last + 1]}
        sizes = trunks[first : last + 1]
        padded = max((n for family in branches[first : last + 1] for n in family), default=0) + max(sizes)
        full = (
            len(counts) > 1
            or max(sizes) > MAX_PADDING * min(sizes)
            or padded * len(sizes) * max(counts) > MAX_BUCKET_TOKENS
        )
        if last == len(trunks) or full:
            if branches[first]:
                yield first, last
            first = last
