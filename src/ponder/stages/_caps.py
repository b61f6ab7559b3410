"""Caps on what generating may use: read from settings, and looked at between chunks.

A served model counts money and tokens itself, request by request; this watch holds for models of this machine too. A
cap decides when work pauses, never what it is, so it may be raised while the work is half done.
"""

from __future__ import annotations

from collections.abc import Iterable

from ponder.core.errors import ConfigurationError, Interrupted
from ponder.core.types import Caps
from ponder.stages._teachers import is_served

CAPS = ("cost_limit", "token_limit", "time_limit")
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


def stop_at(caps: Caps, tokens: float, seconds: float) -> None:
    """Call this between chunks, when everything is stored.

    Args:
        caps: Of the stage.
        tokens: Read and sampled by all attempts so far.
        seconds: Spent on sampling by all attempts so far.

    Raises:
        Interrupted: If a cap is reached; it names the setting to raise.
    """
    for setting, cap, used, unit in (
        ("token_limit", caps.tokens, tokens, "tokens"),
        ("time_limit", caps.seconds, seconds, "seconds"),
    ):
        if cap is not None and used >= cap:
            raise Interrupted(
                f"{setting} is reached: {used:,.0f} of {cap:,.0f} {unit}",
                where=setting,
                fix=f"raise {setting} (--{setting.replace('_', '-')}); nothing that is done is done again",
            )
