"""The way through a server's batch files: upload, wait, collect; what a batch does not answer is asked one by one.

The journal learns of a batch before it is waited for. A batch carries a mark made of its questions, so that one that
was submitted in the instant of a kill is found again and not submitted twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from urllib.parse import quote

from ponder.core.errors import ConfigurationError, Interrupted, PonderError
from ponder.core.types import Completion, Json
from ponder.engines._openai.accounts import Account
from ponder.engines._openai.asks import Ask, request_body
from ponder.engines._openai.buying import CHAT
from ponder.engines._openai.failures import RequestFailure, error_in, parsed
from ponder.engines._openai.keys import Key
from ponder.engines._openai.patience import sleep, until_answered
from ponder.engines._openai.reasons import AGAIN
from ponder.engines._openai.replies import completions_of, read_reply
from ponder.engines._openai.served import Served
from ponder.engines._openai.wire import MAX_FILE, Reply, Wire

MOST_LINES = 5000
"""Questions of one batch."""
Result = TypeVar("Result")
_OVER = ("completed", "failed", "expired", "cancelled")
_log = logging.getLogger("ponder.engines.openai")


class Batches:
    """Buys answers through batches.

    Args:
        served: Whom to ask.
        key: Sent along.
        account: Its journal holds the batches that are under way.
    """

    def __init__(self, served: Served, key: Key, account: Account) -> None:
        self._served, self._key, self._account = served, key, account

    async def collect(self, asks: Sequence[Ask], told: Callable[[Completion], None]) -> dict[str, Completion]:
        """Answers by their keys; those that no batch gave are missing.

        Raises:
            Interrupted: If the user asked to stop, or a cap is reached; a batch that is under way goes on without us.
            ConfigurationError: If the server has no batches or refuses this one.
            ResourceError: If it cannot be reached or the key is not accepted.
        """
        found: dict[str, Completion] = {}
        by_key = {ask.keys[0]: ask for ask in asks}
        async with Wire(self._served, self._key) as wire:
            for batch in self._under_way():
                await self._finish(wire, batch, by_key, found, told)
            left = [ask for ask in asks if not all(key in found for key in ask.keys)]
            for start in range(0, len(left), MOST_LINES):
                self._account.caps.check()
                batch = await self._submit(wire, left[start : start + MOST_LINES])
                await self._finish(wire, batch, by_key, found, told)
        return found

    def _under_way(self) -> list[str]:
        """Batches that the journal knows and that are not done."""
        notes = self._account.purchases.notes
        done = {note["id"] for note in notes if note["kind"] == "batch done"}
        return [note["id"] for note in notes if note["kind"] == "batch" and note["id"] not in done]

    async def _submit(self, wire: Wire, asks: Sequence[Ask]) -> str:
        """Id of a batch of these questions, submitted now or just before a kill."""
        mark = hashlib.blake2b("\n".join(ask.keys[0] for ask in asks).encode(), digest_size=16).hexdigest()
        notes = self._account.purchases.notes
        known = {note["id"] for note in notes if note["kind"] == "batch"}
        batch = None
        if any(note["kind"] == "batch intent" and note["mark"] == mark for note in notes):
            batch = await self._marked(wire, mark, known)
        else:
            self._account.purchases.note("batch intent", mark=mark)
        if batch is None:
            batch = await self._create(wire, asks, mark)
        self._account.purchases.note("batch", id=batch, questions=len(asks))
        return batch

    async def _create(self, wire: Wire, asks: Sequence[Ask], mark: str) -> str:
        lines = [json.dumps(self._line(ask), separators=(",", ":")) for ask in asks]
        content = "\n".join(lines).encode() + b"\n"
        fields = {"purpose": "batch"}
        file = await self._call(lambda seconds: wire.upload("/files", f"{mark}.jsonl", content, fields, seconds))
        body: Json = {
            "input_file_id": _identifier(file),
            "endpoint": f"/v1{CHAT}",
            "completion_window": "24h",
            "metadata": {"ponder": mark},
        }
        known = {note["id"] for note in self._account.purchases.notes if note["kind"] == "batch"}
        tried = False

        async def create(seconds: float) -> str:
            nonlocal tried
            if tried and (made := await self._marked(wire, mark, known)) is not None:
                return made  # the reply to the attempt before was lost
            tried = True
            return _identifier(read_reply((await wire.post("/batches", body, seconds)).body))

        return await self._answered(create)

    def _line(self, ask: Ask) -> Json:
        return {
            "custom_id": ask.keys[0],
            "method": "POST",
            "url": f"/v1{CHAT}",
            "body": request_body(self._served, ask),
        }

    async def _marked(self, wire: Wire, mark: str, known: set[str]) -> str | None:
        """A batch of the server's latest that carries the mark and that the journal does not know."""
        listed = await self._call(lambda seconds: wire.get("/batches?limit=100", seconds))
        batches = listed.get("data")
        for batch in batches if isinstance(batches, list) else ():
            metadata = batch.get("metadata") if isinstance(batch, dict) else None
            if isinstance(metadata, dict) and metadata.get("ponder") == mark and batch.get("id") not in known:
                return _identifier(batch)
        return None

    async def _finish(
        self,
        wire: Wire,
        batch: str,
        asks: dict[str, Ask],
        found: dict[str, Completion],
        told: Callable[[Completion], None],
    ) -> None:
        """Wait for a batch and store what it gave."""
        state = await self._over(wire, batch)
        answered = 0
        for name in ("output_file_id", "error_file_id"):
            if not isinstance(state.get(name), str) or not state[name]:
                continue
            path = f"/files/{quote(state[name], safe='')}/content"
            content = await self._answered(lambda seconds, path=path: wire.get(path, seconds, MAX_FILE))
            for line in content.body.split(b"\n"):
                answered += self._take(line, asks, found, told)
        self._account.purchases.note("batch done", id=batch, status=str(state.get("status"))[:40], answered=answered)
        if state.get("status") == "failed":
            raise ConfigurationError(
                f"the server refused the batch: {self._key.redact(json.dumps(state.get('errors')))[:300]}",
                where=f"batch {batch} at {self._served.url}",
                fix="leave ?batch=true out to ask one by one",
            )
        if state.get("status") != "completed":
            _log.warning("batch %s ended as %s with %s answers", batch, state.get("status"), answered)

    async def _over(self, wire: Wire, batch: str) -> Json:
        """The state of a batch once it is over."""
        while True:
            state = await self._call(lambda seconds: wire.get(f"/batches/{quote(batch, safe='')}", seconds))
            if state.get("status") in _OVER:
                return state
            try:
                if self._account.caps.reached() == "seconds":
                    self._account.caps.check()
                await sleep(self._served.poll)
            except Interrupted as stop:
                raise Interrupted(
                    f"{stop.what}; batch {batch} goes on at the server", where=stop.where, fix=stop.fix or AGAIN
                ) from None

    def _take(
        self, line: bytes, asks: dict[str, Ask], found: dict[str, Completion], told: Callable[[Completion], None]
    ) -> int:
        """Store the answers of one line; how many there were. A line that failed is asked again on its own."""
        row = parsed(line)
        custom = row.get("custom_id") if isinstance(row, dict) else None
        response = row.get("response") if isinstance(row, dict) else None
        if not isinstance(custom, str) or not isinstance(response, dict) or response.get("status_code") != 200:
            return 0
        if custom in self._account.purchases:
            return 0
        ask = asks.get(custom)
        try:
            reply = read_reply(json.dumps(response.get("body")).encode())
            bought = completions_of(reply, ask.prompt_bytes if ask else 0, 0.0)
        except RequestFailure:
            return 0
        keys = ask.keys if ask else (custom,)
        completions = bought.completions[: len(keys)]
        self._account.buy(keys, completions, bought.usage)
        for key, completion in zip(keys, completions, strict=False):
            found[key] = completion
            told(completion)
        return len(completions)

    async def _call(self, send: Callable[[float], Awaitable[Reply]]) -> Json:
        """A call that answers with an object."""

        async def read(seconds: float) -> Json:
            return read_reply((await send(seconds)).body)

        return await self._answered(read)

    async def _answered(self, send: Callable[[float], Awaitable[Result]]) -> Result:
        try:
            return await until_answered(send, self._served, self._key)
        except RequestFailure as failure:
            raise self._unable(failure.message) from None
        except ConfigurationError as error:
            raise self._unable(error.what) from None

    def _unable(self, told: str) -> PonderError:
        return ConfigurationError(
            f"the server does not take batches: {told}",
            where=self._served.url,
            fix="leave ?batch=true out to ask one by one",
        )


def _identifier(reply: Json) -> str:
    name = reply.get("id")
    if not isinstance(name, str) or not name or error_in(reply):
        raise ConfigurationError("the server's reply about a file or a batch has no id")
    return name
