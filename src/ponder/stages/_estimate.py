"""Arithmetic behind `ponder plan`: floating-point operations and bytes, at this machine's measured rate."""

from __future__ import annotations

import time
from functools import cache

import torch

from ponder.stages._stage import Estimate

TRAINING_SHARE = 0.45
"""Share of the matrix-product rate that training of small models reaches here; `plan` is as good as this guess."""
SAMPLING_SHARE = 0.20
"""The same for sampling."""
PROCESS_BYTES = 450 * 1024**2
"""A Python process with torch and transformers loaded."""


@cache
def matrix_rate() -> float:
    """Measured floating-point operations per second of a matrix product in fp32: the median of five."""
    size = 768
    a, b = torch.ones(size, size), torch.ones(size, size)
    times: list[float] = []
    for _ in range(6):
        start = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - start)
    return 2 * size**3 / sorted(times[1:])[2]


def training_estimate(rows: int, tokens: int, parameters: int, note: str, tokens_per_step: int = 8192) -> Estimate:
    """Six operations a parameter and token; weights, gradients and two moments in fp32, plus activations."""
    seconds = 6 * parameters * tokens / (TRAINING_SHARE * matrix_rate())
    activations = tokens_per_step * max(1, parameters) ** 0.5 * 250
    return Estimate(rows, tokens, int(PROCESS_BYTES + 16 * parameters + activations), seconds, note)


def sampling_estimate(rows: int, tokens: int, parameters: int, note: str) -> Estimate:
    """Two operations a parameter and token; weights in fp32, and the keys and values of a batch."""
    seconds = 2 * parameters * tokens / (SAMPLING_SHARE * matrix_rate())
    return Estimate(rows, tokens, int(PROCESS_BYTES + 4 * parameters + 256 * 1024**2), seconds, note)
