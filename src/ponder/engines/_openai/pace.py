"""How many requests are made at once: one more while all goes well, half as many when the server is busy."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

START = 8
"""Requests at once in the beginning."""
SHRINK = 0.5


class Pace:
    """Slots for requests: additive increase, multiplicative decrease, and holds that apply to all.

    The limit grows by one after as many successes as it is wide. A refusal halves it, once for all requests that were
    on their way together: twenty refusals of one moment say the same thing.

    Args:
        most: Never more slots than this.
    """

    def __init__(self, most: int) -> None:
        self.most = max(1, most)
        self.limit = float(min(START, self.most))
        self.peak = 0
        """Most slots that were taken at once."""
        self._taken = 0
        self._held_until = self._shrunk_at = 0.0
        self._changed = asyncio.Event()

    @property
    def taken(self) -> int:
        """Slots in use."""
        return self._taken

    @property
    def held(self) -> float:
        """Seconds for which nothing may be sent yet."""
        return max(0.0, self._held_until - time.monotonic())

    @property
    def free(self) -> bool:
        """Whether one more request may begin now."""
        return self._taken < max(1, int(self.limit)) and not self.held

    def take(self) -> None:
        """Use a slot."""
        self._taken += 1
        self.peak = max(self.peak, self._taken)

    def give(self) -> None:
        """Give a slot back."""
        self._taken -= 1
        self._changed.set()

    def went_well(self) -> None:
        """A request was answered."""
        self.limit = min(float(self.most), self.limit + 1.0 / self.limit)

    def was_refused(self, sent_at: float, wait: float) -> None:
        """The server is busy: fewer at once, and nothing for `wait` seconds.

        Args:
            sent_at: When the request was sent, `time.monotonic`.
            wait: Seconds.
        """
        if sent_at >= self._shrunk_at:
            self.limit = max(1.0, self.limit * SHRINK)
            self._shrunk_at = time.monotonic()
        self.hold(wait)

    def hold(self, wait: float) -> None:
        """Send nothing for so many seconds."""
        self._held_until = max(self._held_until, time.monotonic() + wait)

    async def change(self, most_seconds: float) -> None:
        """Sleep until a slot is given back or a hold ends, and no longer than `most_seconds`."""
        self._changed = asyncio.Event()  # one for every wait, because a later call has a loop of its own
        patience = min(most_seconds, self.held) if self.held else most_seconds
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.001, patience)):
                await self._changed.wait()
