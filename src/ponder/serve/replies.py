"""What clients are answered: completions, pieces of them, and scores, in OpenAI's shapes."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ponder.core.parting import Parter, parted
from ponder.core.types import Completion, Finish, Json
from ponder.engines._scores import Scores
from ponder.serve.engine import Answer, Speaker

LOWEST = -9999.0
"""Stands for minus infinity, which JSON cannot say; the number that OpenAI uses."""
DONE = b"data: [DONE]\n\n"
HEARTBEAT = b": still thinking\n\n"
"""A comment that keeps proxies from closing a silent stream."""


@dataclass(slots=True)
class Reply:
    """One reply to a chat request, whole or in pieces."""

    model: str
    speaker: Speaker
    counted: bool = True
    """Whether a stream ends with the usage."""
    held: bool = False
    """Whether answers are held to a form: then only a leading thought is one, whatever the answer quotes."""
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))
    _parters: dict[int, Parter] = field(default_factory=dict)
    _told: dict[int, str] = field(default_factory=dict)

    def whole(self, answers: Sequence[Answer], usage: Json) -> Json:
        """All answers, in the order of the samples."""
        choices = []
        for answer in sorted(answers, key=lambda answer: answer.sample):
            thinking, content = parted(answer.completion.text, self.held)
            message: Json = {"role": "assistant", "content": content}
            if thinking:
                message["reasoning_content"] = thinking
            choices.append(
                {
                    "index": answer.sample,
                    "message": message,
                    "logprobs": self._logprobs(answer),
                    "finish_reason": _finish(answer.completion),
                }
            )
        return self._frame("chat.completion") | {"choices": choices, "usage": usage}

    def opening(self, samples: int) -> bytes:
        """The first pieces of a stream: the role of every choice."""
        return b"".join(self._piece(sample, {"role": "assistant", "content": ""}) for sample in range(samples))

    def grown(self, sample: int, text: str, last: bool = False) -> bytes:
        """Pieces for what a sample's text has grown by."""
        parter = self._parters.setdefault(sample, Parter(self.held))
        new = text[len(self._told.get(sample, "")) :]
        self._told[sample] = text
        names = {True: "reasoning_content", False: "content"}
        return b"".join(self._piece(sample, {names[kind]: piece}) for kind, piece in parter.feed(new, last))

    def ended(self, answer: Answer) -> bytes:
        """The last pieces of a sample: the rest of its text, and why it ended, with log-probabilities if asked for."""
        rest = self.grown(answer.sample, answer.completion.text, last=True)
        return rest + self._piece(answer.sample, {}, _finish(answer.completion), self._logprobs(answer))

    def closing(self, usage: Json) -> bytes:
        """The end of a stream."""
        last = self._frame("chat.completion.chunk") | {"choices": [], "usage": usage}
        return (_event(last) if self.counted else b"") + DONE

    def _frame(self, kind: str) -> Json:
        frame = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return frame | {"system_fingerprint": f"fp_{self.speaker.digest}"}

    def _piece(self, sample: int, delta: Json, finish: str | None = None, logprobs: Json | None = None) -> bytes:
        choice = {"index": sample, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        extra: Json = {"usage": None} if self.counted else {}
        return _event(self._frame("chat.completion.chunk") | {"choices": [choice]} | extra)

    def _logprobs(self, answer: Answer) -> Json | None:
        """Every sampled token, thinking and end of turn included, with its log-probability at temperature 1 (nats)."""
        scores, completion = answer.scores, answer.completion
        if scores is None:
            return None
        first = len(completion.prompt_tokens or ()) - 1
        content = []
        for row, token in enumerate(completion.tokens or (), start=first):
            top = zip(scores.top_ids[row].tolist(), scores.top_logprobs[row].tolist(), strict=True)
            entry = self._entry(token, float(scores.logprobs[row]))
            content.append(entry | {"top_logprobs": [self._entry(other, value) for other, value in top]})
        return {"content": content, "refusal": None}

    def _entry(self, token: int, logprob: float) -> Json:
        text = self.speaker.spell([token])
        return {"token": text, "token_id": token, "logprob": _number(logprob), "bytes": list(text.encode())}


def scored(model: str, speaker: Speaker, sequences: Sequence[Sequence[int]], scores: Sequence[Scores]) -> Json:
    """The reply to a request for scores: tokens are named by their ids, and the first of each has none."""
    choices = []
    for index, (tokens, found) in enumerate(zip(sequences, scores, strict=True)):
        rows = zip(found.top_ids.tolist(), found.top_logprobs.tolist(), strict=True)
        choices.append(
            {
                "index": index,
                "text": speaker.spell(tokens),
                "logprobs": {
                    "tokens": [_named(token) for token in tokens],
                    "token_logprobs": [None, *map(_number, found.logprobs.tolist())],
                    "top_logprobs": [
                        None,
                        *({_named(i): _number(v) for i, v in zip(ids, values, strict=True)} for ids, values in rows),
                    ],
                    "text_offset": None,
                },
                "finish_reason": "length",
            }
        )
    total = sum(map(len, sequences))
    frame: Json = {"id": f"cmpl-{secrets.token_hex(12)}", "object": "text_completion", "created": int(time.time())}
    usage = {"prompt_tokens": total, "completion_tokens": 0, "total_tokens": total}
    return frame | {"model": model, "system_fingerprint": f"fp_{speaker.digest}", "choices": choices, "usage": usage}


def failed(body: Json) -> bytes:
    """The end of a stream that cannot go on."""
    return _event(body) + DONE


def _event(data: Json) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False, allow_nan=False).encode() + b"\n\n"


def _finish(completion: Completion) -> str:
    return "length" if completion.finish is Finish.LENGTH else "stop"


def _named(token: int) -> str:
    return f"token_id:{token}"


def _number(logprob: float) -> float:
    return max(LOWEST, logprob)
