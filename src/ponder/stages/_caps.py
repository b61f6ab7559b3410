"""Caps on what generating may use, as a stage's settings say them.

A cap decides when work pauses, never what it is, so it may be raised while the work is half done.
"""

from __future__ import annotations

from collections.abc import Iterable

from ponder.core.errors import ConfigurationError
from ponder.core.types import Caps
from ponder.runs.caps import SETTINGS
from ponder.stages._teachers import is_served

CAPS = tuple(SETTINGS.values())
"""Settings of a stage that is capped; they are its observers."""


def checked_caps(cost: float | None, tokens: int | None, seconds: float | None, sources: Iterable[str]) -> Caps:
    """The caps of a stage.

    Raises:
        ConfigurationError: If money is capped and no teacher costs any that is known.
    """
    if cost is not None and not any(map(is_served, sources)):
        raise ConfigurationError(
            "a limit on cost means nothing here: no teacher is paid for by the token",
            where="cost_limit",
            fix="set token_limit or time_limit; the ledger estimates what this machine costs",
        )
    return Caps(cost=cost, tokens=tokens, seconds=seconds)
