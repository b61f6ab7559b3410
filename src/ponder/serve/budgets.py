"""How long an answer may think: what the request says, what the server was started with, and how the two meet."""

from __future__ import annotations

from typing import Literal

from ponder.core.types import Record

Effort = Literal["none", "minimal", "low", "medium", "high"]
SHARES: dict[str, float | None] = {"none": 0.0, "minimal": 0.1, "low": 0.2, "medium": 0.5, "high": None}
"""Of the new tokens that an answer may have; None: no limit of its own."""


class Thinking(Record):
    """What a server does where a request does not say."""

    max_tokens: int | None = None
    """Of a thought; None: no limit."""
    break_loops: bool = False
    """Close thoughts that repeat themselves."""

    def budget(self, tokens: int | None, effort: Effort | None, new_tokens: int) -> int | None:
        """Tokens that a thought may have, or None for any number.

        Args:
            tokens: That the request names.
            effort: That the request names.
            new_tokens: Of the whole answer.
        """
        if tokens is not None:
            return tokens
        if effort is None:
            return self.max_tokens
        share = SHARES[effort]
        return None if share is None else int(share * new_tokens)
