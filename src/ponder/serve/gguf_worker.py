"""Answers requests from a GGUF file: llama.cpp draws as many completions at once as it has slots."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ponder.core.errors import ConfigurationError, PonderError
from ponder.core.types import Completion, FloatArray, IntArray, Messages, Sampling
from ponder.engines._gguf.completing import Ask, Drawn
from ponder.engines._scores import Scores
from ponder.engines.gguf import GgufSampler
from ponder.serve.engine import Answer, Draw, Piece, Score, Scored
from ponder.serve.failures import Refusal

_log = logging.getLogger("ponder.serve")
STOPPED = ("the server is stopping", "model_stopped")


class GgufSpeaker:
    """Spells the tokens of a GGUF file; see `ponder.serve.engine.Speaker`.

    Args:
        sampler: Of the file.
    """

    def __init__(self, sampler: GgufSampler) -> None:
        """Keep the sampler."""
        self._sampler = sampler

    @property
    def digest(self) -> str:
        """Hash of the chat template."""
        return hashlib.blake2b(self._sampler.template.encode(), digest_size=8).hexdigest()

    def prompt(self, messages: Messages) -> list[int]:
        """Token ids of a conversation with the generation prompt."""
        return self._sampler.prompt(messages)

    def spell(self, ids: Sequence[int]) -> str:
        """Text of tokens as they are, special ones included."""
        return self._sampler.spell(ids)


class GgufWorker:
    """A GGUF file as `ponder.serve.engine.Engine`.

    Args:
        sampler: Of the file; nobody else uses it.
        max_requests: That are accepted and not answered yet.
    """

    def __init__(self, sampler: GgufSampler, max_requests: int) -> None:
        """Start a thread for each slot."""
        self.speaker = GgufSpeaker(sampler)
        self.positions, self.vocabulary = sampler.positions, sampler.vocabulary
        self._sampler, self._max_requests = sampler, max_requests
        self._pool = ThreadPoolExecutor(sampler.slots, thread_name_prefix="ponder-gguf")
        self._open: set[Draw | Score] = set()
        self._changed = threading.RLock()  # a request may fail while it is being accepted
        self._stopping = False

    @property
    def alive(self) -> bool:
        """Whether requests are still answered."""
        return not self._stopping

    @property
    def waiting(self) -> int:
        """Requests that are accepted and not answered yet."""
        return len(self._open)

    def check(self, sampling: Sampling) -> None:
        """Refuse what this model cannot do.

        Raises:
            ConfigurationError: If thoughts are to be steered without thinking tags, or a schema cannot be met.
        """
        self._sampler.check(sampling)

    def submit(self, work: Draw | Score) -> None:
        """Let a request wait for a slot.

        Raises:
            Refusal: 429 if too many wait, 503 if the worker has stopped.
        """
        with self._changed:
            if self._stopping:
                raise Refusal(503, STOPPED[0], code=STOPPED[1])
            if len(self._open) >= self._max_requests:
                raise Refusal(429, "the server is busy", code="server_busy", retry_after=1)
            self._open.add(work)
            for sample in range(1 if isinstance(work, Score) else work.samples):
                self._begun(work, sample).add_done_callback(lambda done: self._ended(work, done))

    def _begun(self, work: Draw | Score, sample: int) -> Future[None]:
        if isinstance(work, Score):
            return self._pool.submit(self._score, work)
        return self._pool.submit(self._draw, work, sample)

    def cancel(self, work: Draw | Score) -> None:
        """Nobody waits for this any more: it is not begun, or ends at the next token."""
        work.cancelled = True
        with self._changed:
            self._open.discard(work)

    def stop(self) -> None:
        """Cancel what is being drawn; whoever still waits is refused."""
        with self._changed:
            self._stopping = True
            left = list(self._open)
        for work in left:
            work.cancelled = True
            work.tell(Refusal(503, STOPPED[0], code=STOPPED[1]))
        self._pool.shutdown(cancel_futures=True)
        self._sampler.close()

    def _draw(self, work: Draw, sample: int) -> None:
        """One sample, told piece by piece where it is streamed."""
        if work.cancelled:
            return
        ask = Ask(
            work.ids,
            work.seed,
            sample,
            work.sampling,
            top=work.top or 0,
            grown=(lambda text: work.tell(Piece(sample, text))) if work.streamed else None,
            cancelled=lambda: work.cancelled,
        )
        try:
            completion, drawn = self._sampler.complete(ask)
            if work.cancelled:
                return
            scores = None if work.top is None else self._scores_of(completion, drawn, work.top)
        except ConfigurationError as error:
            self._refuse(work, Refusal(400, error.what))
            return
        except PonderError as error:
            _log.error("a completion failed: %s", error.what)
            self._refuse(work, Refusal(500, "the model failed", code="model_failed"))
            return
        work.tell(Answer(sample, completion, scores))
        with self._changed:
            work.left -= 1
            if work.left == 0:
                self._open.discard(work)

    def _score(self, work: Score) -> None:
        if work.cancelled:
            return
        try:
            found = [self._along(tokens, 1, work.top) for tokens in work.sequences]
        except PonderError as error:
            _log.error("scores failed: %s", error.what)
            self._refuse(work, Refusal(500, "the model failed", code="model_failed"))
            return
        work.tell(Scored(found))
        with self._changed:
            self._open.discard(work)

    def _ended(self, work: Draw | Score, future: Future[None]) -> None:
        """Whatever went wrong that nobody thought of, nobody waits for it in vain."""
        error = None if future.cancelled() else future.exception()
        if error is not None:
            _log.error("a request failed: %s", type(error).__name__)
            self._refuse(work, Refusal(500, "the model failed", code="model_failed"))

    def _refuse(self, work: Draw | Score, refusal: Refusal) -> None:
        work.cancelled = True
        work.tell(refusal)
        with self._changed:
            self._open.discard(work)

    def _scores_of(self, completion: Completion, drawn: Drawn, top: int) -> Scores:
        """Of a completion as it was drawn; asked again where something was forced or is half a character."""
        prompt, tokens = completion.prompt_tokens or (), completion.tokens or ()
        if any(len(row) < max(1, top) for row in drawn.top):
            return self._along([*prompt, *tokens], len(prompt), top)
        logprobs, ids, values = _room(len(prompt) + len(tokens) - 1, top)
        for place, (logprob, row) in enumerate(zip(drawn.logprobs, drawn.top, strict=True), len(prompt) - 1):
            logprobs[place] = logprob
            ids[place], values[place] = [token for token, _ in row[:top]], [value for _, value in row[:top]]
        return Scores(logprobs, ids, values)

    def _along(self, tokens: Sequence[int], begin: int, top: int) -> Scores:
        """Scores of given tokens from a place on; what stands before it is not looked at."""
        logprobs, ids, values = _room(len(tokens) - 1, top)
        (found,) = self._sampler.top([tokens], [begin], self.vocabulary)
        for place in range(begin, len(tokens)):
            row = place - begin
            hit = np.flatnonzero(found.ids[row] == tokens[place])
            logprobs[place - 1] = found.logprobs[row][hit[0]] if len(hit) else -np.inf
            order = np.argsort(-found.logprobs[row])[:top]
            ids[place - 1], values[place - 1] = found.ids[row][order], found.logprobs[row][order]
        return Scores(logprobs, ids, values)


def _room(rows: int, top: int) -> tuple[FloatArray, IntArray, FloatArray]:
    return np.zeros(rows, np.float32), np.zeros((rows, top), np.int32), np.zeros((rows, top), np.float32)
