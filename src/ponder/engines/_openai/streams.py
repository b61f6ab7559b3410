"""Answers that come piece by piece: server-sent events, put together to the reply that they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ponder.core.types import Json
from ponder.engines._openai.failures import Kind, RequestFailure, error_in, failure_of, parsed

DONE = b"[DONE]"
_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")


class Events:
    """Bytes in, the data of whole events out, wherever the network cut them.

    An event that repeats the `id` of the one before is the same event once more. Without ids a repeated piece cannot
    be told from a repeated word, and counts.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._id = self._last_id = b""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Data of the events that this chunk completes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            line = line.rstrip(b"\r")
            if not line:
                if self._data and not (self._id and self._id == self._last_id):
                    yield b"\n".join(self._data)
                self._last_id, self._data, self._id = self._id or self._last_id, [], b""
                continue
            field, _, value = line.partition(b":")  # a comment has an empty field
            value = value.removeprefix(b" ")
            if field == b"data":
                self._data.append(value)
            elif field == b"id":
                self._id = value


class Assembly:
    """Puts the pieces of a streamed reply together."""

    def __init__(self) -> None:
        self._reply: Json = {}
        self._choices: dict[int, Json] = {}
        self.done = False
        """Whether the server said that this was all."""

    def add(self, data: bytes) -> None:
        """Take in the data of one event.

        Raises:
            RequestFailure: If it is an error, or nothing that can be read; with the text that had come.
        """
        if data.strip() == DONE:
            self.done = True
            return
        piece = parsed(data)
        if error_in(piece):
            failure = failure_of(200, data)
            raise RequestFailure(failure.kind, failure.message, status=failure.status, partial=self.text)
        if not isinstance(piece, dict):
            raise RequestFailure(Kind.PASSING, "a piece of the stream is no JSON object", partial=self.text)
        for name in ("model", "usage"):
            if piece.get(name):
                self._reply[name] = piece[name]
        choices = piece.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._add_choice(choice)

    def reply(self) -> Json:
        """The whole reply.

        Raises:
            RequestFailure: If the stream ended before the answer did; the text goes with it as partial.
        """
        ended = bool(self._choices) and all(choice["finish_reason"] for choice in self._choices.values())
        if not (self.done or ended):
            raise RequestFailure(Kind.PASSING, "the stream was cut before its end", partial=self.text)
        return {**self._reply, "choices": [self._whole(choice) for choice in self._choices.values()]}

    @property
    def text(self) -> str:
        """What the first choice has said so far."""
        first = self._choices.get(min(self._choices, default=0), {})
        texts: dict[str, list[str]] = first.get("texts", {})
        joined = {name: "".join(parts) for name, parts in texts.items()}
        thought = joined.get("reasoning_content") or joined.get("reasoning") or ""
        answer = joined.get("content", "")
        if not thought:
            return answer
        return f"<think>\n{thought}\n</think>\n\n{answer}" if answer else f"<think>\n{thought}"

    def _add_choice(self, piece: Json) -> None:
        index = piece["index"] if isinstance(piece.get("index"), int) else 0
        choice = self._choices.setdefault(index, {"index": index, "texts": {}, "finish_reason": None, "logprobs": []})
        delta: Any = piece.get("delta")
        for name in _TEXTS if isinstance(delta, dict) else ():
            if isinstance(delta.get(name), str):
                choice["texts"].setdefault(name, []).append(delta[name])
        if isinstance(piece.get("finish_reason"), str):
            choice["finish_reason"] = piece["finish_reason"]
        told = piece.get("logprobs")
        if isinstance(told, dict) and isinstance(told.get("content"), list):
            choice["logprobs"] += told["content"]

    @staticmethod
    def _whole(choice: Json) -> Json:
        message: Json = {name: "".join(parts) for name, parts in choice["texts"].items()}
        logprobs = {"content": choice["logprobs"]} if choice["logprobs"] else None
        told = {"index": choice["index"], "finish_reason": choice["finish_reason"], "logprobs": logprobs}
        return {**told, "message": {"role": "assistant", **message}}
