"""One call, tried until it is answered, for what is no sample: scores, files, batches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ponder.core.seeds import python_rng
from ponder.engines._openai.failures import Kind, RequestFailure
from ponder.engines._openai.keys import Key
from ponder.engines._openai.reasons import endpoint_down, stops_for
from ponder.engines._openai.served import Served
from ponder.engines._openai.waiting import backoff
from ponder.runs.interrupt import raise_if_stopped

FIRST_CONTACT = 15.0
"""Seconds for which an address is tried at which nothing answers."""
TICK = 0.2
Result = TypeVar("Result")


async def until_answered(send: Callable[[float], Awaitable[Result]], served: Served, key: Key) -> Result:
    """The result of `send`, which is given the seconds that it may take.

    Raises:
        RequestFailure: If the request itself is wrong.
        PonderError: As `reasons.stops_for` says, or when patience ends.
        Interrupted: If a stop was requested while waiting.
    """
    began, attempts, rng = time.monotonic(), 0, python_rng(time.time_ns(), "waits")
    while True:
        left = began + served.patience - time.monotonic()
        try:
            return await send(min(served.timeout, max(1.0, left)))
        except RequestFailure as failure:
            attempts += 1
            if (stop := stops_for(failure, served, key)) is not None:
                raise stop from None
            if failure.kind in (Kind.REJECTED, Kind.FILTERED):
                raise
            wait = backoff(attempts, rng) if failure.wait is None else failure.wait
            patience = min(served.patience, FIRST_CONTACT) if failure.kind is Kind.UNREACHABLE else served.patience
            if time.monotonic() + wait > began + patience:
                raise endpoint_down(served, failure) from None
            await sleep(wait)


async def sleep(seconds: float) -> None:
    """Sleep, and wake up when a stop is requested.

    Raises:
        Interrupted: If one was.
    """
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        raise_if_stopped()
        await asyncio.sleep(min(TICK, left))
    raise_if_stopped()
