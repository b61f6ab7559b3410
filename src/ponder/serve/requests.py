"""What clients ask, read from JSON that may say anything."""

from __future__ import annotations

import json
import math
import secrets
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from ponder.core.types import Message, Sampling
from ponder.serve.budgets import Effort, Thinking
from ponder.serve.failures import Refusal
from ponder.serve.limits import MAX_STOP_CHARACTERS, MAX_STOPS, MAX_TOP, MAX_TOP_SAMPLED, Limits

UNSUPPORTED = {
    "tools": [], "tool_choice": "none", "functions": [], "logit_bias": {},
    "presence_penalty": 0, "frequency_penalty": 0, "repetition_penalty": 1, "min_p": 0, "modalities": ["text"],
    "grammar": "", "json_schema": None, "guided_json": None, "guided_regex": None, "guided_grammar": None,
    "structured_outputs": None, "chat_template": None, "chat_template_kwargs": {}, "suffix": "",
}  # fmt: skip
"""Fields that would change the answer, which this server cannot do, with the value that means nothing. Others that it
does not know (`user`, `metadata`, `store`, ...) are not read."""


ANY_OBJECT = '{"type": "object"}'
MAX_WAITS = 8


class _Asked(BaseModel):
    """A part of a request: types are taken at their word, unknown fields are not read."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


class TextPart(_Asked):
    """A piece of a message."""

    type: Literal["text"]
    text: str


class Turn(_Asked):
    """A message as OpenAI writes it."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None
    reasoning_content: str | None = None
    tool_calls: list[JsonValue] | None = Field(default=None, max_length=0)

    def message(self) -> Message:
        """The same as Ponder's templates take it."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        role = "system" if self.role == "developer" else self.role
        return Message(role=role, content=text, reasoning_content=self.reasoning_content or None)


class StreamOptions(_Asked):
    """How a streamed answer is told."""

    include_usage: bool = False


class NamedSchema(_Asked):
    """A JSON schema as OpenAI wraps it."""

    name: str | None = None
    fields: dict[str, JsonValue] = Field(alias="schema")


class ResponseFormat(_Asked):
    """What form the answer has."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema goes with the type json_schema")
        return self

    @property
    def schema_text(self) -> str | None:
        """The schema that the answer is held to, as JSON."""
        if self.json_schema is not None:
            return json.dumps(self.json_schema.fields, sort_keys=True)
        return ANY_OBJECT if self.type == "json_object" else None


class ChatRequest(_Asked):
    """`POST /v1/chat/completions`."""

    model: str
    messages: list[Turn] = Field(min_length=1)
    temperature: float | None = Field(default=None, ge=0.0, le=100.0)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    top_k: int | None = Field(default=None, ge=-1, le=2**31)
    """-1 and 0 keep the whole vocabulary."""
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    max_thinking_tokens: int | None = Field(default=None, ge=0, le=2**31)
    """Ponder's own: when the thought is this long it is closed, and the model answers."""
    reasoning_effort: Effort | None = None
    waits: int | None = Field(default=None, ge=0, le=MAX_WAITS)
    """Ponder's own: how often a thought that would close is sent on."""
    break_loops: bool | None = None
    """Ponder's own: whether a thought that repeats itself is closed."""
    best_of: int | None = Field(default=None, ge=1)
    """Ponder's own: answers that are drawn and voted on; the one of the majority is told."""
    response_format: ResponseFormat | None = None
    n: int | None = Field(default=None, ge=1)
    stop: str | list[str] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**64)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_SAMPLED)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.stops) > MAX_STOPS or any(not 0 < len(text) <= MAX_STOP_CHARACTERS for text in self.stops):
            raise ValueError(f"stop may be {MAX_STOPS} strings of 1 to {MAX_STOP_CHARACTERS} characters")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens are two names of one limit")
        if self.best_of and self.best_of > 1 and (self.stream or self.samples > 1):
            raise ValueError("best_of is a vote on one answer that is told whole: without n and stream")
        if self.reasoning_effort is not None and self.max_thinking_tokens is not None:
            raise ValueError("reasoning_effort and max_thinking_tokens are two names of one limit")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """Strings that end a completion."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def samples(self) -> int:
        """Completions that are asked for."""
        return self.n or 1

    def chosen_seed(self) -> int:
        """The request's seed, or a fresh one where it leaves it to chance."""
        return secrets.randbits(63) if self.seed is None else self.seed

    @property
    def drawn(self) -> int:
        """Completions that are drawn."""
        return max(self.samples, self.best_of or 1)

    def sampling(self, room: int | None, default_tokens: int, thinking: Thinking) -> Sampling:
        """How completions are drawn, in the room (tokens) that the prompt leaves of the context."""
        asked = self.max_completion_tokens or self.max_tokens or default_tokens
        tokens = asked if room is None else min(asked, room)
        return Sampling(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=max(0, self.top_k or 0),
            max_new_tokens=tokens,
            max_thinking_tokens=thinking.budget(self.max_thinking_tokens, self.reasoning_effort, tokens),
            waits=self.waits or 0,
            break_loops=thinking.break_loops if self.break_loops is None else self.break_loops,
            stop=self.stops,
            json_schema=None if self.response_format is None else self.response_format.schema_text,
        )


class ScoreRequest(_Asked):
    """`POST /v1/completions`, of which only the scoring of given token ids is served."""

    model: str
    prompt: list[int] | list[list[int]] = Field(min_length=1)
    echo: Literal[True]
    max_tokens: int = Field(ge=0, le=0)
    logprobs: int = Field(ge=0, le=MAX_TOP)
    return_tokens_as_token_ids: Literal[True]
    stream: Literal[False] | None = None
    n: int | None = Field(default=None, ge=1, le=1)

    @property
    def sequences(self) -> list[list[int]]:
        """Token ids of every choice."""
        if isinstance(self.prompt[0], int):
            return [self.prompt]  # type: ignore[list-item]
        return self.prompt  # type: ignore[return-value]


Asked = TypeVar("Asked", ChatRequest, ScoreRequest)


def read_chat(body: bytes, model: str, limits: Limits) -> ChatRequest:
    """A request for an answer.

    Raises:
        Refusal: 400 if it makes no sense or asks for what is not served, 404 if it asks for another model.
    """
    request = _read(ChatRequest, body, model)
    if len(request.messages) > limits.messages:
        raise Refusal(400, f"a conversation may have {limits.messages} messages", param="messages")
    if request.drawn > limits.samples:
        name = "n" if request.samples > limits.samples else "best_of"
        raise Refusal(400, f"{name} may be at most {limits.samples}", param=name)
    return request


def read_score(body: bytes, model: str, vocabulary: int, positions: int | None, limits: Limits) -> ScoreRequest:
    """A request for scores.

    Args:
        body: JSON.
        model: That is served.
        vocabulary: Its number of token ids.
        positions: Tokens of its context.
        limits: Of the server.

    Raises:
        Refusal: 400 if it makes no sense or is too large, 404 if it asks for another model.
    """
    request = _read(ScoreRequest, body, model)
    sequences = request.sequences
    if len(sequences) > limits.sequences:
        raise Refusal(400, f"a request may have {limits.sequences} sequences", param="prompt")
    if sum(map(len, sequences)) * max(1, request.logprobs) > limits.scores:
        raise Refusal(400, f"tokens times logprobs may be {limits.scores}", param="logprobs")
    for tokens in sequences:
        if not tokens:
            raise Refusal(400, "a sequence has no tokens", param="prompt")
        if min(tokens) < 0 or max(tokens) >= vocabulary:
            raise Refusal(400, f"token ids are 0 to {vocabulary - 1}", param="prompt")
        if positions is not None and len(tokens) > positions:
            raise too_long(len(tokens), positions)
    return request


def too_long(tokens: int, positions: int) -> Refusal:
    """The refusal of a prompt that the model cannot take; nothing is ever cut in silence."""
    return Refusal(
        400,
        f"the prompt has {tokens} tokens, and the model's context {positions}, an answer included",
        code="context_length_exceeded",
        param="messages",
    )


def _read(kind: type[Asked], body: bytes, model: str) -> Asked:
    fields = _json(body)
    if not isinstance(fields, dict):
        raise Refusal(400, "the body is not a JSON object")
    if isinstance(fields.get("model"), str) and fields["model"] != model:
        raise Refusal(404, f"this server has one model: {model}", code="model_not_found", param="model")
    for name, nothing in UNSUPPORTED.items():
        if name in fields and fields[name] is not None and fields[name] != nothing:
            raise Refusal(400, f"{name} is not supported here", code="unsupported_parameter", param=name)
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise Refusal(400, f"{place}: {first['msg']}" if place else first["msg"], param=place or None) from None


def _json(body: bytes) -> Any:
    """JSON without its traps: NaN, infinite numbers, repeated keys, towers of brackets, half surrogates."""
    try:
        found = json.loads(body.decode("utf-8"), parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_unique)
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        reason = f" ({error})" if isinstance(error, _NotOurs) else ""
        raise Refusal(400, f"the body is not valid JSON{reason}") from None
    return found


class _NotOurs(ValueError):
    """Something that some readers of JSON accept."""


def _refuse(constant: str) -> None:
    raise _NotOurs(f"{constant} is no number")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise _NotOurs("a number is too large")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise _NotOurs("a key is repeated")
    return found
