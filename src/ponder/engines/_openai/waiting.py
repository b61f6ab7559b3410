"""How long to wait: what a server's headers ask for, and the growing, random waits where it says nothing."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST = 300.0
"""Seconds; a server that asks for more is asked again after this."""
FIRST, GROWTH = 1.0, 2.0
"""Seconds of the first wait without a header, and how much longer each further one is."""
_PARTS = re.compile(r"(\d{1,9}(?:\.\d{0,9})?)(ms|us|µs|ns|d|h|m|s)", re.ASCII)
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_EPOCH = 1_000_000_000
"""A number above this is a moment, not a duration."""


def asked_wait(headers: Mapping[str, str], now: datetime | None = None, refused: bool = True) -> float | None:
    """Seconds that a reply asks to wait before the next request, the longest of what it says; None: it does not say.

    Args:
        headers: Of the reply, names in lower case.
        now: The time here; the reply's own `Date` stands in for it, so that clocks need not agree.
        refused: Whether the reply was a refusal. A limit that is not used up asks for nothing otherwise.
    """
    now = _moment(headers.get("date", "")) or now or datetime.now(UTC)
    waits = [_milliseconds(headers.get("retry-after-ms", "")), seconds_of(headers.get("retry-after", ""), now)]
    for name, value in headers.items():
        if name.startswith("x-ratelimit-reset"):
            left = headers.get(name.replace("-reset", "-remaining"), "")
            if _used_up(left) or (refused and not left):
                waits.append(seconds_of(value, now))
    known = [wait for wait in waits if wait is not None]
    return min(LONGEST, max(known)) if known else None


def seconds_of(text: str, now: datetime) -> float | None:
    """Seconds of `17`, `1m30s`, `120ms`, an HTTP date, an ISO time or a Unix time; None for anything else.

    What lies in the past is 0: the wait is over.
    """
    text = text.strip()
    if not text or len(text) > 100:
        return None
    parts = _PARTS.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _UNITS[unit] for number, unit in parts)
    try:
        number = float(text)
    except ValueError:
        moment = _moment(text)
        return None if moment is None else max(0.0, (moment - now).total_seconds())
    if not math.isfinite(number) or number < 0:
        return None
    if number < _EPOCH:
        return number
    return max(0.0, (number / 1000 if number > _EPOCH * 100 else number) - now.timestamp())


def backoff(attempt: int, rng: random.Random) -> float:
    """Seconds before the next attempt when nobody says: 1, 2, 4 ... and between a half and all of it.

    Args:
        attempt: How many attempts have failed, from 1.
        rng: Spreads requests that failed together.
    """
    return min(LONGEST, FIRST * GROWTH ** min(attempt - 1, 20)) * rng.uniform(0.5, 1.0)


def _moment(text: str) -> datetime | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None


def _milliseconds(text: str) -> float | None:
    try:
        value = float(text) / 1000
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _used_up(left: str) -> bool:
    try:
        return float(left) <= 0
    except ValueError:
        return False
