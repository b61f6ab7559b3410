"""A chat reply read as completions: text in one form, why it ended, what it counted."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ponder.core.answers import THINK_CLOSE, THINK_OPEN
from ponder.core.types import Completion, Finish, Json, Usage
from ponder.engines._openai.failures import Kind, RequestFailure, error_in, failure_of, parsed
from ponder.engines._openai.thinking import said

BYTES_PER_TOKEN = 4
"""Of text in any language, for counts that nobody gave; such counts are marked as estimated."""
_ENDS = {
    "length": Finish.LENGTH,
    "max_tokens": Finish.LENGTH,
    "content_filter": Finish.REFUSED,
    "refusal": Finish.REFUSED,
    "safety": Finish.REFUSED,
}


class Bought(NamedTuple):
    """What one request gave."""

    completions: tuple[Completion, ...]
    """As many as there were choices with an answer."""
    usage: Usage
    """Of the request."""


def read_reply(body: bytes) -> Json:
    """The object of a reply that has a good status.

    Raises:
        RequestFailure: If the body is an error after all, no JSON, or JSON of another kind.
    """
    reply = parsed(body)
    if error_in(reply):
        raise failure_of(200, body)
    if not isinstance(reply, dict):
        kind = "a web page" if body.lstrip()[:1] == b"<" else "no JSON object"
        raise RequestFailure(Kind.PASSING, f"the reply of {len(body)} bytes is {kind}", status=200)
    return reply


def completions_of(reply: Json, prompt_bytes: int, seconds: float) -> Bought:
    """Completions of a chat reply, in the order of their indices.

    Tokens that were not counted for every choice are shared out by the length of the texts, and marked as estimated.

    Args:
        reply: The object, as `read_reply` or `streams.Assembly` gives it.
        prompt_bytes: Length of the prompt's text, for a count that is missing.
        seconds: From sending to the last byte.

    Raises:
        RequestFailure: If no choice holds an answer, or a choice says that it failed.
    """
    choices = reply.get("choices")
    listed = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    ordered = sorted(listed, key=_index)
    drafts = [draft for choice in ordered if (draft := _draft(choice)) is not None]
    usage = usage_of(reply, prompt_bytes, sum(len(draft.text.encode()) for draft in drafts))
    if not drafts:
        raise RequestFailure(Kind.EMPTY, "the reply holds no answer", status=200, usage=usage.model_dump())
    model = reply["model"] if isinstance(reply.get("model"), str) else ""
    shares = _shares(usage.completion_tokens, [len(draft.text.encode()) + 1 for draft in drafts])
    return Bought(
        tuple(
            draft.model_copy(
                update={
                    "usage": _of_one(draft.text, usage, share, only=len(drafts) == 1),
                    "seconds": round(seconds, 3),
                    "model": model[:300],
                }
            )
            for draft, share in zip(drafts, shares, strict=True)
        ),
        usage,
    )


def usage_of(reply: Json, prompt_bytes: int, text_bytes: int) -> Usage:
    """Counts of a request; what the server did not say is estimated, and the record says so."""
    told = reply.get("usage")
    told = told if isinstance(told, dict) else {}
    prompt, sampled = _count(told.get("prompt_tokens")), _count(told.get("completion_tokens"))
    details = told.get("completion_tokens_details")
    thinking = _count(details.get("reasoning_tokens")) if isinstance(details, dict) else None
    return Usage(
        prompt_tokens=_guess(prompt_bytes) if prompt is None else prompt,
        completion_tokens=_guess(text_bytes) if sampled is None else sampled,
        thinking_tokens=thinking or 0,
        estimated=prompt is None or sampled is None,
    )


def _draft(choice: Json) -> Completion | None:
    """The text of a choice and why it ended; None when there is nothing in it."""
    reason = choice.get("finish_reason") or choice.get("stop_reason")
    reason = reason.lower() if isinstance(reason, str) else ""
    message = choice.get("message")
    finish = _ENDS.get(reason, Finish.STOP)
    spoken = said(message, cut=finish is Finish.LENGTH)
    refusal = message.get("refusal") if isinstance(message, dict) else None
    if reason == "error":
        raise RequestFailure(Kind.PASSING, "the server says that it failed while answering", partial=spoken.text)
    if isinstance(refusal, str) and refusal:
        return Completion(text=spoken.text or refusal.encode("utf-8", "replace").decode(), finish=Finish.REFUSED)
    if not spoken.text and finish is Finish.STOP:
        return None
    if spoken.cut and finish is Finish.STOP:
        finish = Finish.LENGTH
    return Completion(text=spoken.text, finish=finish, raw=spoken.raw, logprobs=_logprobs(choice))


def _logprobs(choice: Json) -> tuple[float, ...] | None:
    """Log-probability (nats) of every sampled token, where the server says all of them."""
    told = choice.get("logprobs")
    content = told.get("content") if isinstance(told, dict) else None
    if not isinstance(content, list) or not content:
        return None
    values = [item.get("logprob") if isinstance(item, dict) else None for item in content]
    numbers = [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]
    return tuple(numbers) if len(numbers) == len(values) else None


def _of_one(text: str, usage: Usage, sampled: int, only: bool) -> Usage:
    """Usage of one choice; tokens of the thought by its part of the text where the server does not count them."""
    thinking = usage.thinking_tokens if only else 0
    if not thinking and text.startswith(THINK_OPEN):
        end = text.rfind(THINK_CLOSE)
        inside = len(text) if end < 0 else end + len(THINK_CLOSE)
        thinking = round(sampled * inside / len(text))
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=sampled,
        thinking_tokens=min(thinking, sampled),
        estimated=usage.estimated or not only,
    )


def _shares(total: int, weights: list[int]) -> list[int]:
    """Whole numbers in proportion to the weights that add up to the total."""
    whole, given, seen = sum(weights), 0, 0
    shares = []
    for weight in weights:
        seen += weight
        shares.append(total * seen // whole - given)
        given += shares[-1]
    return shares


def _index(choice: Json) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def _guess(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)
