"""llama.cpp's own server inside this process, by the pinned wheel `xllamacpp`, which nothing else imports."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

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
        self._client = httpx.Client(
            base_url=self._server.listening_address,
            headers={"authorization": f"Bearer {key}"},
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
