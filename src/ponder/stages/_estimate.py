"""Arithmetic behind `ponder plan`: floating-point operations and bytes, at this machine's measured rate."""

from __future__ import annotations

import time
from functools import cache

import torch

from ponder.models.native.build import kernels
from ponder.stages._stage import Estimate

SHARE = {True: 0.95, False: 0.55}
"""Share of the matrix-product rate that a small model reaches, with and without the native kernels."""
TRAINING_OVERHEAD = 1_500_000
"""Operations' worth of time that a trained token costs besides matrix products: norms, attention, loss."""
SAMPLING_OVERHEAD = 6_000_000
"""The same for a sampled token; all were fitted on models of 0.5 to 3 million parameters in float32."""
PROCESS_BYTES = 450 * 1024**2
"""A Python process with torch and transformers loaded."""
MICRO_BATCH_TOKENS = 4096
"""As `Optimisation` has it by default."""
ACTIVATION_BYTES = 110
"""Kept for the backward pass, by token, layer and unit of width."""


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


def _rate() -> float:
    """Operations per second that a small model reaches here."""
    return SHARE[kernels(rounded=False) is not None] * matrix_rate()


def training_estimate(rows: int, tokens: int, parameters: int, note: str) -> Estimate:
    """Six operations a parameter and token; weights, gradients and two moments in fp32, plus activations."""
    seconds = tokens * (6 * parameters + TRAINING_OVERHEAD) / _rate()
    layers_times_width = 0.7 * parameters**0.5  # as in models of usual proportions
    activations = MICRO_BATCH_TOKENS * layers_times_width * ACTIVATION_BYTES
    return Estimate(rows, tokens, int(PROCESS_BYTES + 16 * parameters + activations), seconds, note)


def sampling_estimate(rows: int, tokens: int, parameters: int, note: str) -> Estimate:
    """Two operations a parameter and token; weights in fp32, and the keys and values of a batch."""
    seconds = tokens * (2 * parameters + SAMPLING_OVERHEAD) / _rate()
    return Estimate(rows, tokens, int(PROCESS_BYTES + 4 * parameters + 256 * 1024**2), seconds, note)
