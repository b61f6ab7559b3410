"""Asks for what is missing: many requests at once, each tried until it is answered, given up or not worth beginning.

A failed attempt goes back into the queue with the time at which it is due, so that a wait holds no connection. When
something says stop (a cap, a key that is refused, the user) nothing is begun any more, what is on its way is
waited for and stored, and then the reason is raised.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ponder.core.errors import Interrupted, PonderError
from ponder.core.seeds import python_rng
from ponder.core.types import Completion, Finish, Usage
from ponder.engines._openai.accounts import Account
from ponder.engines._openai.asks import Ask, request_body
from ponder.engines._openai.doubts import Doubts
from ponder.engines._openai.failures import Kind, RequestFailure
from ponder.engines._openai.keys import Key
from ponder.engines._openai.pace import Pace
from ponder.engines._openai.reasons import all_rejected, endpoint_down, stops_for
from ponder.engines._openai.replies import BYTES_PER_TOKEN, Bought, completions_of, read_reply
from ponder.engines._openai.served import Served
from ponder.engines._openai.waiting import asked_wait, backoff
from ponder.engines._openai.wire import Wire, connections
from ponder.runs.interrupt import stop_requested

CHAT = "/chat/completions"
FIRST_CONTACT = 15.0
"""Seconds for which an address is tried at which nothing has ever answered."""
EMPTY_TRIES = 3
"""Attempts that may give a reply without an answer."""
REJECTED_FIRST = 5
"""Rejected requests after which the settings are at fault, when none was ever answered."""
TICK = 0.2
"""Seconds between two looks at whether to stop."""


@dataclass(slots=True)
class _Try:
    """A request and what has become of it so far."""

    ask: Ask
    began: float = 0.0
    """First attempt, `time.monotonic`; 0 when there was none."""
    due: float = 0.0
    attempts: int = 0
    empties: int = 0
    partial: str = ""
    """The longest text that an attempt had brought before it was cut."""


class Buyer:
    """Buys answers from one server, in as many calls as it takes.

    Args:
        served: Whom to ask.
        key: Sent along.
        account: Where purchases are stored and counted.
        doubts: What looks at whether a reply can be true.
    """

    def __init__(self, served: Served, key: Key, account: Account, doubts: Doubts) -> None:
        self._served, self._key, self._account, self._doubts = served, key, account, doubts
        self.pace = Pace(connections(served.concurrency))
        self.attempts = 0
        """Requests that were sent."""
        self._replied = self._singles = False
        self._answered_at = 0.0
        self._rejected = self._answered = 0
        self._rng = python_rng(time.time_ns(), "waits")  # decides when, never what
        self._found: dict[str, Completion] = {}
        self._queue: deque[_Try] = deque()
        self._again: list[_Try] = []
        self._running: set[asyncio.Task[None]] = set()
        self._stop: PonderError | None = None
        self._last_rejection: RequestFailure | None = None
        self._told: Callable[[Completion], None] = lambda completion: None

    async def buy(self, asks: Sequence[Ask], told: Callable[[Completion], None]) -> dict[str, Completion]:
        """Answers by their keys.

        Args:
            asks: Requests in the order in which they begin.
            told: Told of every answer when it is stored.

        Raises:
            Interrupted: If a cap is reached, the account is used up or the user asked to stop; what was bought is kept.
            ResourceError: If the key is not accepted or the server cannot be reached.
            ConfigurationError: If the server knows no such model or rejects everything.
        """
        self._found, self._stop, self._again = {}, None, []
        self._queue = deque(_Try(ask) for ask in asks)
        self._told = told
        async with Wire(self._served, self._key) as wire:
            try:
                await self._go(wire)
            finally:
                await self._abandon()
        if self._stop is None and self._last_rejection and not self._answered and not self._found_any():
            self._stop = all_rejected(self._served, self._last_rejection)
        if self._stop is not None:
            raise self._stop
        if self._queue or self._again:
            raise self._reason()
        return self._found

    async def _go(self, wire: Wire) -> None:
        while self._queue or self._again or self._running:
            while (attempt := self._next()) is not None:
                self.pace.take()
                task = asyncio.create_task(self._try(wire, attempt))
                self._running.add(task)
            if not self._running and self._halted:
                return
            now = time.monotonic()
            next_due = min((each.due - now for each in self._again), default=TICK)
            await self.pace.change(min(TICK, max(0.001, next_due)))
            for task in [task for task in self._running if task.done()]:
                self._running.discard(task)
                task.result()

    async def _abandon(self) -> None:
        """Leave nothing behind in the loop, whatever was raised."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._running.clear()

    @property
    def _halted(self) -> bool:
        return self._stop is not None or stop_requested() or self._account.caps.reached() is not None

    def _reason(self) -> PonderError:
        """Why there is something left to ask."""
        name = self._account.caps.reached()
        if name is not None and not stop_requested():
            return self._account.caps.stop(name)
        return Interrupted("stopped as asked", fix="run the same command again: it resumes")

    def _next(self) -> _Try | None:
        """A request that may begin now: one that is due again before one that is new."""
        if self._halted or not self.pace.free:
            return None
        now = time.monotonic()
        due = next((each for each in self._again if each.due <= now), None)
        if due is not None:
            self._again.remove(due)
            return due
        crowded = self.pace.taken + len(self._again) >= max(1, int(self.pace.limit))
        return None if crowded or not self._queue else self._queue.popleft()

    async def _try(self, wire: Wire, attempt: _Try) -> None:
        """One attempt, and what follows from it."""
        sent_at = time.monotonic()
        attempt.began = attempt.began or sent_at
        attempt.attempts += 1
        self.attempts += 1
        try:
            left = attempt.began + self._served.patience - sent_at
            bought = await self._send(wire, attempt.ask, min(self._served.timeout, max(1.0, left)))
        except RequestFailure as failure:
            self._failed(attempt, failure, sent_at)
        else:
            self._succeeded(attempt, bought)
        finally:
            self.pace.give()

    async def _send(self, wire: Wire, ask: Ask, seconds: float) -> Bought:
        started = time.monotonic()
        body = request_body(self._served, ask)
        if self._served.stream:
            reply, headers = await wire.stream(CHAT, body, seconds)
        else:
            whole = await wire.post(CHAT, body, seconds)
            reply, headers = read_reply(whole.body), whole.headers
        self._replied = True
        if wait := asked_wait(headers, refused=False):
            self.pace.hold(wait)
        return completions_of(reply, ask.prompt_bytes, time.monotonic() - started)

    def _succeeded(self, attempt: _Try, bought: Bought) -> None:
        self.pace.went_well()
        ask = attempt.ask
        if (doubt := self._doubts.about(ask, bought)) is not None:
            self._account.waste("doubtful", bought.usage)
            self._stop = self._stop or doubt
            return
        self._answered += 1
        self._answered_at = time.monotonic()
        self._keep(ask, bought.completions[: len(ask.keys)], bought.usage)
        missing = range(len(bought.completions), len(ask.keys))
        self._queue.extendleft(_Try(ask.single(index)) for index in reversed(missing))

    def _keep(self, ask: Ask, completions: Sequence[Completion], usage: Usage) -> None:
        """Store first, then tell: what is told of is never lost."""
        self._account.buy(ask.keys, completions, usage)
        for key, completion in zip(ask.keys, completions, strict=False):
            self._found[key] = completion
            self._told(completion)

    def _failed(self, attempt: _Try, failure: RequestFailure, sent_at: float) -> None:
        """Store what it cost all the same, and decide whether to try again."""
        self._replied = self._replied or failure.status > 0
        attempt.partial = max(attempt.partial, failure.partial, key=len)
        if failure.usage is not None or failure.partial:
            self._account.waste(failure.kind.value, _usage_of(failure, attempt.ask))
        kind, ask = failure.kind, attempt.ask
        if kind is Kind.FILTERED:
            self._answered += 1
            self._keep(ask, [Completion(text="", finish=Finish.REFUSED)] * len(ask.keys), Usage())
        elif (stop := stops_for(failure, self._served, self._key)) is not None:
            self._stop = self._stop or stop
        elif kind is Kind.REJECTED:
            self._was_rejected(attempt, failure)
        elif (wait := self._wait(attempt, failure, sent_at)) is None:
            self._give_up(attempt, failure)
        else:
            attempt.due = time.monotonic() + wait
            self._again.append(attempt)

    def _was_rejected(self, attempt: _Try, failure: RequestFailure) -> None:
        if len(attempt.ask.keys) > 1:  # `n` may be what it does not take
            self._queue.extendleft(_Try(attempt.ask.single(i)) for i in reversed(range(len(attempt.ask.keys))))
            return
        self._rejected += 1
        self._last_rejection = failure
        if self._rejected >= REJECTED_FIRST and not self._answered:
            self._stop = self._stop or all_rejected(self._served, failure)
        self._mark(attempt, failure)

    def _wait(self, attempt: _Try, failure: RequestFailure, sent_at: float) -> float | None:
        """Seconds until the next attempt; None when there is to be none."""
        attempt.empties += failure.kind is Kind.EMPTY
        wait = backoff(attempt.attempts, self._rng) if failure.wait is None else failure.wait
        if failure.kind is Kind.BUSY:
            self.pace.was_refused(sent_at, wait)
        if attempt.empties >= EMPTY_TRIES:
            return None
        patience = self._served.patience
        if failure.kind is Kind.UNREACHABLE and not self._replied:
            patience = min(patience, FIRST_CONTACT)
        return wait if time.monotonic() + wait < attempt.began + patience else None

    def _give_up(self, attempt: _Try, failure: RequestFailure) -> None:
        """One request among others that go well is marked; when none goes well the server is at fault."""
        if failure.kind is not Kind.EMPTY and self._answered_at < attempt.began:
            self._stop = self._stop or endpoint_down(self._served, failure)
            return
        self._mark(attempt, failure)

    def _mark(self, attempt: _Try, failure: RequestFailure) -> None:
        """The samples failed; not stored, so that another run may try again."""
        self._doubts.failed(failure)
        for key in attempt.ask.keys:
            completion = Completion(text=_storable(attempt.partial), finish=Finish.ERROR)
            self._found[key] = completion
            self._told(completion)

    def _found_any(self) -> bool:
        return any(completion.finish is not Finish.ERROR for completion in self._found.values())


def _usage_of(failure: RequestFailure, ask: Ask) -> Usage:
    """What a failed attempt cost, as far as can be known."""
    if failure.usage is not None:
        return Usage.model_validate(dict(failure.usage))
    return Usage(
        prompt_tokens=-(-ask.prompt_bytes // BYTES_PER_TOKEN),
        completion_tokens=-(-len(failure.partial.encode("utf-8", "replace")) // BYTES_PER_TOKEN),
        estimated=True,
    )


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
