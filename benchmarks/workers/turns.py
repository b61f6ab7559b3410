"""How a worker talks to the benchmark: it waits for its turn, works, and reports. Standard library only."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

Report = dict[str, Any]

_channel = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # what libraries print goes to the log, not into the channel


def case() -> dict[str, Any]:
    """What to do: the first line that is heard."""
    return json.loads(sys.stdin.readline())


def say(report: Report) -> None:
    """Send one line."""
    _channel.write(json.dumps(report) + "\n")


def ready(*packages: str) -> None:
    """Everything is loaded; says with which versions."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "source"
    say({"ready": True, "versions": found})


def wait() -> bool:
    """Wait for the next turn; False when there is none."""
    return bool(sys.stdin.readline().strip())


def peak_bytes() -> int:
    """Most memory that this process ever held, without processes of its own.

    On Linux `getrusage` begins with the memory of whoever started the process; the kernel's own mark does not.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    marks = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")]
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return marks[0] if marks else own


def take_turns(work: Callable[[], Report], *packages: str) -> None:
    """Do `work` once per turn. It returns `tokens` (or `items`), and may measure its own `seconds`."""
    ready(*packages)
    while wait():
        begin = time.perf_counter()
        report = work()
        say({"seconds": time.perf_counter() - begin, **report, "peak_bytes": peak_bytes()})


class Turns:
    """For libraries that own the loop: `begin` where a step begins, `end` where it has ended."""

    def __init__(self, *packages: str) -> None:
        self._packages, self._started = packages, 0.0
        self._first = True

    def begin(self) -> bool:
        """Wait for the turn; False when the benchmark is over."""
        if self._first:
            ready(*self._packages)
            self._first = False
        go = wait()
        self._started = time.perf_counter()
        return go

    def end(self, **report: Any) -> None:
        """Report the step."""
        say({"seconds": time.perf_counter() - self._started, **report, "peak_bytes": peak_bytes()})
