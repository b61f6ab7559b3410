"""Clients of a chat server: a number of them ask questions one after the other. Standard library only."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from itertools import islice
from threading import local
from typing import Any


class Clients:
    """Keeps a connection for each client.

    Args:
        port: Of the server, on loopback.
        clients: That ask at the same time.
        model: What the server calls it.
        max_tokens: Of an answer.
        texts: Questions, enough for every turn: one that comes again would be in a server's cache of prompts.
    """

    def __init__(self, port: int, clients: int, model: str, max_tokens: int, texts: Sequence[str]) -> None:
        """Connect when the first question is asked."""
        self._texts = iter(texts)
        self._port, self._model, self._max_tokens = port, model, max_tokens
        self._own = local()
        self._pool = ThreadPoolExecutor(clients)

    def ask(self, count: int) -> dict[str, Any]:
        """Ask the next so many questions, greedily; tokens of all answers, and the seconds that each was waited for."""
        found = list(self._pool.map(self._ask, islice(self._texts, count)))
        waited = sorted(seconds for _, seconds in found)
        return {
            "count": sum(tokens for tokens, _ in found),
            "p50_seconds": waited[len(waited) // 2],
            "p90_seconds": waited[min(len(waited) - 1, round(0.9 * len(waited)))],
        }

    def _ask(self, text: str) -> tuple[int, float]:
        if not hasattr(self._own, "connection"):
            self._own.connection = HTTPConnection("127.0.0.1", self._port, timeout=600)
        body = {
            "model": self._model, "messages": [{"role": "user", "content": text}],
            "temperature": 0, "max_tokens": self._max_tokens, "stream": False,
        }  # fmt: skip
        began = time.perf_counter()
        try:
            reply = self._reply(json.dumps(body))
        except ConnectionError:  # the server closed it between two turns, as it may: once more on a new one
            self._own.connection.close()
            reply = self._reply(json.dumps(body))
        return int(reply["usage"]["completion_tokens"]), time.perf_counter() - began

    def _reply(self, body: str) -> Any:
        connection: HTTPConnection = self._own.connection
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())
