"""Keys and values of a cohort at one layer as the native kernels read them; see `ponder.models.native.packing`.

Unlike the caches of the torch path, prompts are padded at their end and what is hidden is never looked at.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ponder.engines._caches import BLOCK
from ponder.models.native.build import Kernels
from ponder.models.native.packing import packed


def grown(tokens: int) -> int:
    """Places for a suffix of so many tokens.

    Free places are never read, so long suffixes get a quarter more than they need: else they would be copied too often.
    """
    blocks = -(-tokens // BLOCK)
    return (blocks + blocks // 4) * BLOCK


class NativeCache:
    """One layer's keys and values of a cohort.

    Args:
        groups: Prompts.
        rows: Samples of all groups.
        prefix: Tokens of the longest prompt.
        keys: Any key tensor of this layer, (1, heads, T, dim), for its sizes.
        kernels: Which read it.
    """

    def __init__(self, groups: int, rows: int, prefix: int, keys: Tensor, kernels: Kernels) -> None:
        """Make room for the prompts and the first block of suffixes."""
        _, heads, _, dim = keys.shape
        self._panel, self._pair = kernels.panel, kernels.pair
        self.dtype = kernels.dtype
        places = prefix + -prefix % self._panel
        self.prefix_keys, self.prefix_values = self._room(groups, heads, places, dim)
        self.suffix_keys, self.suffix_values = self._room(rows, heads, BLOCK, dim)

    def _room(self, rows: int, heads: int, places: int, dim: int) -> tuple[Tensor, Tensor]:
        tail = (self._panel, self._pair)
        keys = torch.zeros(rows, heads, places // self._panel, dim // self._pair, *tail, dtype=self.dtype)
        values = torch.zeros(rows, heads, dim // self._panel, places // self._pair, *tail, dtype=self.dtype)
        return keys, values

    @property
    def token_bytes(self) -> int:
        """Of a token's keys and values."""
        _, heads, _, pairs, _, pair = self.prefix_keys.shape
        return 2 * heads * pairs * pair * self.prefix_keys.element_size()

    @property
    def places(self) -> tuple[int, int]:
        """For tokens of a prompt and of a suffix."""
        return (
            self.prefix_keys.shape[2] * self._panel,
            self.suffix_keys.shape[2] * self._panel,
        )

    def store_prompts(self, groups: slice, index: Tensor, real: Tensor, keys: Tensor, values: Tensor) -> None:
        """Copy packed prompts into their places; see `LayerCache.store_prompts`."""
        missing = self.places[0] - index.shape[1]
        for cache, rows, turned in ((self.prefix_keys, keys, False), (self.prefix_values, values, True)):
            mine = rows[0].to(self.dtype)[:, index].transpose(0, 1) * real  # (groups, heads, prefix, dim)
            mine = F.pad(mine, (0, 0, 0, missing))
            cache[groups] = packed(mine.mT if turned else mine, self._panel, self._pair)

    def resize(self, rows: int, length: int) -> None:
        """Keep `length` entries of the first `rows` suffixes, with room for more."""
        if rows == len(self.suffix_keys) and length < self.places[1]:
            return
        places = grown(length + 1)
        for name, axis, each in (("suffix_keys", 2, self._panel), ("suffix_values", 3, self._pair)):
            old: Tensor = getattr(self, name)
            new = old.new_zeros((rows, *old.shape[1:axis], places // each, *old.shape[axis + 1 :]))
            kept = min(old.shape[axis], new.shape[axis])
            new.narrow(axis, 0, kept).copy_(old[:rows].narrow(axis, 0, kept))
            setattr(self, name, new)

    def move_rows(self, holes: Tensor, movers: Tensor, length: int) -> None:
        """Overwrite finished suffixes with living ones from the end."""
        for suffix in (self.suffix_keys, self.suffix_values):
            suffix[holes] = suffix[movers]

    def keep_groups(self, groups: Tensor) -> None:
        """Forget the prompts of all other groups."""
        self.prefix_keys, self.prefix_values = self.prefix_keys[groups], self.prefix_values[groups]
