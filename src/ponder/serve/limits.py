"""What one request, one client and all clients together may ask of the server."""

from __future__ import annotations

from pydantic import Field

from ponder.core.types import Record


class Limits(Record):
    """Bounds that are checked before anything is computed."""

    body_bytes: int = Field(default=8 * 2**20, ge=1)
    """Of a request; more is refused with 413."""
    body_seconds: float = Field(default=30.0, gt=0.0)
    """From the end of a request's headers to the end of its body; slower is refused with 408."""
    requests: int = Field(default=256, ge=1)
    """Accepted and not yet answered; more are refused with 429."""
    requests_per_key: int = Field(default=256, ge=1)
    """The same, of the holders of one key."""
    head_seconds: float = Field(default=20.0, gt=0.0)
    """From a request's first byte, or a connection's beginning, to the end of the headers; then it is closed."""
    read_seconds: float = Field(default=60.0, gt=0.0)
    """How long a client may read nothing of an answer that fills its connection; then it is closed."""
    connections: int = Field(default=1024, ge=1)
    """Open at once; more are refused with 503."""
    messages: int = Field(default=1000, ge=1)
    """In a conversation."""
    samples: int = Field(default=32, ge=1)
    """Completions of one request, `n`."""
    max_tokens: int = Field(default=1024, ge=1)
    """New tokens where a request does not say, as far as the model's context reaches."""
    sequences: int = Field(default=256, ge=1)
    """In one request for scores."""
    scores: int = Field(default=1_000_000, ge=1)
    """Log-probabilities in one reply: tokens times `logprobs`."""
    drain_seconds: int = Field(default=30, ge=0)
    """How long answers that have begun may go on after SIGTERM."""


MAX_TOP = 256
"""Likeliest tokens at each place of a scored sequence."""
MAX_TOP_SAMPLED = 20
"""Likeliest tokens beside each sampled one, as OpenAI allows."""
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 200
