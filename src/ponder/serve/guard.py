"""Who may ask: the key, the host that was meant, and how large and how slow a request may be.

It stands in front of every route and looks at the path as it is in the ASGI scope, so that no spelling of a path and no
route that is added later can be reached without passing here.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ponder.serve.failures import Refusal
from ponder.serve.keys import Keys
from ponder.serve.limits import Limits
from ponder.serve.page import PAGE_PATHS

OPEN_PATHS = frozenset({"/health"}) | PAGE_PATHS
"""Answered without a key; every other path needs it."""
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
MAX_HEADERS = 100


class Guard:
    """Refuses what must not reach the application.

    Args:
        app: What is guarded.
        keys: Clients must show one of them as a bearer token; none: everybody who reaches the socket may ask. The
            scope then holds the short name of the key that was shown as `ponder.key`.
        hosts: Names that a `Host` header may give; None: any, which needs a key.
        limits: Size and slowness of a body.
    """

    def __init__(self, app: ASGIApp, *, keys: Keys, hosts: frozenset[str] | None, limits: Limits) -> None:
        """Look at nothing yet."""
        assert keys or hosts is not None, "a server without a key must know its own name"
        self._app, self._hosts, self._limits, self._keys = app, hosts, limits, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with what is wrong."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no websockets here
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            self._check(scope)
        except Refusal as refusal:
            await refused(refusal, close=True)(scope, receive, send)
            return
        await self._app(scope, _Body(receive, self._limits), send)

    def _check(self, scope: Scope) -> None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if len(headers) > MAX_HEADERS:
            raise Refusal(400, f"more than {MAX_HEADERS} headers")
        host = self._host(headers)
        origins = _values(headers, b"origin")
        if any(origin.lower() not in (f"http://{host}", f"https://{host}") for origin in origins):
            raise Refusal(403, "a page of another origin may not use this server", code="origin_not_allowed")
        if scope["path"] not in OPEN_PATHS:
            scope["ponder.key"] = self._holder(_values(headers, b"authorization"))
        if any(value.lower() not in ("", "identity") for value in _values(headers, b"content-encoding")):
            raise Refusal(415, "compressed requests are not read", code="unsupported_encoding")
        for length in _values(headers, b"content-length"):
            if length.isdigit() and int(length[:20]) > self._limits.body_bytes:
                raise _too_large(self._limits)

    def _host(self, headers: list[tuple[bytes, bytes]]) -> str:
        """The host that was meant, with its port."""
        found = _values(headers, b"host")
        if len(found) != 1:
            raise Refusal(400, "a request names exactly one host")
        host = found[0].lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self._hosts is not None and name.removesuffix(".") not in self._hosts:
            raise Refusal(403, "this server does not go by that name", code="host_not_allowed")
        return host

    def _holder(self, given: list[str]) -> str:
        """The short name of the key that was shown; empty where none is needed."""
        if not self._keys:
            return ""
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        holder = self._keys.holder(token.strip())
        if holder is None or scheme.lower() != "bearer":
            raise Refusal(401, "this server wants its key: Authorization: Bearer KEY", code="invalid_api_key")
        return holder


class _Body:
    """Receives a request's body up to a size and a moment; afterwards only waits for the client to leave."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive, self._limits = receive, limits
        self._deadline = asyncio.get_running_loop().time() + limits.body_seconds
        self._size, self._whole = 0, False

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message: dict[str, Any] = dict(await self._receive())
        except TimeoutError:
            raise Refusal(408, "the request did not arrive in time", code="request_timeout") from None
        self._size += len(message.get("body", b""))
        if self._size > self._limits.body_bytes:
            raise _too_large(self._limits)
        self._whole = message["type"] == "http.request" and not message.get("more_body", False)
        return message


def refused(refusal: Refusal, *, close: bool = False) -> JSONResponse:
    """The reply to a request that is refused; `close` where its body was not read."""
    headers = refusal.headers | ({"connection": "close"} if close else {})
    return JSONResponse(refusal.body, refusal.status, headers)


def _too_large(limits: Limits) -> Refusal:
    return Refusal(413, f"a request may have {limits.body_bytes} bytes", code="request_too_large")


def _values(headers: list[tuple[bytes, bytes]], name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for key, value in headers if key.lower() == name]
