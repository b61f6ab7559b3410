"""Stopping politely: the first signal asks, the second insists.

Long work asks `stop_requested` between steps, saves what it has and raises `Interrupted`.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from ponder.core.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NOTE = b"\nstopping after the current step; once more stops at once (the run stays resumable)\n"
_received = 0
_depth = 0


def stop_requested() -> bool:
    """Whether the user, or the system, asked this process to stop."""
    return _received > 0


def raise_if_stopped() -> None:
    """Call this between steps, when everything worth keeping is stored.

    Raises:
        Interrupted: If a stop was requested.
    """
    if stop_requested():
        raise Interrupted("stopped as asked", fix="run the same command again: it resumes")


@contextmanager
def listening() -> Iterator[None]:
    """Within this block SIGINT, SIGTERM and SIGHUP set a flag once; the second raises KeyboardInterrupt.

    Off the main thread, where signals never arrive, nothing is installed.
    """
    global _received, _depth
    if _depth or threading.current_thread() is not threading.main_thread():
        yield
        return
    _received, _depth = 0, 1
    # A run under nohup keeps ignoring the hang-up; an ignored SIGINT is still obeyed when somebody sends one.
    chosen = [name for name in _SIGNALS if name != signal.SIGHUP or signal.getsignal(name) != signal.SIG_IGN]
    before = {name: signal.signal(name, _receive) for name in chosen}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, signal.SIG_DFL if handler is None else handler)
        _received = _depth = 0


def _receive(number: int, frame: FrameType | None) -> None:
    global _received
    _received += 1
    if _received == 1:
        with suppress(OSError):  # the terminal may be gone
            os.write(2, _NOTE)
    elif _received == 2:
        raise KeyboardInterrupt
    else:
        os._exit(Interrupted.exit_code)
