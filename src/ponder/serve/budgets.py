"""How long an answer may think: what the request says, what the server was started with, and how the two meet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from ponder.core.errors import ConfigurationError
from ponder.core.types import Record
from ponder.measure.budgets import Choice, budget_within
from ponder.report.evaluations import read_object

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


def budget_of_curve(folder: Path, seconds: float) -> Choice:
    """The best thinking budget that answers in time, from an evaluation with budgets.

    Args:
        folder: Of the evaluation, or of a run with a stage `evaluate`.
        seconds: That nine of ten answers may take on the machine that was measured.

    Raises:
        ConfigurationError: If there is no curve, or no budget is in time.
        ResourceError: If a file is damaged.
    """
    place = folder if (folder / "results.json").is_file() else folder / "evaluate"
    curve = (read_object(place / "results.json") or {}).get("curve") or []
    alone = (read_object(place / "timing.json") or {}).get("alone") or []
    return budget_within(curve, alone, seconds)


def seconds_of(text: str) -> float:
    """Seconds as people write them: 8, 8s, 500ms, 2min.

    Raises:
        ConfigurationError: If it is no time.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|min)?", text.strip())
    if not found or not float(found[1]):
        raise ConfigurationError(f"{text!r} is no time", where="--answer-within", fix="write 8s, 500ms or 2min")
    return float(found[1]) * {"ms": 0.001, "s": 1.0, "min": 60.0}[found[2] or "s"]
