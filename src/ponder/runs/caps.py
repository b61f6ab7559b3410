"""Caps on what asking a model may use up: counted as it goes on, carried over restarts, checked before more begins."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ponder.core.errors import Interrupted
from ponder.core.types import Caps, Completion

SETTINGS = {"cost": "cost_limit", "tokens": "token_limit", "seconds": "time_limit"}
"""What a stage calls each cap; the command line has it as an option."""


class CapWatch:
    """Counts cost, tokens and seconds beside their caps.

    Args:
        caps: None of them set: nothing ever stops.
        cost: Already spent by earlier attempts; None where a price is not known.
        tokens: Already used, prompt and completion together.
        seconds: Already taken.
        where: What is named when a cap is reached: the folder that keeps what there is.
    """

    def __init__(
        self,
        caps: Caps | None,
        *,
        cost: float | None = 0.0,
        tokens: int = 0,
        seconds: float = 0.0,
        where: str = "",
    ) -> None:
        """The clock runs from here on, until `pause`."""
        self.caps = caps or Caps()
        self.cost, self.tokens = cost, tokens
        self._where = where
        self._before = seconds
        self._since: float | None = time.monotonic()

    @property
    def seconds(self) -> float:
        """Of all attempts until now."""
        return self._before + (0.0 if self._since is None else time.monotonic() - self._since)

    def pause(self) -> None:
        """Stop the clock: nothing is being asked."""
        self._before, self._since = self.seconds, None

    def start(self) -> None:
        """Let the clock run."""
        self._since = time.monotonic() if self._since is None else self._since

    def spend(self, tokens: int, cost: float | None = None) -> None:
        """Count what one request used up; a cost that is not known makes the sum unknown."""
        self.tokens += tokens
        self.cost = None if cost is None or self.cost is None else self.cost + cost

    def count(self, groups: Iterable[Iterable[Completion]]) -> None:
        """Count completions of a model that costs nothing but time."""
        usages = [completion.usage for group in groups for completion in group]
        self.tokens += sum(usage.prompt_tokens + usage.completion_tokens for usage in usages)

    def reached(self) -> str | None:
        """Name of the cap that is reached: `cost`, `tokens` or `seconds`; None while there is room."""
        used = {"cost": self.cost, "tokens": self.tokens, "seconds": self.seconds}
        for name, value in used.items():
            cap = getattr(self.caps, name)
            if cap is not None and value is not None and value >= cap:
                return name
        return None

    def check(self) -> None:
        """Call this before more is begun, when everything worth keeping is stored.

        Raises:
            Interrupted: If a cap is reached; says how to go on.
        """
        if name := self.reached():
            raise self.stop(name)

    def stop(self, name: str) -> Interrupted:
        """What is raised for a cap."""
        used = {
            "cost": f"{self.cost or 0.0:.4f} spent",
            "tokens": f"{self.tokens:,} used",
            "seconds": f"{self.seconds:.0f} s taken",
        }
        setting = SETTINGS[name]
        return Interrupted(
            f"{setting} is reached: {used[name]}, and the cap on {name} is {getattr(self.caps, name):g}",
            where=self._where,
            fix=f"raise {setting} (--{setting.replace('_', '-')}) and run the same command again: what is done is kept",
        )
