"""The guard against connections: what it lets through, what it refuses, and that children inherit it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import ponder
from chaos_server import ChaosServer
from ponder.core import offline
from ponder.core.errors import ResourceError

ELSEWHERE = "192.0.2.1"  # RFC 5737: of nobody


def connect(host: str, kind: int = socket.SOCK_STREAM) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as made:
        made.settimeout(2)
        made.connect((host, 9))


def send(host: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.sendto(b"x", (host, 9))


@pytest.mark.parametrize(
    ("tried", "host"),
    [
        (connect, ELSEWHERE),
        (connect, "2001:db8::1"),
        (connect, "::ffff:192.0.2.1"),
        (connect, "example.invalid"),
        (send, ELSEWHERE),
        (lambda host: socket.getaddrinfo(host, 80), "example.invalid"),
        (socket.gethostbyname, "example.invalid"),
    ],
)
def test_what_leads_away_is_refused_and_noted(tried: Callable[[str], object], host: str) -> None:
    before = len(offline.attempts)
    with pytest.raises(ResourceError, match="offline: a connection to") as caught:
        tried(host)
    assert caught.value.exit_code == 3 and "--offline" in caught.value.fix
    assert offline.attempts[before:] and host in offline.attempts[-1]
    del offline.attempts[before:]  # this test meant to try


def test_this_machine_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ChaosServer() as server, socket.create_connection(("127.0.0.1", urlsplit(server.url).port), 5) as made:
        assert made.getpeername()[0] == "127.0.0.1"
    assert socket.getaddrinfo("localhost", 80) and socket.getaddrinfo(ELSEWHERE, 80), "a number is not looked up"
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as made:
        monkeypatch.chdir(tmp_path)
        listening.bind("s")
        listening.listen()
        made.connect("s")


def run(code: list[str], **changes: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != offline.VARIABLE}
    environment |= {"PYTHONPATH": str(Path(ponder.__file__).parents[1])} | changes
    return subprocess.run([sys.executable, *code], env=environment, capture_output=True, text=True, timeout=60)


def test_a_child_that_imports_ponder_inherits_the_refusal() -> None:
    tells = "import os, socket, ponder\nprint(os.environ.get('HF_HUB_OFFLINE'))\nsocket.getaddrinfo('x.invalid', 1)"
    told = run(["-c", tells], **{offline.VARIABLE: "1"})
    assert told.stdout == "1\n" and "offline: a connection to 'x.invalid'" in told.stderr
    free = "import ponder\nfrom ponder.core import offline\nprint(offline._guarding)"
    assert run(["-c", free]).stdout == "False\n"


@pytest.mark.parametrize("first", [True, False])
def test_the_option_refuses_a_served_model_at_once(first: bool, tmp_path: Path) -> None:
    asked = ["generate", "--model", f"openai:m@http://{ELSEWHERE}/v1", "--task", "arithmetic", "--problems", "2"]
    asked += ["--out", str(tmp_path / "run")]
    began = time.monotonic()
    told = run(["-m", "ponder", *(["--offline", *asked] if first else [*asked, "--offline"])])
    assert told.returncode == 3, told.stderr
    assert f"offline: a connection to '{ELSEWHERE}' was refused" in told.stderr
    assert time.monotonic() - began < 60
