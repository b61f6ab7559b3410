"""Discourages going round in circles: minus the share of word n-grams that were said before."""

from __future__ import annotations

from pydantic import Field

from ponder.core.protocols import Reward
from ponder.core.types import Record, Trace


class Repetition(Record):
    """Minus the share of repeated n-grams in the whole response, between -1 and 0."""

    words: int = Field(default=4, ge=1)
    """Length of an n-gram; templates of ordinary reasoning repeat shorter ones."""

    def __call__(self, trace: Trace) -> float:
        """0 when no n-gram occurs twice, or when the response is too short to have two."""
        said = trace.completion.text.lower().split()
        grams = list(zip(*(said[offset:] for offset in range(self.words)), strict=False))
        return len(set(grams)) / len(grams) - 1.0 if grams else 0.0


plugin: type[Reward] = Repetition
