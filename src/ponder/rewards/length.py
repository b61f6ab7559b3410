"""Discourages running out of tokens: DAPO's soft overlong punishment (arXiv:2503.14476, eq. 13)."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from ponder.core.protocols import Reward
from ponder.core.types import Record, Trace


class SoftOverlong(Record):
    """0 up to a length, falling in a straight line to -1 at the limit, and -1 beyond it."""

    max_tokens: int = Field(default=20_480, ge=1)
    """Completion tokens at which the punishment is whole; the paper's value."""
    cushion: int = Field(default=4_096, ge=1)
    """Tokens before that over which it grows; the paper's value."""

    @model_validator(mode="after")
    def _cushion_fits(self) -> Self:
        if self.cushion > self.max_tokens:
            raise ValueError("cushion is larger than max_tokens")
        return self

    def __call__(self, trace: Trace) -> float:
        """Between -1 and 0."""
        completion = trace.completion
        length = completion.usage.completion_tokens if completion.tokens is None else len(completion.tokens)
        over = (length - (self.max_tokens - self.cushion)) / self.cushion
        return -min(1.0, max(0.0, over))


plugin: type[Reward] = SoftOverlong
