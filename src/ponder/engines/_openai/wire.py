"""The connection: one place that speaks HTTP, with a limit on everything that a server decides.

The client is `httpx2` itself and not the `openai` package. What is needed are three addresses and JSON, and the rest is
what a package hides: the deadline of a whole attempt, the size of a body before it is unpacked, the bytes of a stream,
the headers of a refusal, and no retry that nobody counts. Ponder has httpx2 anyway, through huggingface_hub.
Another client would replace this file alone.
"""

from __future__ import annotations

import asyncio
import json
import resource
import ssl
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cache
from typing import Any, NamedTuple

import httpx2

from ponder.core.offline import require_here
from ponder.core.types import Json
from ponder.engines._openai.failures import Kind, RequestFailure, failure_of
from ponder.engines._openai.keys import Key
from ponder.engines._openai.replies import read_reply
from ponder.engines._openai.served import Served
from ponder.engines._openai.streams import Assembly, Events
from ponder.engines._openai.waiting import asked_wait

MAX_BODY = 64 << 20
"""Bytes of a reply, unpacked; a larger one is no answer to a question."""
MAX_FILE = 512 << 20
"""Bytes of a file with the answers of a batch."""
MAX_ERROR = 64 << 10
"""Bytes of an error that are read."""
CONNECT_SECONDS = 20.0
DRAIN_SECONDS = 0.5
_NEVER_REACHED = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError, httpx2.UnsupportedProtocol)


class Reply(NamedTuple):
    """What came back with a good status."""

    body: bytes
    headers: Mapping[str, str]
    """Names in lower case."""


class Wire:
    """Requests to one server, inside `async with`.

    Args:
        served: Where and how.
        key: Sent with every request.
    """

    def __init__(self, served: Served, key: Key) -> None:
        self._served, self._key = served, key
        self._client: httpx2.AsyncClient | None = None

    async def __aenter__(self) -> Wire:
        """Open the client; proxies from the environment are not used for this machine's own servers."""
        require_here(self._served.host)
        most = connections(self._served.concurrency)
        self._client = httpx2.AsyncClient(
            headers={"accept-encoding": "identity", "user-agent": "ponder", **self._key.headers},
            verify=_trust() if self._served.encrypted else False,
            timeout=httpx2.Timeout(self._served.timeout, connect=min(CONNECT_SECONDS, self._served.timeout)),
            limits=httpx2.Limits(max_connections=most, max_keepalive_connections=most),
            trust_env=not self._served.loopback,
        )
        return self

    async def __aexit__(self, *details: object) -> None:
        """Close every connection."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def post(self, path: str, body: Json, seconds: float) -> Reply:
        """Send JSON and read the whole reply.

        Raises:
            RequestFailure: Whatever goes wrong; `seconds` is the time for all of it.
        """
        return await self._whole("POST", path, seconds, MAX_BODY, content=_encoded(body), headers=_JSON)

    async def get(self, path: str, seconds: float, most: int = MAX_BODY) -> Reply:
        """Read a whole reply of at most so many bytes; raises as `post` does."""
        return await self._whole("GET", path, seconds, most)

    async def upload(self, path: str, name: str, content: bytes, fields: dict[str, str], seconds: float) -> Reply:
        """Send a file as a form; raises as `post` does."""
        files = {"file": (name, content, "application/jsonl")}
        return await self._whole("POST", path, seconds, MAX_BODY, files=files, data=fields)

    async def stream(self, path: str, body: Json, seconds: float) -> tuple[Json, Mapping[str, str]]:
        """Send JSON and put a streamed reply together; also takes a reply that was not streamed after all.

        Raises:
            RequestFailure: As `post` does; with the text that had come, when there was any.
        """
        assembly, events, whole = Assembly(), Events(), bytearray()
        try:
            async with self._reply("POST", path, seconds, content=_encoded(body), headers=_JSON) as response:
                plain = "json" in response.headers.get("content-type", "")
                chunks = _unpacked(response, MAX_BODY)
                async for chunk in chunks:
                    if plain:
                        whole += chunk
                        continue
                    for data in events.feed(chunk):
                        assembly.add(data)
                    if assembly.done:
                        await _end_of(chunks)
                        break
                headers = response.headers
        except RequestFailure as failure:
            failure.partial = failure.partial or assembly.text
            raise
        if plain:
            return read_reply(bytes(whole)), headers
        return assembly.reply(), headers

    async def _whole(self, method: str, path: str, seconds: float, most: int, **content: Any) -> Reply:
        async with self._reply(method, path, seconds, **content) as response:
            parts = [chunk async for chunk in _unpacked(response, most)]
            return Reply(b"".join(parts), response.headers)

    @asynccontextmanager
    async def _reply(self, method: str, path: str, seconds: float, **content: Any) -> AsyncIterator[httpx2.Response]:
        """A reply with a good status, its body unread; every failure in here becomes a `RequestFailure`."""
        assert self._client is not None, "the wire is open inside `async with`"
        try:
            async with (
                asyncio.timeout(max(0.001, seconds)),
                self._client.stream(method, f"{self._served.url}{path}", **content) as response,
            ):
                if not 200 <= response.status_code < 300:
                    body = b"".join([chunk async for chunk in _unpacked(response, MAX_ERROR, cut=True)])
                    failure = failure_of(response.status_code, body, asked_wait(response.headers))
                    raise self._redacted(failure)
                yield response
        except RequestFailure as failure:
            raise self._redacted(failure) from None
        except TimeoutError:
            raise RequestFailure(Kind.PASSING, f"no whole reply within {seconds:.0f} s") from None
        except httpx2.HTTPError as error:
            kind = Kind.UNREACHABLE if isinstance(error, _NEVER_REACHED) else Kind.PASSING
            raise self._redacted(RequestFailure(kind, f"{type(error).__name__}: {error}"[:300])) from None
        except (OSError, httpx2.InvalidURL) as error:
            raise self._redacted(RequestFailure(Kind.UNREACHABLE, f"{type(error).__name__}: {error}"[:300])) from None

    def _redacted(self, failure: RequestFailure) -> RequestFailure:
        failure.message = self._key.redact(failure.message)
        failure.args = (failure.message,)
        return failure


_JSON = {"content-type": "application/json"}


def connections(wanted: int) -> int:
    """Connections that may be open at once: no more than half of the files that this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft // 2))


@cache
def _trust() -> ssl.SSLContext:
    """Certificates that are trusted; read once, as it takes as long as many requests."""
    return httpx2.create_ssl_context()


def _encoded(body: Json) -> bytes:
    return json.dumps(body, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()


async def _end_of(chunks: AsyncIterator[bytes]) -> None:
    """Read what stands behind the last event, so that the connection can be used again; a server may not end it."""
    with suppress(TimeoutError, httpx2.HTTPError, RequestFailure):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in chunks:
                pass


async def _unpacked(response: httpx2.Response, most: int, cut: bool = False) -> AsyncIterator[bytes]:
    """The body, unpacked here so that a small packed body cannot become a large one unnoticed.

    Raises:
        RequestFailure: If it is larger than `most` bytes (or it ends there, with `cut`), or packed in another way.
    """
    packing = response.headers.get("content-encoding", "identity").strip().lower()
    if packing not in ("identity", "gzip", "x-gzip", "deflate", ""):
        raise RequestFailure(Kind.PASSING, f"the reply is packed as {packing[:20]!r}, which was not asked for")
    unpacker = None if packing in ("identity", "") else zlib.decompressobj(zlib.MAX_WBITS | 32)
    left = most
    async for chunk in response.aiter_raw():
        try:
            part = chunk if unpacker is None else unpacker.decompress(chunk, left + 1)
        except zlib.error:
            raise RequestFailure(Kind.PASSING, "the packed reply is damaged") from None
        if len(part) > left or (unpacker is not None and unpacker.unconsumed_tail):
            if cut:
                yield part[:left]
                return
            raise RequestFailure(Kind.PASSING, f"the reply is larger than {most >> 20} MiB")
        left -= len(part)
        yield part
