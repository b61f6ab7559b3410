"""One request from its beginning to its end: counted once, and written to the audit log once."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ponder.core.types import Completion, Finish, Json
from ponder.serve.audit import Audit, fingerprint
from ponder.serve.engine import Answer
from ponder.serve.failures import Refusal
from ponder.serve.limits import Limits
from ponder.serve.metrics import Metrics
from ponder.serve.spending import Purse, Start


@dataclass(slots=True)
class Visit:
    """A request that is being answered."""

    kind: str
    key: str
    """Short name of the key that was shown."""
    start: Start
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    prompt: str = ""
    """Text of the conversation; only its hash is kept, unless the audit log is to hold it."""
    began: float = field(default_factory=time.monotonic)
    first: float | None = None
    """Seconds to the first text."""
    usage: Json = field(default_factory=dict)
    answers: list[Completion] = field(default_factory=list)
    ended: bool = False


class Visits:
    """All requests of a server.

    Args:
        limits: Of requests of one key.
        purse: Tells what they use up.
        metrics: Counts them.
        audit: Written a line for each; None: none.
    """

    def __init__(self, limits: Limits, purse: Purse, metrics: Metrics, audit: Audit | None) -> None:
        """Nobody has come."""
        self._limits, self._purse, self.metrics, self._audit = limits, purse, metrics, audit
        self._of_key: Counter[str] = Counter()

    def come(self, kind: str, key: str) -> Visit:
        """A request has come.

        Raises:
            Refusal: 429 if the holder of its key has too many under way.
        """
        visit = Visit(kind, key, self._purse.open())
        self._of_key[key] += 1
        if self._of_key[key] > self._limits.requests_per_key:
            refusal = Refusal(429, "too many requests with this key", code="key_busy", retry_after=1)
            self.refused(visit, refusal)
            raise refusal
        return visit

    def told(self, visit: Visit) -> None:
        """Some text was sent."""
        if visit.first is None:
            visit.first = time.monotonic() - visit.began
            self.metrics.first_token.observe(visit.first)

    def counted(self, visit: Visit, answers: Sequence[Answer]) -> Json:
        """Usage as clients are told it; the answers are then all there are."""
        if not visit.usage:
            visit.answers = [answer.completion for answer in answers]
            visit.usage = _tokens(visit.answers)
            details = visit.usage["prompt_tokens"], visit.usage["completion_tokens"]
            visit.usage |= self._purse.spent(visit.start, *details)
        return visit.usage

    def answered(self, visit: Visit) -> None:
        """The whole reply was sent, or given to the connection."""
        self.told(visit)
        thinking = visit.usage["completion_tokens_details"]["reasoning_tokens"]
        self.metrics.tokens["prompt"] += visit.usage["prompt_tokens"]
        self.metrics.tokens["completion"] += visit.usage["completion_tokens"]
        self.metrics.tokens["thinking"] += thinking
        self.metrics.generated(visit.usage["completion_tokens"])
        for completion in visit.answers:
            self.metrics.finishes["length" if completion.finish is Finish.LENGTH else "stop"] += 1
        self._end(visit, "answered", 200)

    def scored(self, visit: Visit, tokens: int) -> None:
        """Given tokens were scored."""
        visit.usage = {"prompt_tokens": tokens, "completion_tokens": 0}
        self.metrics.tokens["prompt"] += tokens
        self._end(visit, "scored", 200)

    def refused(self, visit: Visit, refusal: Refusal) -> None:
        """It was not answered, or not to its end."""
        self._end(visit, "failed" if refusal.status >= 500 else "refused", refusal.status, refusal.code)

    def left(self, visit: Visit) -> None:
        """The client did not wait for the end."""
        self._end(visit, "cancelled", 499)

    def close(self) -> None:
        """Nobody comes any more."""
        if self._audit is not None:
            self._audit.close()

    def _end(self, visit: Visit, outcome: str, status: int, code: str | None = None) -> None:
        if visit.ended:
            return
        visit.ended = True
        self._of_key[visit.key] -= 1
        if not self._of_key[visit.key]:
            del self._of_key[visit.key]
        seconds = time.monotonic() - visit.began
        self.metrics.requests[outcome] += 1
        self.metrics.total.observe(seconds)
        if self._audit is not None and not self._audit.write(self._row(visit, outcome, status, code, seconds)):
            self.metrics.audit_lost += 1

    def _row(self, visit: Visit, outcome: str, status: int, code: str | None, seconds: float) -> Json:
        row: Json = {
            "id": visit.id,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "kind": visit.kind,
            "key": visit.key,
            "outcome": outcome,
            "status": status,
            "code": code,
            "finish": [completion.finish.value for completion in visit.answers],
            "prompt_tokens": visit.usage.get("prompt_tokens", 0),
            "completion_tokens": visit.usage.get("completion_tokens", 0),
            "thinking_tokens": visit.usage.get("completion_tokens_details", {}).get("reasoning_tokens", 0),
            "seconds": round(seconds, 6),
            "first_token_seconds": None if visit.first is None else round(visit.first, 6),
            "prompt_sha256": fingerprint(visit.prompt) if visit.prompt else None,
            "answer_sha256": [fingerprint(completion.text) for completion in visit.answers],
        }
        if self._audit is not None and self._audit.content:
            row |= {"prompt": visit.prompt, "answers": [completion.text for completion in visit.answers]}
        return row


def _tokens(completions: Sequence[Completion]) -> Json:
    usages = [completion.usage for completion in completions]
    prompt = usages[0].prompt_tokens if usages else 0
    completion = sum(usage.completion_tokens for usage in usages)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "completion_tokens_details": {"reasoning_tokens": sum(usage.thinking_tokens for usage in usages)},
    }
