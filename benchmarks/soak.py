"""Many requests of all kinds to one server: its memory, open files and threads must not grow.

Whole answers, streams, streams that are left in the middle, refusals, scores and, now and then, answers that are held
to a JSON schema, from several clients at a time, over loopback.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from benchmarks.turns import publish
from ponder.core.types import Json

MODEL = "pocket-base"
LOOKS = 20
"""How often the process is looked at."""
SETTLED = 0.25
"""Share of the requests after which everything that is made once has been made."""
HEADERS = {"Content-Type": "application/json"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}


class Soak:
    """Asks one server.

    Args:
        port: On loopback.
        model: What the server calls it.
        pid: Of its process.
    """

    def __init__(self, port: int, model: str, pid: int) -> None:
        """Ask nothing yet."""
        self._port, self._model, self._pid = port, model, pid
        self.statuses: Counter[str] = Counter()

    def run(self, requests: int, clients: int) -> Json:
        """Ask that many times; what the process held at `LOOKS` moments, and what was answered."""
        looks = [self._look(0)]
        began = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            for step in range(LOOKS):
                first, last = step * requests // LOOKS, (step + 1) * requests // LOOKS
                self.statuses.update(pool.map(self._one, range(first, last)))
                looks.append(self._look(last))
        seconds = time.perf_counter() - began
        return {"requests": requests, "clients": clients, "seconds": seconds, "statuses": self.statuses, "looks": looks}

    def _one(self, number: int) -> str:
        """One request; `STATUS` or what happened to it."""
        rng = random.Random(number)
        body: dict[str, Any] = {
            "model": self._model, "messages": [{"role": "user", "content": f"What is {number} + {rng.randrange(99)}?"}],
            "max_tokens": 6, "seed": number,
        }  # fmt: skip
        kind, path = number % 10, "/v1/chat/completions"
        if kind in (3, 4):
            body |= {"stream": True, "max_tokens": 40}
        elif kind == 5:
            body |= {"n": -1}
        elif kind == 6:
            path, ids = "/v1/completions", [rng.randrange(200) for _ in range(20)]
            body = {"model": self._model, "prompt": ids, "echo": True, "max_tokens": 0, "logprobs": 2}
            body |= {"return_tokens_as_token_ids": True}
        elif kind == 7:
            body |= {"n": 2, "logprobs": True, "stop": ["zz"]}
        elif number % 100 == 8:
            form = {"name": "x", "schema": SCHEMA | {"title": f"number {number % 7}"}}
            body |= {"response_format": {"type": "json_schema", "json_schema": form}}
        connection = HTTPConnection("127.0.0.1", self._port, timeout=120)
        try:
            connection.request("POST", path, json.dumps(body), HEADERS)
            reply = connection.getresponse()
            if kind == 4:
                reply.read(10)
                return "left"
            reply.read()
            return str(reply.status)
        except (OSError, HTTPException) as error:
            return type(error).__name__
        finally:
            connection.close()

    def _look(self, requests: int) -> Json:
        """Memory, open files and threads of the process now."""
        time.sleep(0.2)  # what was left or closed is noticed
        process = Path(f"/proc/{self._pid}")
        resident = int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        files, threads = len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))
        return {"requests": requests, "resident_bytes": resident, "files": files, "threads": threads}


def growth(result: Json) -> Json:
    """From when the server had settled to the end: bytes for every thousand requests, files and threads."""
    looks = [look for look in result["looks"] if look["requests"] >= SETTLED * result["requests"]]
    first, last = looks[0], looks[-1]
    thousands = max(1e-9, (last["requests"] - first["requests"]) / 1000)
    return {
        "resident_bytes_per_1000": (last["resident_bytes"] - first["resident_bytes"]) / thousands,
        "files": last["files"] - first["files"],
        "threads": last["threads"] - first["threads"],
    }


def main() -> int:
    """Serve a model in a process of its own, and ask."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    asked = parser.parse_args()
    command = [sys.executable, "-m", "ponder", "serve", MODEL, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline().rpartition(":")[2].partition("/")[0])
        result = Soak(port, MODEL, server.pid).run(asked.requests, asked.clients)
        server.terminate()
    result |= {"model": MODEL, "growth": growth(result), "exit_code": server.returncode}
    for look in result["looks"]:
        print(f"{look['requests']:7,} requests  {look['resident_bytes'] / 2**20:7.1f} MiB"
              f"  {look['files']:3} files  {look['threads']:3} threads")  # fmt: skip
    print(f"{result['seconds']:.0f} s; {dict(result['statuses'])}; growth {result['growth']}")
    publish("soak", {MODEL: result}, asked.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
