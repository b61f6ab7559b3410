"""Connections that cannot be held for ever: by headers that never end, or by an answer that is never read."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """uvicorn's, with two more deadlines; they are class attributes, as uvicorn makes the instances."""

    head_seconds = 20.0
    read_seconds = 60.0
    _head: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client has come: the headers of its request have a deadline."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Bytes, however few, do not move the deadline of headers that are still not whole."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._head = _cancelled(self._head)
        elif self._head is None:
            self._expect_head()

    def pause_writing(self) -> None:
        """The client does not read: the answer waits, but not for ever."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.read_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads."""
        super().resume_writing()
        self._unread = _cancelled(self._unread)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._head, self._unread = _cancelled(self._head), _cancelled(self._unread)
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._head = self.loop.call_later(self.head_seconds, self.transport.abort)


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def connection_of(head_seconds: float, read_seconds: float) -> type[Connection]:
    """The protocol for a server's limits."""
    return type("BoundedConnection", (Connection,), {"head_seconds": head_seconds, "read_seconds": read_seconds})
