"""A served model as a teacher that speaks about a student's tokens: their log-probabilities, and the likeliest ones.

It is asked for scores of given token ids: `POST /completions` with `prompt` (ids), `echo`, `max_tokens` 0, `logprobs`
and `return_tokens_as_token_ids`, the form of vLLM and of Ponder's own server. It must share the student's tokenizer:
the ids that come back are compared with those that were sent.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ponder.core.errors import ConfigurationError
from ponder.core.types import FloatArray, Json, TopK, Trace
from ponder.engines._openai.failures import Kind, RequestFailure
from ponder.engines._openai.keys import key_for
from ponder.engines._openai.loop import run
from ponder.engines._openai.patience import until_answered
from ponder.engines._openai.replies import read_reply
from ponder.engines._openai.served import Served, read_served
from ponder.engines._openai.wire import Wire, connections

COMPLETIONS = "/completions"
TOKEN = "token_id:"
ROUNDING = 1e-3
"""By which a log-probability may lie above 0, and the probabilities of a row may add up to more than 1."""
_log = logging.getLogger("ponder.engines.openai")


class Scores(NamedTuple):
    """What the server said of one sequence of T tokens."""

    logprobs: FloatArray
    """(T,) nats; NaN where it did not say."""
    rows: tuple[dict[int, float], ...]
    """T rows of log-probability (nats) by token id; empty where it did not say."""


class ServedTeacher:
    """See `ponder.core.protocols.Teacher`.

    Args:
        served: The model, as a record or in one line; `concurrency`, `timeout`, `patience` and `key` count here too.
        environment: Where the key is looked for; None is the process's own.

    Raises:
        ConfigurationError: If the address, an option or the key cannot be used.
    """

    def __init__(self, served: Served | str, *, environment: Mapping[str, str] | None = None) -> None:
        self.served = served if isinstance(served, Served) else read_served(served, environment)
        self.name = self.served.name
        self._key = key_for(self.served, environment)
        self.report: dict[str, float] = {"positions": 0, "masked": 0, "mean_mass": 0.0}
        """Over all rows of `top` so far: completion tokens, those without a usable row, and the mean probability that
        the k tokens of a usable row hold together."""

    def logprobs(self, traces: Sequence[Trace]) -> list[FloatArray]:
        """See `ponder.core.protocols.Teacher`; entry 0 is NaN, because nothing stands before it."""
        return [scores.logprobs for scores in self._scores(traces, 1)]

    def top(self, traces: Sequence[Trace], k: int) -> list[TopK]:
        """See `ponder.core.protocols.Teacher`; rows of the prompt say nothing.

        Raises:
            ConfigurationError: If k is below 1, or the server does not answer in this form.
        """
        if k < 1:
            raise ConfigurationError(f"k is {k}, and must be at least 1")
        found = []
        for trace, scores in zip(traces, self._scores(traces, k), strict=True):
            start = len(trace.completion.prompt_tokens or ())
            found.append(top_of(scores.rows, k, start))
            self._count(found[-1], start)
        return found

    def _scores(self, traces: Sequence[Trace], k: int) -> list[Scores]:
        sequences = [_ids(trace) for trace in traces]
        return run(self._ask_all(sequences, k)) if sequences else []

    async def _ask_all(self, sequences: Sequence[Sequence[int]], k: int) -> list[Scores]:
        slots = asyncio.Semaphore(connections(self.served.concurrency))
        rejected: list[RequestFailure] = []
        async with Wire(self.served, self._key) as wire:

            async def one(ids: Sequence[int]) -> Scores:
                async with slots:
                    try:
                        return await self._ask(wire, ids, k)
                    except RequestFailure as failure:
                        rejected.append(failure)
                        return Scores(np.full(len(ids), np.nan, np.float32), ({},) * len(ids))

            tasks = [asyncio.create_task(one(ids)) for ids in sequences]
            try:
                found = await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        if len(rejected) == len(sequences):
            raise ConfigurationError(
                f"the server scores none of the sequences: {rejected[0].message}",
                where=self.name,
                fix="a teacher offers /v1/completions with token ids, echo and logprobs, as vLLM and ponder serve do",
            )
        if rejected:
            _log.warning("%s of %s sequences were not scored: %s", len(rejected), len(sequences), rejected[0].message)
        return list(found)

    async def _ask(self, wire: Wire, ids: Sequence[int], k: int) -> Scores:
        body: Json = {
            "model": self.served.model,
            "prompt": list(ids),
            "echo": True,
            "max_tokens": 0,
            "logprobs": k,
            "return_tokens_as_token_ids": True,
            **self.served.extra,
        }

        async def send(seconds: float) -> Scores:
            reply = await wire.post(COMPLETIONS, body, seconds)
            return scores_of(read_reply(reply.body), ids)

        return await until_answered(send, self.served, self._key)

    def _count(self, top: TopK, start: int) -> None:
        usable = top.ids[start:, 0] >= 0
        masses = np.exp(top.logprobs[start:].astype(np.float64)).sum(axis=1)[usable]
        before = self.report["positions"] - self.report["masked"]
        self.report["positions"] += len(usable)
        self.report["masked"] += int((~usable).sum())
        known = before + len(masses)
        self.report["mean_mass"] = float((self.report["mean_mass"] * before + masses.sum()) / known) if known else 0.0


def scores_of(reply: Json, ids: Sequence[int]) -> Scores:
    """The scores in a reply about these ids: what is missing, or no log-probability, is marked.

    Raises:
        RequestFailure: If there is nothing of the kind in the reply.
        ConfigurationError: If the reply is about other tokens.
    """
    choices = reply.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    told = choice.get("logprobs")
    if not isinstance(told, dict) or not isinstance(told.get("tokens"), list):
        raise RequestFailure(Kind.REJECTED, "the reply holds no log-probabilities of the prompt", status=200)
    _check_tokens(told["tokens"], ids)
    length = len(ids)
    values = [_logprob(value) for value in _listed(told.get("token_logprobs"), length)]
    rows = [_row(row) for row in _listed(told.get("top_logprobs"), length)]
    logprobs = np.array([math.nan if value is None else value for value in values], np.float32)
    if length:
        logprobs[0], rows[0] = np.nan, {}
    return Scores(logprobs, tuple(rows))


def top_of(rows: Sequence[Mapping[int, float]], k: int, start: int) -> TopK:
    """The k likeliest of each row from `start` on, and the mass of all others.

    A row whose probabilities add up to more than 1 is no distribution and says nothing.
    """
    ids = np.full((len(rows), k), -1, np.int32)
    logprobs = np.full((len(rows), k), -np.inf, np.float32)
    tail = np.zeros(len(rows), np.float32)  # a row that says nothing leaves all of the mass outside
    for place in range(start, len(rows)):
        best = sorted(rows[place].items(), key=lambda item: (-item[1], item[0]))[:k]
        mass = math.fsum(math.exp(value) for _, value in best)
        if not best or mass > 1 + ROUNDING:
            continue
        ids[place, : len(best)] = [token for token, _ in best]
        logprobs[place, : len(best)] = [value for _, value in best]
        tail[place] = math.log1p(-mass) if mass < 1 else -math.inf
    return TopK(ids, logprobs, tail)


def _ids(trace: Trace) -> list[int]:
    completion = trace.completion
    if completion.prompt_tokens is None or completion.tokens is None:
        raise ConfigurationError("a teacher is asked about tokens, and this trace has none", where=trace.problem.id)
    return [*completion.prompt_tokens, *completion.tokens]


def _check_tokens(tokens: Sequence[Any], ids: Sequence[int]) -> None:
    """The server must speak about the ids that it was sent, one by one."""
    for place, (token, sent) in enumerate(zip(tokens, ids, strict=False)):
        read = _token(token)
        if read is None:
            raise ConfigurationError(
                "the server does not name tokens by their ids, so they cannot be told apart",
                fix="it must honour return_tokens_as_token_ids, as vLLM and ponder serve do",
            )
        if read != sent:
            raise ConfigurationError(
                f"the server speaks about other tokens: at place {place} it was sent {sent} and read {read}",
                fix="serve a teacher with the student's tokenizer that adds no token in front",
            )


def _token(name: Any) -> int | None:
    number = name.removeprefix(TOKEN) if isinstance(name, str) else ""
    return int(number) if number.isascii() and number.isdigit() and len(number) < 10 else None


def _listed(values: Any, length: int) -> list[Any]:
    """As many entries as there are tokens: surplus is cut, what is missing is None."""
    listed = values[:length] if isinstance(values, list) else []
    return listed + [None] * (length - len(listed))


def _logprob(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return min(0.0, float(value)) if value <= ROUNDING else None


def _row(row: Any) -> dict[int, float]:
    if not isinstance(row, dict):
        return {}
    pairs = [(_token(name), _logprob(value)) for name, value in row.items()]
    return {token: value for token, value in pairs if token is not None and value is not None}
