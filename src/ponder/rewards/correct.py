"""Pays for a right answer: the verdict's own reward, partial credit included."""

from __future__ import annotations

from ponder.core.protocols import Reward
from ponder.core.types import Trace


def correct(trace: Trace) -> float:
    """1 for right, 0 for wrong, or what the verifier gave."""
    assert trace.verdict.reward is not None, "a trace whose verdict is UNKNOWN is never paid"
    return trace.verdict.reward


plugin: Reward = correct
