"""Estimates of stages that have no account of their own: rows, tokens and the number of parameters decide."""

from __future__ import annotations

from ponder.stages._estimates.machine import (
    GUESS_SHARE,
    PROCESS_BYTES,
    SAMPLING_OVERHEAD,
    small_model_rate,
    training_seconds,
)
from ponder.stages._outlook import Bounds
from ponder.stages._stage import Estimate

MICRO_BATCH_TOKENS = 4096
"""As `Optimisation` has it by default."""
ACTIVATION_BYTES = 110
"""Kept for the backward pass, by token, layer and unit of width."""


def training_estimate(rows: int, tokens: int, parameters: int, note: str) -> Estimate:
    """Six operations a parameter and token; weights, gradients and two moments in fp32, plus activations."""
    around = Bounds.around(training_seconds(tokens, parameters), GUESS_SHARE)
    layers_times_width = 0.7 * parameters**0.5  # as in models of usual proportions
    activations = MICRO_BATCH_TOKENS * layers_times_width * ACTIVATION_BYTES
    memory = int(PROCESS_BYTES + 16 * parameters + activations)
    return Estimate(rows, tokens, memory, around.expected, note, around.low, around.high, trained_tokens=tokens)


def sampling_estimate(rows: int, tokens: int, parameters: int, note: str) -> Estimate:
    """Two operations a parameter and token; weights in fp32, and the keys and values of a batch."""
    around = Bounds.around(tokens * (2 * parameters + SAMPLING_OVERHEAD) / small_model_rate(), GUESS_SHARE)
    memory = int(PROCESS_BYTES + 4 * parameters + 256 * 1024**2)
    return Estimate(rows, tokens, memory, around.expected, note, around.low, around.high, sampled_tokens=tokens)
