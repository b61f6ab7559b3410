"""llama.cpp's own server inside this process, by the pinned wheel `xllamacpp`, which nothing else imports."""

from __future__ import annotations

import http.client
import json
import secrets
import selectors
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx

from ponder.core.errors import ConfigurationError, PonderError, ResourceError, UnloadableError
from ponder.core.types import Json
from ponder.models.gguf_header import GgufHeader

try:
    import xllamacpp
except ImportError:
    xllamacpp = None

MAX_CONTEXT = 4096
"""Tokens of a prompt and its answer together, unless more is asked for."""
TRIES = 3
"""Of a request whose connection the server closed at that moment, as it does after a hundred; each gives the same."""
SECONDS = 600.0
"""That one request may take."""
LOOK_SECONDS = 0.1
"""Between two looks at whether a completion is still waited for."""
STRIDE_SECONDS, BYTES_PER_SECOND = 0.5, 1e10
"""Text is told about so often, where the model is read from memory at such a rate for every token."""
MIN_STRIDE, MAX_STRIDE = 4, 32
"""Tokens; with fewer at a time, slots would no longer be computed together."""


class LlamaServer:
    """A model that answers on a port of the loopback interface, which only the holder of a random key can use.

    Args:
        path: A GGUF file whose header has been checked.
        header: That header.
        context: Tokens of a prompt and its answer; None: as the model has it, at most `MAX_CONTEXT`.
        slots: Requests that are answered at once.
        threads: Of arithmetic.

    Raises:
        ResourceError: If llama.cpp is not installed.
        UnloadableError: If it cannot load the file.
    """

    def __init__(self, path: Path, header: GgufHeader, context: int | None, slots: int, threads: int) -> None:
        """Load the model."""
        if xllamacpp is None:
            raise ResourceError("llama.cpp is not installed", fix="pip install 'ponder[gguf]'")
        trained = int(header.of_model("context_length"))
        self.context = min(trained, context or MAX_CONTEXT)
        self.slots = slots
        fitting = int(STRIDE_SECONDS * BYTES_PER_SECOND / path.stat().st_size)
        self.stride = max(MIN_STRIDE, min(MAX_STRIDE, fitting))
        """Tokens that are drawn in one go: by the size of the file and not by the clock, which would decide samples."""
        key = secrets.token_hex(16)
        params = xllamacpp.CommonParams()  # type: ignore[attr-defined]
        params.model.path = str(path)
        params.n_ctx, params.n_parallel = self.context * slots, slots
        params.hostnames, params.port, params.api_keys = ["127.0.0.1"], 0, [key]
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.n_threads_http = slots + 2
        params.verbosity, params.warmup, params.check_tensors, params.offline = -1, False, True, True
        params.cache_ram_mib, params.ctx_shift, params.ui = 0, False, False
        try:
            self._server = xllamacpp.Server(params)  # type: ignore[attr-defined]
        except (RuntimeError, ValueError) as error:
            raise UnloadableError(f"llama.cpp cannot load this model: {error}", where=str(path)) from error
        limits = httpx.Limits(max_connections=slots + 2, max_keepalive_connections=slots + 2)
        self._address = urlsplit(self._server.listening_address)
        self._headers = {"authorization": f"Bearer {key}"}
        self._client = httpx.Client(
            base_url=self._server.listening_address,
            headers=self._headers,
            timeout=SECONDS,
            limits=limits,
            trust_env=False,
        )

    def post(self, path: str, body: Json) -> Json:
        """One request, whole; may be called from several threads.

        Raises:
            ConfigurationError: If the server does not take it.
            PonderError: If the server fails, or was closed.
        """
        if self._server is None:
            raise PonderError("this engine is closed", where=path)
        for left in reversed(range(TRIES)):
            try:
                reply = self._client.post(path, json=body)
                return self._read(reply.status_code, reply.content, path)
            except httpx.HTTPError as error:
                if not left or not isinstance(error, httpx.RemoteProtocolError | httpx.ReadError):
                    raise PonderError(f"llama.cpp does not answer: {type(error).__name__}", where=path) from error
        raise AssertionError("the last try returns or raises")

    def complete(self, body: Json, cancelled: Callable[[], bool] | None) -> Json | None:
        """Tokens that are drawn in one go; None when nobody waits for them any more, which frees their slot at once.

        Raises:
            What `post` raises.
        """
        if cancelled is None or self._server is None:
            return self.post("/completion", body)
        connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=SECONDS)
        try:
            content = json.dumps(body).encode()
            connection.request("POST", "/completion", content, {**self._headers, "content-type": "application/json"})
            with selectors.DefaultSelector() as selector:
                selector.register(connection.sock, selectors.EVENT_READ)
                until = time.monotonic() + SECONDS
                while not selector.select(LOOK_SECONDS):
                    if cancelled():
                        return None
                    if time.monotonic() > until:
                        raise TimeoutError
            reply = connection.getresponse()
            return self._read(reply.status, reply.read(), "/completion")
        except (OSError, http.client.HTTPException) as error:
            raise PonderError(f"llama.cpp does not answer: {type(error).__name__}", where="/completion") from error
        finally:
            connection.close()

    def close(self) -> None:
        """Give the model's memory back."""
        if self._server is not None:
            self._client.close()
            self._server = None

    def _read(self, status: int, content: bytes, path: str) -> Json:
        try:
            body: Any = json.loads(content)
        except ValueError as error:
            raise PonderError("llama.cpp answered with something else than JSON", where=path) from error
        if status == 200 and isinstance(body, dict):
            return body
        found = body.get("error", body) if isinstance(body, dict) else body
        said = str(found.get("message", found) if isinstance(found, dict) else found)[:300]
        kind = ConfigurationError if 400 <= status < 500 else PonderError
        raise kind(f"llama.cpp refuses this: {said}", where=path)
