"""The thread that owns the model: requests that wait are gathered, and drawn and scored together."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field

from ponder.core.errors import ConfigurationError, PonderError, ResourceError
from ponder.core.types import Completion, Sampling
from ponder.engines._expectations import PASS_TOKENS, Expectations
from ponder.engines._scores import score
from ponder.engines._session import Session
from ponder.engines.local import LocalSampler
from ponder.models.load import LoadedModel
from ponder.serve.engine import Answer, Draw, Event, Piece, Score, Scored
from ponder.serve.failures import Refusal

_log = logging.getLogger("ponder.serve")
MAX_SESSIONS = 4
"""Ways of sampling that are drawn in turns, a token each; what differs from all of them waits."""
TELL_SECONDS = 0.05
"""Between two pieces of a streamed answer."""
RESTARTS = 3
"""Of the thread, when a mistake has ended it."""
REST_SECONDS = 1.0
"""Before the first restart; doubled before each further one."""


@dataclass(slots=True)
class _Batch:
    """One way of sampling that is being drawn."""

    session: Session
    closing: ExitStack
    draws: dict[int, Draw] = field(default_factory=dict)
    told_at: float = 0.0


class Worker:
    """Owns a model. `submit` may be called from any thread, and events are told from the worker's.

    A mistake that ends its thread is told to whoever waits; the next request after a pause starts another, three times.

    Args:
        loaded: The model; nobody else uses it.
        name: Of the model.
        max_requests: That are accepted and not answered yet.
    """

    def __init__(self, loaded: LoadedModel, name: str, max_requests: int) -> None:
        """Begin to wait for requests."""
        self.speaker = loaded.chat
        self._sampler, self._max_requests = LocalSampler(loaded.model, loaded.chat, name=name), max_requests
        self._expectations = Expectations(loaded.model.eval())
        self.positions = self._sampler.positions
        self.vocabulary = int(loaded.model.config.get_text_config().vocab_size)
        self._batches: dict[Sampling, _Batch] = {}
        self._draws: deque[Draw] = deque()
        self._scores: deque[Score] = deque()
        self._open: set[Draw | Score] = set()
        self._changed, self._checking = threading.Condition(), threading.Lock()
        self._stopping, self._crashes, self._rest_until = False, 0, 0.0
        self._thread = self._begun()

    @property
    def alive(self) -> bool:
        """Whether requests are still answered."""
        return self._running and not self._stopping

    @property
    def waiting(self) -> int:
        """Requests that are accepted and not answered yet."""
        return len(self._open)

    def check(self, sampling: Sampling) -> None:
        """See `ponder.serve.engine.Engine.check`; schemas are compiled one at a time."""
        with self._checking:
            self._sampler.check(sampling)

    def submit(self, work: Draw | Score) -> None:
        """Let a request wait for its turn.

        Raises:
            Refusal: 429 if too many wait, 503 if the worker has stopped.
        """
        with self._changed:
            self._revive()
            if not self.alive:
                raise Refusal(503, "the model is not running", code="model_stopped", retry_after=self._pause())
            if len(self._open) >= self._max_requests:
                raise Refusal(429, "the server is busy", code="server_busy", retry_after=1)
            self._open.add(work)
            (self._scores if isinstance(work, Score) else self._draws).append(work)  # type: ignore[arg-type]
            self._changed.notify()

    def cancel(self, work: Draw | Score) -> None:
        """Nobody waits for this any more: it is not begun, or it leaves the batch at the next token."""
        with self._changed:
            work.cancelled = True
            waiting = self._scores if isinstance(work, Score) else self._draws
            if work in waiting:
                waiting.remove(work)  # type: ignore[arg-type]
                self._open.discard(work)
            self._changed.notify()

    def stop(self) -> None:
        """End after the token that is being drawn; whoever still waits is refused."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _begun(self) -> threading.Thread:
        self._running = True
        thread = threading.Thread(target=self._run, name="ponder-model", daemon=True)
        thread.start()
        return thread

    def _revive(self) -> None:
        """Start again after a crash, once the pause is over."""
        if self._running or self._stopping or self._crashes > RESTARTS or self._pause() > 0:
            return
        self._batches.clear()
        self._thread = self._begun()

    def _pause(self) -> int:
        return max(0, math.ceil(self._rest_until - time.monotonic()))

    def _run(self) -> None:
        try:
            while self._wait():
                self._score_one()
                self._admit()
                for sampling in list(self._batches):
                    self._advance(sampling)
        finally:
            with self._changed:
                self._running = False  # from here on nothing is accepted that nobody would answer
                self._rest_until = time.monotonic() + REST_SECONDS * 2**self._crashes
                self._crashes += 1
                left = list(self._open)
                self._open.clear()
                self._draws.clear()
                self._scores.clear()
            for work in left:
                work.tell(Refusal(503, "the model has stopped", code="model_stopped", retry_after=self._pause()))

    def _wait(self) -> bool:
        """Wait until there is something to do; False once there is nothing more to do."""
        with self._changed:
            while not (self._stopping or self._batches or self._draws or self._scores):
                self._changed.wait()
            return not self._stopping

    def _end(self, work: Draw | Score, event: Event | None = None) -> None:
        """The last that is told about a request."""
        with self._changed:
            self._open.discard(work)
        if event is not None and not work.cancelled:
            work.tell(event)

    def _score_one(self) -> None:
        """Score what waits, as far as it fits one pass."""
        taken: list[Score] = []
        total = 0
        with self._changed:
            while self._scores:
                tokens = sum(map(len, self._scores[0].sequences))
                if taken and (total + tokens > PASS_TOKENS or self._scores[0].top != taken[0].top):
                    break
                taken.append(self._scores.popleft())
                total += tokens
        wanted = [work for work in taken if not work.cancelled]
        for work in set(taken) - set(wanted):
            self._end(work)
        if not wanted:
            return
        try:
            scores = score(self._expectations, [ids for work in wanted for ids in work.sequences], wanted[0].top)
        except (PonderError, RuntimeError, MemoryError) as error:
            for work in wanted:
                self._end(work, _failure(error))
            return
        for work in wanted:
            own, scores = scores[: len(work.sequences)], scores[len(work.sequences) :]
            self._end(work, Scored(own))

    def _admit(self) -> None:
        """Let requests into the batch of their way of sampling, in the order in which they came."""
        while True:
            with self._changed:
                if not self._draws or not self._has_place(self._draws[0]):
                    return
                draw = self._draws.popleft()
            if draw.cancelled:
                self._end(draw)
                continue
            try:
                batch = self._batch(draw.sampling)
                batch.draws[batch.session.add(draw.ids, draw.seed, draw.samples)] = draw
            except (PonderError, RuntimeError, MemoryError) as error:
                self._end(draw, _failure(error))

    def _has_place(self, draw: Draw) -> bool:
        return draw.cancelled or draw.sampling in self._batches or len(self._batches) < MAX_SESSIONS

    def _batch(self, sampling: Sampling) -> _Batch:
        if sampling not in self._batches:
            closing = ExitStack()
            session = closing.enter_context(self._sampler.session(sampling, share=1 / MAX_SESSIONS))
            self._batches[sampling] = _Batch(session, closing)
        return self._batches[sampling]

    def _advance(self, sampling: Sampling) -> None:
        """One more token for a batch."""
        batch = self._batches[sampling]
        try:
            gone = {place for place, draw in batch.draws.items() if draw.cancelled}
            if gone:
                batch.session.drop(gone)
            for place in gone:
                self._end(batch.draws.pop(place))
            for place, sample, completion in batch.session.step() if batch.draws else ():
                self._answer(batch, place, sample, completion)
            self._tell_pieces(batch)
        except (PonderError, RuntimeError, MemoryError) as error:
            for draw in batch.draws.values():
                self._end(draw, _failure(error))
            batch.draws.clear()
        if not batch.draws:
            batch.closing.close()
            del self._batches[sampling]

    def _answer(self, batch: _Batch, place: int, sample: int, completion: Completion) -> None:
        draw = batch.draws[place]
        scores = None
        if draw.top is not None and not draw.cancelled:
            scores = score(self._expectations, [[*draw.ids, *(completion.tokens or ())]], draw.top)[0]
        draw.left -= 1
        answer = Answer(sample, completion, scores)
        if draw.left:
            draw.tell(answer)
        else:
            del batch.draws[place]
            self._end(draw, answer)

    def _tell_pieces(self, batch: _Batch) -> None:
        places = {place for place, draw in batch.draws.items() if draw.streamed}
        if not places or time.monotonic() < batch.told_at + TELL_SECONDS:
            return
        batch.told_at = time.monotonic()
        for place, sample, text in batch.session.settled(places):
            draw = batch.draws[place]
            if len(text) > len(draw.told.get(sample, "")):
                draw.told[sample] = text
                draw.tell(Piece(sample, text))


def _failure(error: PonderError | RuntimeError | MemoryError) -> Refusal:
    """What a client is told; what happened inside is for the server's log, by its kind only."""
    if isinstance(error, ConfigurationError):
        return Refusal(400, error.what)
    _log.error("a batch failed: %s", type(error).__name__)
    if isinstance(error, ResourceError):
        return Refusal(503, error.what, code="out_of_memory")
    if isinstance(error, PonderError):
        return Refusal(500, error.what, code="sampling_failed")
    return Refusal(500, "the model failed", code="sampling_failed")
