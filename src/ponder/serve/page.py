"""Serves the chat page and its files: static, the same for everybody, and therefore without a key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ponder.page.files import INDEX, POLICY, SERVED, media_type, page_file

PAGE_PATHS = frozenset({"/", *(f"/page/{name}" for name in SERVED)})
"""Every path of the page."""
HEADERS = {
    "content-security-policy": f"{POLICY}; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-cache",
}


def page_routes() -> list[Route]:
    """A route for each file; there is no way from a path to a place on the disk."""
    return [Route(path, _sender(path), methods=["GET"]) for path in sorted(PAGE_PATHS)]


def _sender(path: str) -> Callable[[Request], Awaitable[Response]]:
    name = INDEX if path == "/" else path.rpartition("/")[2]
    content = page_file(name)

    async def send(request: Request) -> Response:
        return Response(content, media_type=media_type(name), headers=HEADERS)

    return send
