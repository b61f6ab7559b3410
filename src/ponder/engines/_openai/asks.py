"""What is asked: the body of a request, and a name for each answer made of everything that decides it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from ponder.core.errors import ConfigurationError
from ponder.core.seeds import derive_seed
from ponder.core.types import Json, Messages, Sampling
from ponder.engines._openai.served import Served

SEED_BITS = 31
"""Servers read seeds as signed numbers of 32 bits, or through JSON numbers that are exact to 53."""
_NEW_LIMIT = ("api.openai.com",)
"""Hosts that call the limit `max_completion_tokens`, and refuse the older name for some models."""
_NOT_SENT = ("max_thinking_tokens", "waits", "break_loops", "commit", "json_schema")
"""Fields of `Sampling` that are not part of a request."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: the samples of one prompt that are asked for together."""

    keys: tuple[str, ...]
    """A name for each of its answers."""
    seeds: tuple[int, ...]
    """A seed for each of its answers; a request of several uses the first."""
    body: Json
    """Without `n`, `seed` and `stream`, which decide nothing about the question."""
    prompt_bytes: int
    """Length of the text of the prompt."""
    messages: Messages
    sampling: Sampling

    def single(self, index: int) -> Ask:
        """A request for one of the answers alone."""
        return Ask(
            (self.keys[index],), (self.seeds[index],), self.body, self.prompt_bytes, self.messages, self.sampling
        )


def asks_for(
    served: Served, prompts: Sequence[Messages], samples: int, samplings: Sequence[Sampling], first: int = 0
) -> list[Ask]:
    """Requests for `samples` answers to every prompt, in the order of the prompts.

    Args:
        served: Whom to ask.
        prompts: Conversations.
        samples: Answers to each.
        samplings: How they are drawn, one per prompt.
        first: Index of the first sample.

    Raises:
        ConfigurationError: If a setting cannot be passed on.
    """
    found = []
    for messages, sampling in zip(prompts, samplings, strict=True):
        body = _body(served, messages, sampling)
        named = [served.url, body, sampling.seed, "seed" in served.omit]
        fixed = json.dumps(named, sort_keys=True, separators=(",", ":"))
        size = sum(len(message.content.encode("utf-8", "replace")) for message in messages)
        for start in range(0, samples, served.n):
            indices = range(first + start, first + min(start + served.n, samples))
            found.append(
                Ask(
                    tuple(_key(fixed, index) for index in indices),
                    tuple(_seed(sampling, index) for index in indices),
                    body,
                    size,
                    messages,
                    sampling,
                )
            )
    return found


def request_body(served: Served, ask: Ask) -> Json:
    """What is sent for an ask."""
    body = dict(ask.body)
    if "seed" not in served.omit and "seed" not in served.extra:
        body["seed"] = ask.seeds[0]
    if len(ask.keys) > 1:
        body["n"] = len(ask.keys)
    if served.stream and not served.batch:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return {name: value for name, value in body.items() if name not in served.omit}


def _refuse_what_is_not_sent(served: Served, sampling: Sampling) -> None:
    """Whoever asks to steer a thought must not believe that it was steered.

    Raises:
        ConfigurationError: If the sampling asks for what only an engine can do that draws the tokens.
    """
    asked = [name for name in _NOT_SENT if getattr(sampling, name) != Sampling.model_fields[name].default]
    if asked:
        raise ConfigurationError(
            f"a served model's tokens are drawn elsewhere, so {', '.join(asked)} has no meaning here",
            where=served.name,
            fix="leave it out, or pass the server's own setting, as in extra={...}",
        )


def _body(served: Served, messages: Messages, sampling: Sampling) -> Json:
    _refuse_what_is_not_sent(served, sampling)
    limit = "max_completion_tokens" if served.host in _NEW_LIMIT else "max_tokens"
    body: Json = {
        "model": served.model,
        "messages": [{"role": message.role, "content": _sendable(message.content)} for message in messages],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        limit: sampling.max_new_tokens,
    }
    if sampling.top_k:
        body["top_k"] = sampling.top_k
    if sampling.stop:
        body["stop"] = [_sendable(mark) for mark in sampling.stop]
    if served.logprobs:
        body["logprobs"] = True
    return {name: value for name, value in (body | served.extra).items() if name not in served.omit}


def _key(fixed: str, index: int) -> str:
    """A name of 128 bits for one sample of one question."""
    return hashlib.blake2b(f"{fixed}\n{index}".encode(), digest_size=16).hexdigest()


def _seed(sampling: Sampling, index: int) -> int:
    return derive_seed(sampling.seed, "served sample", index) >> (63 - SEED_BITS)


def _sendable(text: str) -> str:
    """Half of a surrogate pair has no form on the wire."""
    return text.encode("utf-8", "replace").decode() if not text.isascii() else text
