"""Keys and values of a cohort at one layer: prompts stored once per group, and one suffix per sample.

Groups that enter the batch together form a cohort, so their samples always have suffixes of equal length: no
suffix is padded, and a sliding window is a slice. Prompts are padded at their left for the same reason. The scores
over a prompt are one matrix product for all samples of its group; one softmax then covers prompt and suffix.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 32
"""Tokens by which suffixes grow."""
HIDDEN = -1e30
"""Score of a padded place: finite, so that a row that sees nothing has weight 0 and not NaN."""


class Scores(NamedTuple):
    """How the model wants its scores made."""

    scaling: float
    window: int | None
    softcap: float | None


class Grid:
    """Where the samples of each group sit, as a rectangle (groups, width) of rows of the batch.

    `order` (n,) lists the rows group after group, and `starts` (groups + 1,) says where each group begins in it.

    Args:
        owners: (n,) group of each row, int64 on the CPU.
        groups: Number of groups.
        device: Of the model.
    """

    def __init__(self, owners: Tensor, groups: int, device: torch.device) -> None:
        """Plan it once; it holds for all layers until a row leaves."""
        count = len(owners)
        order = owners.argsort(stable=True)
        sizes = owners.bincount(minlength=groups)
        self.order, self.starts = order, torch.cat((torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)))
        place = torch.empty_like(owners)
        place[order] = torch.arange(count) - self.starts[:-1].repeat_interleave(sizes)
        self.groups, self.width = groups, int(sizes.max())
        cells = owners * self.width + place
        self._whole = count == groups * self.width and bool((cells == torch.arange(count)).all())
        rows = torch.zeros(groups * self.width, dtype=torch.int64)
        rows[cells] = torch.arange(count)
        self._rows, self._cells = rows.to(device), cells.to(device)

    def spread(self, rows: Tensor) -> Tensor:
        """(n, key heads, R, d) -> (groups * key heads, width * R, d): a group's queries under each other."""
        cells = rows if self._whole else rows[self._rows]
        _, heads, stack, dim = rows.shape
        cells = cells.view(self.groups, self.width, heads, stack, dim).transpose(1, 2)
        return cells.reshape(self.groups * heads, self.width * stack, dim)

    def gather(self, cells: Tensor, heads: int) -> Tensor:
        """(groups * heads, width * R, d) -> (n * heads, R, d), the inverse of `spread`."""
        dim = cells.shape[-1]
        cells = cells.view(self.groups, heads, self.width, -1, dim).transpose(1, 2)
        cells = cells.reshape(self.groups * self.width, heads, -1, dim)
        rows = cells if self._whole else cells[self._cells]
        return rows.flatten(0, 1)


class LayerCache:
    """One layer's keys and values of a cohort.

    Args:
        groups: Prompts.
        rows: Samples of all groups.
        prefix: Tokens of the longest prompt.
        keys: Any key tensor of this layer, (1, heads, T, dim), for its sizes.
        values: The same for values.
        dtype: Of the cache.
    """

    def __init__(self, groups: int, rows: int, prefix: int, keys: Tensor, values: Tensor, dtype: torch.dtype) -> None:
        """Make room for the prompts and the first block of suffixes."""
        self.heads = keys.shape[1]
        self.prefix_keys, self.prefix_values = (
            torch.zeros(groups, self.heads, prefix, t.shape[-1], dtype=dtype, device=t.device) for t in (keys, values)
        )
        self.suffix_keys, self.suffix_values = (  # zeros: places that are still free are read, with weight 0
            torch.zeros(rows, self.heads, BLOCK, t.shape[-1], dtype=dtype, device=t.device) for t in (keys, values)
        )
        self._whole = dtype != torch.float32
        """Low precision products copy what is not contiguous, so they read free places too and hide them."""

    @property
    def token_bytes(self) -> int:
        """Of a token's keys and values."""
        return sum(t[0, :, 0].numel() * t.element_size() for t in (self.prefix_keys, self.prefix_values))

    def store_prompts(self, groups: slice, index: Tensor, real: Tensor, keys: Tensor, values: Tensor) -> None:
        """Copy packed prompts into their left-padded places.

        Args:
            groups: Which prompts of the cohort.
            index: (groups, prefix) packed position of each place.
            real: (groups, 1, prefix, 1) False at padding, which stays zero.
            keys: (1, heads, T, dim) packed.
            values: (1, heads, T, dim) packed.
        """
        for cache, packed in ((self.prefix_keys, keys), (self.prefix_values, values)):
            cache[groups] = packed[0][:, index].transpose(0, 1) * real

    def append(self, keys: Tensor, values: Tensor, length: int) -> None:
        """Store (n, heads, dim) as the suffixes' entry `length - 1`."""
        self.suffix_keys[: len(keys), :, length - 1] = keys
        self.suffix_values[: len(keys), :, length - 1] = values

    def attend(self, query: Tensor, length: int, grid: Grid, padding: Tensor | None, scores: Scores) -> Tensor:
        """Attention of the newest tokens.

        Args:
            query: (n, query heads, dim) of the tokens that were appended last.
            length: Suffix length, those tokens included.
            grid: Where the rows' groups are.
            padding: (groups, 1, 1, prefix) 0 or `HIDDEN`; None when all prompts are equally long.
            scores: How the model wants its scores made.

        Returns:
            (n, query heads, value dim).
        """
        rows, heads, dim = query.shape
        if scores.scaling != 1.0:
            query = query * scores.scaling
        stacked = query.to(self.suffix_keys.dtype).view(rows, self.heads, -1, dim)
        begin = 0 if scores.window is None else max(0, length - scores.window)
        end = self.suffix_keys.shape[2] if self._whole else length
        keys, values = (t[:rows, :, begin:end].flatten(0, 1) for t in (self.suffix_keys, self.suffix_values))
        own = _scores(stacked.flatten(0, 1), keys, scores.softcap)
        if end > length:
            own[..., length - end :].fill_(HIDDEN)
        prefix = self.prefix_keys.shape[2]
        begin = 0 if scores.window is None else max(0, prefix + length - scores.window)
        if begin >= prefix:
            return torch.bmm(own.softmax(-1).to(values.dtype), values).view(rows, heads, -1)
        keys, shared_values = (t[:, :, begin:].flatten(0, 1) for t in (self.prefix_keys, self.prefix_values))
        shared = _scores(grid.spread(stacked), keys, scores.softcap)
        if padding is not None:
            shared.view(len(padding), -1, *shared.shape[1:]).add_(padding[..., begin:])
        weights = torch.cat((grid.gather(shared, self.heads), own), dim=-1).softmax(-1).to(values.dtype)
        on_prompt = weights[..., : prefix - begin].unflatten(0, (rows, self.heads))
        output = torch.bmm(weights[..., prefix - begin :], values)
        output += grid.gather(torch.bmm(grid.spread(on_prompt), shared_values), self.heads)
        return output.view(rows, heads, -1)

    def resize(self, rows: int, length: int) -> None:
        """Keep `length` entries of the first `rows` suffixes, with room for one more block."""
        for name in ("suffix_keys", "suffix_values"):
            setattr(self, name, resized(getattr(self, name), rows, length, axis=2))

    def move_rows(self, holes: Tensor, movers: Tensor, length: int) -> None:
        """Overwrite finished suffixes with living ones from the end."""
        for suffix in (self.suffix_keys, self.suffix_values):
            suffix[holes, :, :length] = suffix[movers, :, :length]

    def keep_groups(self, groups: Tensor) -> None:
        """Forget the prompts of all other groups."""
        self.prefix_keys, self.prefix_values = self.prefix_keys[groups], self.prefix_values[groups]


def resized(old: Tensor, rows: int, length: int, axis: int) -> Tensor:
    """A copy of the first `rows` rows and `length` entries along `axis`, up to the end of its block."""
    new = old.new_zeros((rows, *old.shape[1:axis], (length // BLOCK + 1) * BLOCK, *old.shape[axis + 1 :]))
    new.narrow(axis, 0, length).copy_(old[:rows].narrow(axis, 0, length))
    return new


def _scores(query: Tensor, keys: Tensor, softcap: float | None) -> Tensor:
    """(batch, M, S) float32 scores of scaled queries (batch, M, d) against keys (batch, S, d)."""
    scores = torch.bmm(query, keys.transpose(1, 2))
    if softcap is not None:
        scores = scores.div_(softcap).tanh_().mul_(softcap)
    return scores.float()
