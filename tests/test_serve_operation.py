"""Running the server: counters, the audit log, keys, votes, budgets, crashes, slow clients, changed models."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ponder.core.errors import ConfigurationError, ResourceError
from ponder.core.types import Finish
from ponder.engines._session import Session
from serving import NAME, Scripted, Served, serving, until

from ponder._cli_serve import serve_model  # isort: skip
from ponder.serve import app as app_module  # isort: skip
from ponder.serve import worker as worker_module  # isort: skip
from ponder.serve.audit import Audit  # isort: skip
from ponder.serve.budgets import Thinking  # isort: skip
from ponder.serve.keys import Keys, read_keys  # isort: skip
from ponder.serve.limits import Limits  # isort: skip
from ponder.core.parting import Parter, parted  # isort: skip
from ponder.serve.watch import Watch  # isort: skip

STOP, LENGTH = Finish.STOP, Finish.LENGTH


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as running:
        yield running


def number(served: Served, name: str, **headers: str) -> float:
    for line in served.send("GET", "/metrics", **headers).body.decode().splitlines():
        if line.startswith(name + " "):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"no {name}")


def test_metrics_count_what_was_done(served: Served) -> None:
    names = ("ponder_requests_total", "ponder_tokens_total", "ponder_request_seconds_count")
    answered, tokens, total = names[0] + '{outcome="answered"}', names[1] + '{kind="completion"}', names[2]
    before = [number(served, name) for name in (answered, tokens, total)]
    reply = served.ask(max_tokens=6)
    served.ask(temperature=-1)
    after = [number(served, name) for name in (answered, tokens, total)]
    used = reply.json["usage"]["completion_tokens"]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, used, 2]
    assert number(served, 'ponder_requests_total{outcome="refused"}') >= 1
    assert number(served, "ponder_resident_bytes") > 10**7 and number(served, "ponder_waiting_requests") == 0
    text = served.send("GET", "/metrics").body.decode()
    buckets = [line for line in text.splitlines() if line.startswith("ponder_request_seconds_bucket")]
    counts = [int(line.rpartition(" ")[2]) for line in buckets]
    assert counts == sorted(counts) and counts[-1] == number(served, total)
    assert all(line.startswith(("#", "ponder_")) for line in text.splitlines())


def test_metrics_need_the_key() -> None:
    with serving(key="one,two") as served:
        assert served.send("GET", "/metrics").status == 401
        assert served.send("GET", "/metrics", authorization="Bearer two").status == 200


def rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_audit_log_has_every_request_and_no_text(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "audit.jsonl"
    with serving(key="secret-key", audit=Audit(path)) as served:
        key = {"authorization": "Bearer secret-key"}
        body = {"model": NAME, "messages": [{"role": "user", "content": "ZZMARKER"}], "max_tokens": 4}
        reply = served.send("POST", "/v1/chat/completions", body, **key).json
        served.send("POST", "/v1/chat/completions", body | {"stream": True, "n": 2}, **key)
        served.send("POST", "/v1/chat/completions", body | {"n": 10**6}, **key)
        scores = {"model": NAME, "prompt": [1, 2, 3], "echo": True, "max_tokens": 0, "logprobs": 1}
        served.send("POST", "/v1/completions", scores | {"return_tokens_as_token_ids": True}, **key)
    found = rows(path)
    assert [row["outcome"] for row in found] == ["answered", "answered", "refused", "scored"]
    assert reply["id"] == f"chatcmpl-{found[0]['id']}"
    assert found[0]["completion_tokens"] == reply["usage"]["completion_tokens"]
    assert found[0]["prompt_sha256"] == found[1]["prompt_sha256"] and len(found[1]["answer_sha256"]) == 2
    assert {row["key"] for row in found} == {found[0]["key"]} and len(found[0]["key"]) == 8
    text = path.read_text()
    assert "ZZMARKER" not in text and "secret" not in text and '"prompt":' not in text
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_audit_log_holds_text_only_where_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text("")
    path.chmod(0o644)
    with serving(audit=Audit(path, content=True)) as served:
        served.ask("ZZMARKER")
    assert "ZZMARKER" in rows(path)[0]["prompt"] and len(rows(path)[0]["answers"]) == 1
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_audit_log_outlives_rotation_and_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "audit.jsonl"
    with serving(audit=Audit(path)) as served:
        assert served.ask().status == 200
        path.rename(tmp_path / "audit.1")
        assert served.ask().status == 200
        write = os.write

        def full(file: int, data: bytes) -> int:
            if data.startswith(b'{"id"'):
                raise OSError(28, "No space left on device")
            return write(file, data)

        with monkeypatch.context() as patch:
            patch.setattr("ponder.serve.audit.os.write", full)
            assert served.ask().status == 200
            assert number(served, "ponder_audit_lost_total") == 1
        with monkeypatch.context() as patch:  # half a line, then room again
            patch.setattr("ponder.serve.audit.os.write", lambda file, data: write(file, data[:20]))
            assert served.ask().status == 200
        assert served.ask().status == 200
    assert len(rows(tmp_path / "audit.1")) == 1
    lines = path.read_text().splitlines()
    assert [bool(line.endswith("}")) for line in lines] == [True, False, True]
    with pytest.raises(ResourceError, match="audit log"):
        Audit(tmp_path)


def test_several_keys_and_their_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text("# staff\nfirst\n\nsecond\n")
    file.chmod(0o600)
    assert read_keys(file) == ("first", "second")
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="others may read"):
        read_keys(file)
    with pytest.raises(ResourceError):
        read_keys(tmp_path / "none")
    monkeypatch.setenv("PONDER_SERVE_KEY", "a,b")
    assert read_keys() == ("a", "b") and Keys(read_keys()).holder("b") and not Keys(read_keys()).holder("a,b")
    monkeypatch.setenv("PONDER_SERVE_KEY", "a,,b")
    with pytest.raises(ConfigurationError):
        read_keys()
    engine = Scripted([("x" * 40, STOP)], pause=0.03)
    with (
        serving(Limits(requests_per_key=1), key="first,second", engine=engine) as served,
        ThreadPoolExecutor(1) as pool,
    ):
        body = {"model": NAME, "messages": [{"role": "user", "content": "x"}], "stream": True}
        running = pool.submit(served.send, "POST", "/v1/chat/completions", body, authorization="Bearer first")
        assert until(lambda: engine.asked)
        second = served.send("POST", "/v1/chat/completions", body, authorization="Bearer first")
        assert second.status == 429 and second.json["error"]["code"] == "key_busy" and "retry-after" in second.headers
        assert served.send("POST", "/v1/chat/completions", body, authorization="Bearer second").status == 200
        assert running.result().status == 200
        assert served.send("POST", "/v1/chat/completions", body, authorization="Bearer first").status == 200


def test_a_vote_is_told_as_soon_as_it_is_decided() -> None:
    texts = [(f"<think>\n{i}\n</think>\nThe answer is {7 if i != 1 else 8}.", STOP) for i in range(8)]
    engine = Scripted(texts)
    with serving(engine=engine) as served:
        reply = served.ask(best_of=8).json
        assert reply["choices"][0]["message"]["content"] == "The answer is 7."
        assert reply["choices"][0]["message"]["reasoning_content"] == "0" and len(reply["choices"]) == 1
        assert engine.asked[0].samples == 8 and engine.asked[0].cancelled
        assert 5 * len(texts[0][0]) <= reply["usage"]["completion_tokens"] <= 8 * len(texts[0][0])
        for wrong in ({"n": 2}, {"stream": True}, {"best_of": 10**6}, {"best_of": 0}):
            assert served.ask(**({"best_of": 4} | wrong)).status == 400
        no_votes = Scripted([("nothing", LENGTH), ("", STOP)])
    with serving(engine=no_votes) as served:
        assert served.ask(best_of=2).json["choices"][0]["finish_reason"] == "length"


def test_what_a_request_leaves_open_the_server_decides() -> None:
    engine = Scripted([("4", STOP)])
    with serving(engine=engine, thinking=Thinking(max_tokens=30, break_loops=True)) as served:
        for fields, budget in (
            ({}, 30), ({"max_thinking_tokens": 5}, 5), ({"reasoning_effort": "none"}, 0),
            ({"reasoning_effort": "low", "max_tokens": 100}, 20), ({"reasoning_effort": "high"}, None),
        ):  # fmt: skip
            assert served.ask(**fields).status == 200
            assert engine.asked[-1].sampling.max_thinking_tokens == budget
            assert engine.asked[-1].sampling.break_loops and engine.asked[-1].sampling.waits == 0
        served.ask(break_loops=False, waits=2)
        assert not engine.asked[-1].sampling.break_loops and engine.asked[-1].sampling.waits == 2
        for wrong in ({"waits": -1}, {"waits": 10**6}, {"break_loops": "no"}, {"reasoning_effort": "huge"},
                      {"reasoning_effort": "low", "max_thinking_tokens": 5}):  # fmt: skip
            assert served.ask(**wrong).status == 400
    assert Scripted([]).asked == []


@pytest.mark.parametrize(("text", "finish", "thought", "content", "reason"), [
    ("<think>\nI count to", LENGTH, "I count to", "", "length"),  # K15
    ("<think>\nIt is 7.", STOP, "It is 7.", "", "stop"),  # K16
    ("It is 7.", STOP, "", "It is 7.", "stop"),
    ("I count\n</think>\n\nIt is 7.", STOP, "I count", "It is 7.", "stop"),
    ("<think>\na\n</think>\n\nIt is", LENGTH, "a", "It is", "length"),
])  # fmt: skip
def test_nothing_of_an_answer_is_lost_or_taken_for_another_part(
    text: str, finish: Finish, thought: str, content: str, reason: str
) -> None:
    with serving(engine=Scripted([(text, finish)])) as served:
        choice = served.ask().json["choices"][0]
        assert choice["finish_reason"] == reason and choice["message"]["content"] == content
        assert choice["message"].get("reasoning_content", "") == thought
        events = served.ask(stream=True).events
        told = {name: "".join(event["choices"][0]["delta"].get(name, "") for event in events)
                for name in ("content", "reasoning_content")}  # fmt: skip
        if not text.startswith("I count\n"):  # a stream cannot know that a thought was open without its tag
            assert told == {"content": content, "reasoning_content": thought}


def test_an_answer_that_is_held_to_a_form_may_quote_tags() -> None:
    text = '<think>\none\n</think>\n\n{"a": "<think>no</think>"}'
    assert parted(text, held=True) == ("one", '{"a": "<think>no</think>"}')
    assert parted('{"a": "</think>"}', held=True) == ("", '{"a": "</think>"}')
    for size in (1, 2, 5, 100):
        parter, found = Parter(held=True), {True: "", False: ""}
        for piece, last in [*((text[i : i + size], False) for i in range(0, len(text), size)), ("", True)]:
            for kind, part in parter.feed(piece, last):
                found[kind] += part
        assert (found[True], found[False]) == parted(text, held=True)


def test_a_silent_stream_has_a_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "HEARTBEAT_SECONDS", 0.02)
    with serving(engine=Scripted([("1\u00e92\U0001f4a5", STOP)], pause=0.1)) as served:
        reply = served.ask(stream=True)
        assert reply.body.count(b": still thinking") >= 3 and reply.events
        assert "\u00e9" in reply.body.decode() and "\U0001f4a5" in reply.body.decode()


def test_a_crash_is_told_and_the_model_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "REST_SECONDS", 0.2)
    monkeypatch.setattr("threading.excepthook", lambda args: None)
    step = Session.step

    def dies(self: Session) -> Any:
        raise KeyError("a mistake of ours")

    with serving() as served:
        for crash in range(worker_module.RESTARTS + 1):
            monkeypatch.setattr(Session, "step", dies)
            assert served.ask().status == 503
            assert served.send("GET", "/health").status == 503
            refused = served.ask()
            assert refused.status == 503 and int(refused.headers.get("retry-after", 1)) >= 1
            monkeypatch.setattr(Session, "step", step)
            if crash < worker_module.RESTARTS:
                assert until(lambda: served.ask().status == 200, 10)
        time.sleep(0.3)
        assert served.ask().status == 503  # it has crashed too often to be trusted
        monkeypatch.setattr(Session, "step", step)


def test_a_stream_ends_with_the_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threading.excepthook", lambda args: None)
    step, steps = Session.step, []

    def dies_later(self: Session) -> Any:
        steps.append(1)
        if len(steps) == 8:
            raise KeyError("a mistake of ours")
        return step(self)

    monkeypatch.setattr(Session, "step", dies_later)
    with serving() as served:
        events = served.ask(stream=True, max_tokens=100, temperature=3.0).events
        assert events[-1]["error"]["code"] == "model_stopped"


def closed_after(connection: socket.socket, seconds: float) -> float:
    """Seconds until the server closes a connection that it sends nothing on."""
    started = time.monotonic()
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - started


def test_a_head_that_never_ends_is_closed(served: Served) -> None:
    with serving(Limits(head_seconds=0.5)) as quick:
        with socket.create_connection(("127.0.0.1", quick.port)) as silent:
            assert closed_after(silent, 5) < 3
        with socket.create_connection(("127.0.0.1", quick.port)) as dripping:
            started = time.monotonic()
            with pytest.raises(OSError):
                for letter in "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX: " + "x" * 100:
                    dripping.sendall(letter.encode())
                    time.sleep(0.05)
            assert time.monotonic() - started < 3
        assert quick.ask(max_tokens=20).status == 200
    engine = Scripted([("slow", STOP)], pause=0.3)
    with serving(Limits(head_seconds=0.5), engine=engine) as slow:  # a slow answer is not a slow head
        assert slow.ask(stream=True).events[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_client_that_never_reads_is_closed_and_cancelled() -> None:
    engine = Scripted([("x" * 12_000_000, STOP)], stride=3_000_000, pause=0.6)  # more than a connection holds
    with serving(Limits(read_seconds=0.5), engine=engine) as served:
        asked = {"model": NAME, "messages": [{"role": "user", "content": "x"}], "stream": True}
        body = json.dumps(asked).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", served.port))
            deaf.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert until(lambda: engine.asked and engine.asked[0].cancelled, 10)
            assert until(lambda: number(served, 'ponder_requests_total{outcome="cancelled"}') == 1)


def test_a_thousand_idle_sockets_keep_nobody_out() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(1000, (soft - 200) // 2)
    with serving(Limits(head_seconds=60, connections=4096)) as served:
        idle = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(count)]
        started = time.monotonic()
        assert served.ask().status == 200 and time.monotonic() - started < 5
        for connection in idle:
            connection.close()


def test_health_tells_when_the_models_files_have_changed(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"one")
    watch = Watch(tmp_path, every=0.0)
    with serving(watch=watch) as served:
        before = served.ask(seed=4).json["choices"]
        assert served.send("GET", "/health").json == {"status": "ok"}
        os.utime(tmp_path / "model.safetensors")
        assert served.send("GET", "/health").json == {"status": "ok"}  # touched, and the same
        (tmp_path / "model.safetensors").write_bytes(b"two")
        reply = served.send("GET", "/health")
        assert reply.status == 200 and "changed" in reply.json["model"]
        assert number(served, "ponder_model_changed") == 1
        assert served.ask(seed=4).json["choices"] == before
        (tmp_path / "model.safetensors").unlink()
        assert "changed" in served.send("GET", "/health").json["model"]


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    source = Path(__file__).resolve().parents[1] / "src"
    return subprocess.run(
        [sys.executable, "-m", "ponder", "serve", "pocket-base", *arguments],
        env=os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = command("--port", str(port))
        assert found.returncode == 3 and str(port) in found.stderr and "--port" in found.stderr


def test_texts_are_logged_only_into_an_audit_log() -> None:
    with pytest.raises(ConfigurationError, match="--audit"):
        serve_model("pocket-base", "127.0.0.1", 0, None, name=None, audit=None, log_content=True,
                    break_loops=False, max_thinking_tokens=None)  # fmt: skip


def test_ipv6_alone_is_enough() -> None:
    from ponder.serve.binding import bind

    try:
        bound = bind("::1", 0, False)
    except ResourceError:
        pytest.skip("this machine has no IPv6")
    with bound:
        assert bound.family == socket.AF_INET6
