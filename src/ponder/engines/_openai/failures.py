"""What can go wrong with one request, told apart by what is to be done about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

SHOWN = 300
"""Characters of a server's own message that are passed on."""
_QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance")
_QUOTA_WORDS = ("insufficient_quota", "exceeded your current quota")
_FILTER = ("content_filter", "content_policy_violation", "responsibleaipolicyviolation")
_NO_MODEL = ("model_not_found",)
_BUSY = (429, 503, 529)
_PASSING = (408, 409, 423, 425)


class Kind(StrEnum):
    """What is to be done about a failure."""

    BUSY = "busy"
    """Try again later, and ask less at once."""
    PASSING = "passing"
    """Try again."""
    UNREACHABLE = "unreachable"
    """Nothing answers at the address: try again, but not for long when nothing ever has."""
    EMPTY = "empty"
    """A reply without an answer in it: try again a few times."""
    FILTERED = "filtered"
    """The server declines this prompt."""
    REJECTED = "rejected"
    """This request is wrong and stays wrong."""
    MISSING = "missing"
    """There is no such model or address: stop."""
    DENIED = "denied"
    """The key is not accepted: stop."""
    QUOTA = "quota"
    """The account is used up: stop, to go on another day."""


class RequestFailure(Exception):
    """One attempt failed.

    Args:
        kind: What is to be done.
        message: What happened; a server's own words are cut and redacted before they get here.
        status: Of the reply; 0 when there was none.
        wait: Seconds that the server asks to wait; None when it does not say.
        partial: Text that had come until then.
        usage: What the server said it had counted all the same.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        status: int = 0,
        wait: float | None = None,
        partial: str = "",
        usage: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.kind, self.message, self.status = kind, message, status
        self.wait, self.partial, self.usage = wait, partial, usage


def kind_of(status: int, code: str) -> Kind:
    """What to do about a status and the code or type that the body names.

    A status that nobody knows is passing when it speaks of the server (5xx), and wrong otherwise.
    """
    code = code.lower()
    if any(word in code for word in _QUOTA) or status == 402:
        return Kind.QUOTA
    if any(word in code for word in _FILTER):
        return Kind.FILTERED
    if status in (401, 403, 407):
        return Kind.DENIED
    if status == 404 or any(word in code for word in _NO_MODEL) or 300 <= status < 400:
        return Kind.MISSING
    if status in _BUSY:
        return Kind.BUSY
    if status in _PASSING or status >= 500:
        return Kind.PASSING
    return Kind.REJECTED


def failure_of(status: int, body: bytes, wait: float | None = None) -> RequestFailure:
    """The failure that a reply with an error status, or with an `error` in its body, stands for."""
    error = error_in(parsed(body))
    text, code = error if error else (body[:2000].decode("utf-8", "replace"), "")
    code_status = int(code) if code.isdigit() and len(code) == 3 else 0
    if status < 400 and not (300 <= status < 400):  # an error under a good status: its own code says which
        status = code_status or _status_of(code)
    kind = kind_of(status, code)
    if kind is Kind.BUSY and any(words in text.lower() for words in _QUOTA_WORDS):
        kind = Kind.QUOTA
    return RequestFailure(kind, f"HTTP {status}: {_one_line(text)}", status=status, wait=wait)


def error_in(reply: Any) -> tuple[str, str] | None:
    """(message, code) of the `error` in a reply, in any of its spellings; None when there is none."""
    if not isinstance(reply, dict) or not (error := reply.get("error")):
        return None
    if not isinstance(error, dict):
        return str(error), ""
    named = [str(error[key]) for key in ("code", "type", "status") if error.get(key) not in (None, "")]
    if named and named[0].isdigit():
        return str(error.get("message", "")), named[0]
    return str(error.get("message") or error), " ".join(named)


def parsed(body: bytes) -> Any:
    """JSON of a body, or None: never raises."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        return None


def _status_of(code: str) -> int:
    """The status that an error under a good status should have had."""
    code = code.lower()
    if "rate_limit" in code or "overloaded" in code:
        return 429
    if "auth" in code or "permission" in code or "api_key" in code:
        return 401
    if "invalid" in code or "context_length" in code or "bad_request" in code:
        return 400
    return 500


def _one_line(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= SHOWN else words[:SHOWN] + " ..."
