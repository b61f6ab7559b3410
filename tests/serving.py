"""Ponder's server on a thread, and a client of the standard library, for the tests of serving."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from engine_models import chat, model
from ponder.core.types import Completion, Finish, Messages, Sampling, Usage

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

from ponder.models.load import LoadedModel  # noqa: E402
from ponder.serve.app import Service, application  # noqa: E402
from ponder.serve.binding import bind  # noqa: E402
from ponder.serve.engine import Answer, Draw, Piece  # noqa: E402
from ponder.serve.guard import LOOPBACK_HOSTS  # noqa: E402
from ponder.serve.keys import Keys  # noqa: E402
from ponder.serve.limits import Limits  # noqa: E402
from ponder.serve.run import _config  # noqa: E402
from ponder.serve.worker import Worker  # noqa: E402

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


@dataclass
class Letters:
    """A speaker without a tokenizer: every character is a token."""

    digest: str = "letters"

    def prompt(self, messages: Messages) -> list[int]:
        return [ord(letter) for message in messages for letter in message.content]

    def spell(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))


@dataclass
class Scripted:
    """An engine that says given texts, sample by sample, a letter for each token."""

    texts: Sequence[tuple[str, Finish]]
    speaker: Letters = field(default_factory=Letters)
    positions: int | None = 1000
    vocabulary: int = 0x110000
    alive: bool = True
    waiting: int = 0
    pause: float = 0.0
    stride: int = 1
    """Letters of a piece."""
    asked: list[Draw] = field(default_factory=list)

    def check(self, sampling: Sampling) -> None:
        pass

    def submit(self, work: Draw) -> None:
        self.asked.append(work)
        threading.Thread(target=self._say, args=(work,)).start()

    def cancel(self, work: Draw) -> None:
        work.cancelled = True

    def stop(self) -> None:
        self.alive = False

    def _say(self, work: Draw) -> None:
        for sample in range(work.samples):
            text, finish = self.texts[sample % len(self.texts)]
            for end in range(self.stride, len(text) + 1, self.stride) if work.streamed else ():
                time.sleep(self.pause)
                work.tell(Piece(sample, text[:end]))
            ids = tuple(map(ord, text))
            usage = Usage(prompt_tokens=len(work.ids), completion_tokens=len(ids))
            if not work.cancelled:
                done = Completion(text=text, finish=finish, prompt_tokens=work.ids, tokens=ids, usage=usage)
                work.tell(Answer(sample, done, None))


@contextmanager
def serving(
    limits: Limits | None = None, key: str | None = None, anyone: bool = False, engine: Any = None, **options: Any
) -> Iterator[Served]:
    """A server over a tiny random model or another engine; `key` may be several, with commas."""
    limits = limits or Limits()
    engine = engine or Worker(LoadedModel(model(FAMILY), chat(), Path()), NAME, limits.requests)
    service = Service(engine, NAME, limits, **options)
    keys = Keys(key.split(",") if key else ())
    app = application(service, keys=keys, hosts=None if anyone else LOOPBACK_HOSTS, limits=limits)
    server = uvicorn.Server(_config(app, limits))
    bound = bind("127.0.0.1", 0, bool(key))
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
