"""The order of data is a function of (seed, epoch, position); nothing about it is stored, so resuming is exact."""

from __future__ import annotations

from functools import lru_cache
from math import ceil

import numpy as np
import numpy.typing as npt

from ponder.core.seeds import numpy_rng


@lru_cache(maxsize=4)
def _permutation(seed: int, size: int, epoch: int) -> npt.NDArray[np.int64]:
    return numpy_rng(seed, "order", epoch).permutation(size)


def indices_at(seed: int, size: int, per_step: int, step: int) -> list[int]:
    """Items of one step: each epoch goes through all `size` items once in an order of its own.

    A step may straddle two epochs; no item is skipped and no step is short.
    """
    first = step * per_step
    return [
        int(_permutation(seed, size, position // size)[position % size]) for position in range(first, first + per_step)
    ]


def steps_for(size: int, epochs: float, per_step: int) -> int:
    """Steps that go through `size` items `epochs` times, at least one."""
    return max(1, ceil(size * epochs / per_step))
