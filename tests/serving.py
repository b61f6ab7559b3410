"""Ponder's server on a thread, and a client of the standard library, for the tests of serving."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from engine_models import chat, model

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

from ponder.models.load import LoadedModel  # noqa: E402
from ponder.serve.app import Service, application  # noqa: E402
from ponder.serve.binding import bind  # noqa: E402
from ponder.serve.guard import LOOPBACK_HOSTS  # noqa: E402
from ponder.serve.limits import Limits  # noqa: E402
from ponder.serve.run import _config  # noqa: E402

NAME = "tiny"
FAMILY = "qwen3"


@dataclass
class Reply:
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """Data of a stream of events, which must end as it should."""
        lines = [line for line in self.body.decode().split("\n\n") if line and not line.startswith(":")]
        assert lines[-1] == "data: [DONE]"
        return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


@dataclass
class Served:
    """A running server."""

    port: int
    service: Service
    application: Any

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            typed = {} if body is None else {"content-type": "application/json"}
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, sent, typed | names)
            found = connection.getresponse()
            return Reply(found.status, {k.lower(): v for k, v in found.getheaders()}, found.read())
        finally:
            connection.close()

    def ask(self, text: str = "x", **fields: Any) -> Reply:
        body = {"model": NAME, "messages": [{"role": "user", "content": text}], "max_tokens": 8, "seed": 1}
        body |= fields
        return self.send("POST", "/v1/chat/completions", {k: v for k, v in body.items() if v is not None})

    def raw(self, data: bytes, seconds: float = 5.0) -> bytes:
        """What comes back for bytes, up to the end of the connection or of the time."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            connection.sendall(data)
            found = b""
            try:
                while piece := connection.recv(65536):
                    found += piece
            except (TimeoutError, ConnectionResetError):
                pass
            return found


@contextmanager
def serving(limits: Limits | None = None, key: str | None = None, anyone: bool = False) -> Iterator[Served]:
    """A server over a tiny random model."""
    limits = limits or Limits()
    service = Service(LoadedModel(model(FAMILY), chat(), Path()), NAME, limits)
    app = application(service, key=key, hosts=None if anyone else LOOPBACK_HOSTS, limits=limits)
    server = uvicorn.Server(_config(app, limits))
    bound = bind("127.0.0.1", 0, key)
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    thread.start()
    try:
        yield Served(bound.getsockname()[1], service, app)
    finally:
        server.should_exit = True
        thread.join(20)
        bound.close()
    assert not thread.is_alive() and not service.worker.alive


def until(condition: Any, seconds: float = 5.0) -> bool:
    """Whether a condition comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
