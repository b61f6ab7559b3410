"""What sampling passes to the model: attention that fills the caches, and attention that reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ponder.engines._caches import Grid, LayerCache, Scores
from ponder.engines._native_cache import NativeCache
from ponder.models.native.build import Kernels
from ponder.models.packed import PackedLayout


class Caches(Protocol):
    """What the layouts need of a cohort."""

    length: int
    """Tokens of every suffix, the one that is being computed included."""
    layers: dict[int, LayerCache | NativeCache]
    kernels: Kernels | None
    grid: Grid
    padding: Tensor | None

    @property
    def rows(self) -> int:
        """Living samples."""
        ...

    def make_layer(self, keys: Tensor, values: Tensor) -> LayerCache | NativeCache:
        """Room for a layer that shows itself for the first time."""
        ...


class PrefillLayout:
    """Causal attention over packed prompts, which also stores their keys and values.

    Args:
        lengths: Tokens of each prompt, in packed order.
        cohort: Whose prompts they are.
        first: Place of the first of them in the cohort.
        width: Tokens that the cohort's prefix has room for.
        device: Of the model.
    """

    def __init__(self, lengths: Sequence[int], cohort: Caches, first: int, width: int, device: torch.device) -> None:
        """Plan where each packed token goes; it is the same for every layer."""
        self._packed = PackedLayout(lengths, device)
        self._cohort = cohort
        self._groups = slice(first, first + len(lengths))
        sizes = torch.tensor(lengths)[:, None]
        places = torch.arange(width).expand(len(lengths), -1)  # (prompts, width), outside of [0, size) at the padding
        if cohort.kernels is None:
            places = places - (width - sizes)
        begins = sizes.cumsum(0) - sizes
        self._index = (begins + torch.minimum(places.clamp(min=0), sizes - 1)).to(device)
        self._real = ((places >= 0) & (places < sizes))[:, None, :, None].to(device)

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
        cache = self._cohort.layers.get(layer)
        if cache is None:
            cache = self._cohort.layers[layer] = self._cohort.make_layer(key, value)
        cache.store_prompts(self._groups, self._index, self._real, key, value)
        return self._packed.attend(
            layer, query, key, value, scaling=scaling, sliding_window=sliding_window, softcap=softcap
        )


class DecodeLayout:
    """One new token for every living sample of some cohorts, packed cohort after cohort."""

    def __init__(self, cohorts: Sequence[Caches]) -> None:
        """Remember whose rows are where."""
        self._cohorts = cohorts

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
        scores = Scores(scaling, sliding_window, softcap)
        queries, keys, values = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
        outputs, start = [], 0
        for cohort in self._cohorts:
            mine = slice(start, start := start + cohort.rows)
            cache = cohort.layers[layer]
            assert isinstance(cache, LayerCache), "native caches are read by native steps"
            cache.append(keys[mine], values[mine], cohort.length)
            outputs.append(cache.attend(queries[mine], cohort.length, cohort.grid, cohort.padding, scores))
        joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        return joined[None].to(query.dtype)
