"""Who may ask the server, and what it refuses before anything is computed: over real sockets."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from serving import NAME, Served, serving, until

from ponder.core.errors import ConfigurationError, ResourceError  # isort: skip
from ponder.serve.limits import Limits  # isort: skip
from ponder.serve.binding import bind  # isort: skip
from ponder.serve.keys import read_keys  # isort: skip
from ponder.serve.page import PAGE_PATHS  # isort: skip

KEY = "sk-a-long-and-secret-key"
BODY = json.dumps({"model": NAME, "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}).encode()


@pytest.fixture(scope="module")
def locked() -> Iterator[Served]:
    with serving(Limits(body_bytes=20_000, body_seconds=1.0, samples=4), key=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def opened() -> Iterator[Served]:
    with serving(Limits(body_bytes=200_000, samples=4)) as running:
        yield running


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def post(path: str = "/v1/chat/completions", *headers: str, body: bytes = BODY, host: str = "localhost") -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json", "Connection: close", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


@pytest.mark.parametrize("headers", [
    (), ("Authorization: Bearer wrong",), ("Authorization: Bearer ",), (f"Authorization: Basic {KEY}",),
    (f"Authorization: {KEY}",), (f"Authorization: Bearer {KEY}", f"Authorization: Bearer {KEY}"),
    ("Authorization: Bearer wrong", f"Authorization: Bearer {KEY}"), (f"X-Api-Key: {KEY}",),
    (f"Authorization: Bearer {KEY[:-1]}",), (f"Authorization: Bearer {KEY}x",), ("Authorization: Bearer \xe9\xff",),
])  # fmt: skip
def test_only_the_key_opens(locked: Served, headers: tuple[str, ...]) -> None:
    answer = locked.raw(post("/v1/chat/completions", *headers))
    assert status(answer) in (400, 401) and KEY.encode() not in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] if status(answer) == 401 else True


def test_the_key_opens(locked: Served) -> None:
    assert status(locked.raw(post("/v1/chat/completions", f"Authorization: Bearer {KEY}"))) == 200
    assert status(locked.raw(post("/v1/chat/completions", f"authorization: bearer {KEY}"))) == 200
    long = f"Authorization: Bearer {'k' * 10**6}"
    assert status(locked.raw(post("/v1/chat/completions", long))) in (0, 400, 401, 431)


@pytest.mark.parametrize("path", [
    "/v1/models?key=" + KEY, "//v1/models", "/health/../v1/models", "/v1/../v1/models", "/v1%2fmodels",
    "/%76%31/models", "/V1/MODELS", "/v1/models/", "http://evil/v1/models", "http://localhost/health/../v1/models",
    "/health/",
    "/health%00", "/health;/v1/models", "/health?/../v1/models#", "*", "/docs", "/openapi.json", "/v1/models#/health",
])  # fmt: skip
def test_no_spelling_of_a_path_goes_round_the_key(locked: Served, path: str) -> None:
    for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT", "TRACE"):
        headers = "Host: localhost\r\nX-HTTP-Method-Override: GET\r\nConnection: close"
        answer = locked.raw(f"{method} {path} HTTP/1.1\r\n{headers}\r\n\r\n".encode())
        opened = path.startswith("/health?")
        assert status(answer) in ((200, 405) if opened else (0, 400, 401, 403, 404)), (method, answer[:200])
        assert b"max_model_len" not in answer


def test_every_route_needs_the_key_but_health_and_the_page(locked: Served) -> None:
    assert len(locked.service.routes()) >= 4
    for route in locked.application.routes:
        for method in route.methods or ():
            reply = locked.send(method, route.path)
            opened = route.path in {"/health", *PAGE_PATHS}
            assert reply.status == (200 if opened else 401), (method, route.path)


@pytest.mark.parametrize(("host", "right"), [
    ("localhost", True), ("127.0.0.1:8000", True), ("LOCALHOST:1", True), ("localhost.", True), ("[::1]:80", True),
    ("evil.example", False), ("evil.example:8000", False), ("localhost.evil.example", False), ("", False),
    ("localhost@evil", False), ("127.0.0.1.nip.io", False), ("[::2]", False),
])  # fmt: skip
def test_the_server_answers_to_its_own_names_only(opened: Served, host: str, right: bool) -> None:
    answer = opened.raw(post(host=host))
    assert status(answer) == (200 if right else 403), answer


def test_a_request_names_one_host(opened: Served) -> None:
    two = post("/v1/chat/completions", "Host: localhost")
    assert status(opened.raw(two)) == 400
    assert status(opened.raw(b"GET /v1/models HTTP/1.1\r\n\r\n")) == 400
    assert status(opened.raw(b"GET /v1/models HTTP/1.0\r\n\r\n")) == 400


def test_pages_of_other_origins_are_refused(opened: Served) -> None:
    port = opened.port
    for origin in ("http://evil.example", "null", f"http://localhost:{port + 1}", "http://localhost.evil"):
        answer = opened.raw(post("/v1/chat/completions", f"Origin: {origin}", host=f"localhost:{port}"))
        assert status(answer) == 403 and b"access-control" not in answer.lower()
    own = opened.raw(post("/v1/chat/completions", f"Origin: http://localhost:{port}", host=f"localhost:{port}"))
    assert status(own) == 200
    plain = post().replace(b"application/json", b"text/plain")  # what a form of any page can send
    assert status(opened.raw(plain)) == 415
    preflight = f"OPTIONS /v1/models HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n".encode()
    assert b"access-control" not in opened.raw(preflight).lower()


def test_bodies_are_bounded_in_size_and_time(locked: Served) -> None:
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {KEY}\r\n"
    assert status(locked.raw(f"{head}Content-Length: 999999999999\r\n\r\n".encode())) == 413
    chunks = b"2000\r\n" + b" " * 0x2000 + b"\r\n"
    answer = locked.raw(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks * 4)
    assert status(answer) == 413 and b"connection: close" in answer.lower()
    started = time.monotonic()
    assert status(locked.raw(f"{head}Content-Length: 100\r\n\r\n{{".encode(), seconds=8)) == 408
    assert time.monotonic() - started < 5
    with socket.create_connection(("127.0.0.1", locked.port)) as leaving:
        leaving.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
    zipped = post("/v1/chat/completions", f"Authorization: Bearer {KEY}", "Content-Encoding: gzip")
    assert status(locked.raw(zipped)) == 415
    assert status(locked.raw(f"{head}Content-Length: -1\r\n\r\n".encode())) == 400
    many = "".join(f"X-{i}: 1\r\n" for i in range(200)) + "Connection: close\r\n"
    assert status(locked.raw(f"GET /health HTTP/1.1\r\nHost: localhost\r\n{many}\r\n".encode())) == 400


MESSAGES = [{"role": "user", "content": "x"}]


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"model": "tiny", "messages": NaN}', b'{"a": 1e999}', b"[" * 100_000,
    b'{"a": ' + b"9" * 5000 + b"}", b'{"model": "tiny", "model": "tiny"}', b'{"a": "\\ud800"}', b'{"a": Infinity}',
    b'{"model": "tiny", "messages": [{"role": "user", "content": "\\udc00"}]}',
])  # fmt: skip
def test_bodies_that_are_no_proper_json(opened: Served, body: bytes) -> None:
    reply = opened.send("POST", "/v1/chat/completions", body)
    assert reply.status == 400 and reply.json["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("fields", [
    {"messages": []}, {"messages": None}, {"messages": "x"}, {"messages": [{"role": "user"}] * 1001},
    {"messages": [{"role": "tool", "content": "x"}]}, {"messages": [{"role": "user", "content": 5}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
    {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"id": 1}]}]},
    {"max_tokens": 0}, {"max_tokens": -1}, {"max_tokens": "5"}, {"max_tokens": 1.5}, {"max_tokens": True},
    {"max_tokens": 5, "max_completion_tokens": 6}, {"n": 0}, {"n": 5}, {"n": 10**6}, {"temperature": -1},
    {"temperature": "hot"}, {"temperature": 1e9}, {"top_p": 0}, {"top_p": 1.1}, {"top_k": -2}, {"stop": ["a"] * 10**4},
    {"stop": ""}, {"stop": ["a", 1]}, {"stop": "x" * 201}, {"seed": 2**64}, {"seed": 0.5}, {"seed": "1"},
    {"logprobs": 5}, {"logprobs": True, "top_logprobs": 21}, {"top_logprobs": 2},
    {"logprobs": True, "top_logprobs": 10**9},
    {"stream": "yes"}, {"tools": [{}]}, {"response_format": {"type": "json_schema"}},
    {"response_format": {"type": "xml"}},
    {"grammar": "root ::= x"},
    {"chat_template": "{{ 1 }}"}, {"presence_penalty": 0.5}, {"logit_bias": {"5": 100}}, {"guided_regex": "(a+)+"},
    {"model": 7}, {"model": None},
])  # fmt: skip
def test_fields_that_make_no_sense_are_named(opened: Served, fields: dict[str, Any]) -> None:
    body = {"model": NAME, "messages": MESSAGES, "max_tokens": 2} | fields
    reply = opened.send("POST", "/v1/chat/completions", body)
    assert reply.status == 400, reply.body
    error = reply.json["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]


@pytest.mark.parametrize("fields", [
    {"user": "me", "metadata": {}, "n_discard": -5, "tools": [], "presence_penalty": 0,
     "response_format": {"type": "text"}},
    {"max_tokens": None, "max_completion_tokens": 2, "stop": None, "seed": None, "n": None, "temperature": None},
    {"messages": [{"role": "system", "content": "s"}, *MESSAGES,
                  {"role": "assistant", "content": "a", "reasoning_content": "r"},
                  {"role": "developer", "content": [{"type": "text", "text": "t"}]},
                  {"role": "user", "content": "y", "name": "n"}]},
    {"temperature": 0, "top_p": 1, "top_k": -1, "seed": -5},
])  # fmt: skip
def test_what_clients_send_beside_the_point_is_borne(opened: Served, fields: dict[str, Any]) -> None:
    body = {"model": NAME, "messages": MESSAGES, "max_tokens": 2} | fields
    assert opened.send("POST", "/v1/chat/completions", body).status == 200


def test_unknown_models_routes_and_methods(opened: Served) -> None:
    other = opened.ask(model="other")
    assert other.status == 404 and other.json["error"]["code"] == "model_not_found"
    assert opened.send("GET", "/v2").json["error"]["type"] == "not_found_error"
    assert opened.send("GET", "/v1/chat/completions").status == 405
    assert [one["id"] for one in opened.send("GET", "/v1/models").json["data"]] == [NAME]


def test_a_connection_is_kept_for_the_next_request(opened: Served) -> None:
    connection = HTTPConnection("127.0.0.1", opened.port, timeout=20)
    for _ in range(3):
        connection.request("POST", "/v1/chat/completions", BODY, {"content-type": "application/json"})
        assert json.loads(connection.getresponse().read())["choices"]
    connection.close()


def test_idle_connections_keep_nobody_out(opened: Served) -> None:
    idle = [socket.create_connection(("127.0.0.1", opened.port)) for _ in range(100)]
    idle[0].sendall(b"POST /v1/chat")
    assert opened.ask().status == 200
    for connection in idle:
        connection.close()


def _unknown(*_: object, **__: object) -> None:
    raise socket.gaierror(-2, "Name or service not known")


def test_a_piece_of_a_reply_waits_for_no_acknowledgement() -> None:
    with bind("127.0.0.1", 0, False) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_addresses_that_others_reach_need_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("0.0.0.0", "::", ""):
        with pytest.raises(ConfigurationError, match="needs a key"):
            bind(host, 0, False)
    bind("0.0.0.0", 0, True).close()
    with bind("127.0.0.1", 0, False) as taken, pytest.raises(ResourceError, match="cannot listen"):
        bind("127.0.0.1", taken.getsockname()[1], False)
    with monkeypatch.context() as patched, pytest.raises(ResourceError, match="no such address"):
        patched.setattr("socket.getaddrinfo", _unknown)
        bind("no.such.host.invalid", 0, False)
    for wrong in ("", " x", "x\n", "schlüssel"):
        monkeypatch.setenv("PONDER_SERVE_KEY", wrong)
        with pytest.raises(ConfigurationError):
            read_keys()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ponder", "serve", "pocket-base", *arguments]


def environment(**extra: str) -> dict[str, str]:
    source = Path(__file__).resolve().parents[1] / "src"
    return os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"} | extra


def test_the_command_drains_on_sigterm_and_refuses_an_open_bind() -> None:
    anywhere = command("--host", "0.0.0.0", "--port", "0")
    refused = subprocess.run(anywhere, env=environment(), capture_output=True, text=True)
    assert refused.returncode == 2 and "needs a key" in refused.stderr
    process = subprocess.Popen(command("--port", "0"), env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = int(process.stdout.readline().rpartition(":")[2].partition("/")[0])
    body = {"model": "pocket-base", "messages": MESSAGES, "max_tokens": 600, "temperature": 5.0, "n": 4, "stream": True}
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
    reply = connection.getresponse()
    assert b"data:" in reply.readline()
    process.send_signal(signal.SIGTERM)
    with pytest.raises(OSError):
        assert until(lambda: HTTPConnection("127.0.0.1", port, timeout=1).connect() and False, 20)
    rest = reply.read()
    assert rest.endswith(b"data: [DONE]\n\n") and rest.count(b'"finish_reason": "') == 4
    assert process.wait(20) == 0
