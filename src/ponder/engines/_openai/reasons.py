"""Failures that end the work, as what a user reads: what the server said, and what to do about it."""

from __future__ import annotations

from ponder.core.errors import ConfigurationError, Interrupted, PonderError, ResourceError
from ponder.engines._openai.failures import Kind, RequestFailure
from ponder.engines._openai.keys import Key
from ponder.engines._openai.served import Served

AGAIN = "run the same command again: what was bought is kept"


def stops_for(failure: RequestFailure, served: Served, key: Key) -> PonderError | None:
    """The end of the work that a failure means whoever asks; None when others may go on."""
    if failure.kind is Kind.DENIED:
        told = f"the key in {key.variable} is not accepted" if key else "the server wants a key and none is set"
        return ResourceError(
            f"{told}: {failure.message}", where=served.url, fix=f"set {key.variable} in the environment and {AGAIN}"
        )
    if failure.kind is Kind.QUOTA:
        return Interrupted(
            f"the account is used up: {failure.message}", where=served.url, fix=f"top it up, or wait, and {AGAIN}"
        )
    if failure.kind is Kind.MISSING:
        return ConfigurationError(
            f"the server does not know what was asked for: {failure.message}",
            where=f"model {served.model!r} at {served.url}",
            fix=f"see which models there are: curl {served.url}/models",
        )
    return None


def endpoint_down(served: Served, failure: RequestFailure) -> PonderError:
    """No request got through."""
    return ResourceError(
        f"the server gives no answers: {failure.message}",
        where=served.url,
        fix=f"see that it runs and that the address is right, and {AGAIN}",
    )


def all_rejected(served: Served, failure: RequestFailure) -> PonderError:
    """The server takes none of the requests."""
    return ConfigurationError(
        f"the server rejects every request: {failure.message}",
        where=served.name,
        fix="if it names a field, leave that out with ?omit=FIELD; see docs/teachers.md",
    )
