"""A chat server on loopback that answers as it is told: any status, header, body, delay and cut, per request.

What it answers when it is calm is a function of (messages, seed, n), so that a run through any chaos must end as a
calm run does. It remembers what it was asked and what it delivered whole.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ponder.core.types import Message

MODEL = "teacher-1"


def user(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    order: int
    """Among all requests, from 0."""
    nth: int
    """Among the requests with the same prompt and seed, from 0."""
    path: str
    body: Any
    headers: dict[str, str]

    @property
    def prompt(self) -> str:
        return self.body["messages"][-1]["content"]


@dataclass(frozen=True)
class Act:
    """What to do instead of answering calmly."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """None: the calm answer."""
    delay: float = 0.0
    """Seconds before the first byte."""
    cut: int | None = None
    """Bytes of the body after which the connection is dropped."""
    drip: float = 0.0
    """Seconds between two bytes."""
    close: bool = False
    """Drop the connection without a reply."""


Script = Callable[[Asked], Act | None]


def error(status: int, message: str = "no", code: str = "", **headers: str) -> Act:
    body = json.dumps({"error": {"message": message, "code": code or None, "type": None}}).encode()
    return Act(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def answer_to(prompt: str, seed: int, index: int = 0) -> str:
    """The calm answer: a thought and a number."""
    digest = hashlib.sha256(f"{prompt}|{seed}|{index}".encode()).hexdigest()
    return f"<think>\nabout {digest[:12]}\n</think>\n\nThe answer is {int(digest[12:16], 16)}."


def choice(text: str, index: int = 0, finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    return {"index": index, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}


def reply(*choices: Any, usage: Any = (7, 11), model: str = MODEL) -> bytes:
    told = {"prompt_tokens": usage[0], "completion_tokens": usage[1]} if isinstance(usage, tuple) else usage
    return json.dumps({"model": model, "choices": list(choices), "usage": told}).encode()


def calm(body: Any) -> bytes:
    """The whole reply to a chat request."""
    prompt, seed = body["messages"][-1]["content"], body.get("seed", 0)
    count = body.get("n", 1)
    texts = [answer_to(prompt, seed, index) for index in range(count)]
    return reply(*(choice(text, index) for index, text in enumerate(texts)), usage=(7, 11 * count))


def events(whole: bytes, size: int = 5) -> bytes:
    """A whole reply as a stream: the text in small pieces, then why it ended, the usage and the end mark."""
    said = json.loads(whole)
    lines = [": keep-alive\n\n"]
    for each in said["choices"]:
        text = each["message"]["content"]
        for start in range(0, len(text), size):
            delta = _delta(each["index"], text[start : start + size])
            lines.append(event({"model": said["model"], "choices": [delta]}))
        end = {"index": each["index"], "delta": {}, "finish_reason": each["finish_reason"]}
        lines.append(event({"choices": [end]}))
    lines.append(event({"choices": [], "usage": said["usage"]}))
    return "".join(lines).encode() + b"data: [DONE]\n\n"


def event(piece: Any) -> str:
    return f"data: {json.dumps(piece, ensure_ascii=False)}\n\n"


def _delta(index: int, text: str) -> dict[str, Any]:
    return {"index": index, "delta": {"content": text}, "finish_reason": None}


def bomb(mebibytes: int) -> Act:
    return Act(headers={"content-encoding": "gzip"}, body=gzip.compress(b" " * (mebibytes << 20)))


class ChaosServer:
    """Use as `with ChaosServer(script) as server:`; `server.url` is its address."""

    def __init__(self, script: Script | Sequence[Act | None] | None = None) -> None:
        """A list of acts is for the first requests, in the order in which they come."""
        if script is None or callable(script):
            self.script: Script = script or (lambda asked: None)
        else:
            acts = list(script)
            self.script = lambda asked: acts[asked.order] if asked.order < len(acts) else None
        self.asked: list[Asked] = []
        self.sold: Counter[tuple[str, int]] = Counter()
        """Answers that were delivered whole, by prompt and seed."""
        self.open = self.peak = 0
        self.routes: dict[str, Callable[[Asked, bytes], tuple[int, bytes]]] = {}
        """Other paths, by method and beginning: `GET /v1/batches`."""
        self._seen: Counter[tuple[Any, ...]] = Counter()
        self._guard = threading.Lock()
        self._server = _Listener(("127.0.0.1", 0), _handler(self))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> ChaosServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *details: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def arrive(self, path: str, headers: dict[str, str], body: Any) -> Asked:
        with self._guard:
            mark = (path, json.dumps(body, sort_keys=True) if isinstance(body, dict) else str(body))
            asked = Asked(len(self.asked), self._seen[mark], path, body, headers)
            self._seen[mark] += 1
            self.asked.append(asked)
            self.open += 1
            self.peak = max(self.peak, self.open)
            return asked

    def leave(self, asked: Asked, sold: bool) -> None:
        with self._guard:
            self.open -= 1
            if sold:
                self.sold[(asked.prompt, asked.body.get("seed", 0))] += 1


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256


def _handler(server: ChaosServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            self._serve("POST", raw)

        def do_GET(self) -> None:
            self._serve("GET", b"")

        def _serve(self, method: str, raw: bytes) -> None:
            is_json = self.headers.get("content-type", "") == "application/json"
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = server.arrive(self.path, headers, json.loads(raw) if is_json else raw)
            sold = False
            try:
                for start, route in server.routes.items():
                    if f"{method} {self.path}".startswith(start):
                        self._send(*route(asked, raw), Act())
                        return
                sold = self._chat(asked)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                server.leave(asked, sold)

        def _chat(self, asked: Asked) -> bool:
            act = server.script(asked) or Act()
            time.sleep(act.delay)
            if act.close:
                self.close_connection = True
                return False
            body = act.body
            stream = bool(asked.body.get("stream")) and body is None
            if body is None:
                body = events(calm(asked.body)) if stream else calm(asked.body)
            kind = "text/event-stream" if asked.body.get("stream") and act.status == 200 else "application/json"
            self._send(act.status, body, act, kind)
            return act.status == 200 and act.body is None and act.cut is None

        def _send(self, status: int, body: bytes, act: Act, kind: str = "application/json") -> None:
            self.send_response(status)
            for name, value in {"content-type": kind, "content-length": str(len(body)), **act.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            sent = body if act.cut is None else body[: act.cut]
            if act.drip:
                for place in range(len(sent)):
                    self.wfile.write(sent[place : place + 1])
                    time.sleep(act.drip)
            else:
                self.wfile.write(sent)
            self.wfile.flush()
            if act.cut is not None:
                self.close_connection = True

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    return Handler
