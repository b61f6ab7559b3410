"""What a run says while it works: a live line in a terminal, plain lines elsewhere, JSON events for machines.

Notes and progress go to standard error, so that standard output stays free for results; `--json` events are
the result and go to standard output. Logs carry names, counts and numbers, never the text of problems: that is shown to
a person at a terminal only, because what goes into a pipe is kept by somebody.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as LiveBar
from rich.text import Text

from ponder.core.types import Json
from ponder.runs.journal import Journal, encode

Mode = Literal["live", "plain", "json", "silent"]
PLAIN_SECONDS = 15.0
"""Seconds between two lines of the same progress outside a terminal."""
JSON_SECONDS = 1.0
SHOW_TEXTS = "PONDER_SHOW_TEXTS"
"""Set to 1, texts are shown outside a terminal too."""
Field = float | int | str


class Progress:
    """How far one piece of work has come."""

    def __init__(self, log: Log, title: str, total: int | None, unit: str) -> None:
        self._log, self.title, self.total, self.unit = log, title, total, unit
        self.done = 0
        self.fields: dict[str, Field] = {}
        self._start: tuple[int, float] | None = None

    def update(self, done: int, **fields: Field) -> None:
        """Tell the absolute count that is done, and the numbers worth watching."""
        if self._start is None:
            self._start = (done if done > 1 else 0, time.monotonic())  # a resumed run starts from what it has
        self.done = done
        self.fields.update(fields)
        self._log._show(self)

    @property
    def rate(self) -> float:
        """Units per second since the first update; 0 while unknown."""
        if self._start is None:
            return 0.0
        first, began = self._start
        return (self.done - first) / max(time.monotonic() - began, 1e-9) if self.done > first else 0.0

    @property
    def line(self) -> str:
        """Everything on one line."""
        count = f"{self.done:,}" + (f"/{self.total:,}" if self.total is not None else "")
        return "  ".join(part for part in (self.title, f"{count} {self.unit}".strip(), self.details) if part)

    @property
    def details(self) -> str:
        """The watched numbers, the rate and the time that is left."""
        parts = [f"{name} {_short(value)}" for name, value in self.fields.items()]
        if self.rate and self.total is not None and self.done < self.total:
            parts.append(f"{duration((self.total - self.done) / self.rate)} left")
        return ", ".join(parts)


class Log:
    """Says things to a person, a pipe or a program, and keeps the events in a journal."""

    def __init__(self, mode: Mode = "plain", *, stream: TextIO | None = None, journal: Journal | None = None) -> None:
        """Write to `stream` (default: as the module says), and every event to `journal`."""
        self.mode: Mode = mode
        self.journal = journal
        self._stream = _Forgiving(stream or (sys.stdout if mode == "json" else sys.stderr))
        self._bar: LiveBar | None = None
        self._bar_task = None
        self._shown_at = 0.0

    @classmethod
    def silent(cls) -> Log:
        """Says nothing and keeps nothing."""
        return cls("silent")

    @classmethod
    def for_terminal(cls, *, as_json: bool = False) -> Log:
        """Live in a terminal, plain elsewhere, JSON when asked."""
        if as_json:
            return cls("json")
        return cls("live" if Console(stderr=True).is_interactive else "plain")

    @contextmanager
    def progress(self, title: str, total: int | None, unit: str = "") -> Iterator[Progress]:
        """Follow one piece of work; its duration is recorded when it ends."""
        progress = Progress(self, title, total, unit)
        began = time.monotonic()
        self._shown_at = began
        self._open_bar(progress)
        try:
            yield progress
        finally:
            self._close_bar()
        seconds = round(time.monotonic() - began, 3)
        self._record("finished", title=title, done=progress.done, seconds=seconds, **progress.fields)
        if self.mode in ("live", "plain"):
            self._say(f"{progress.line}  ({duration(seconds)})")

    def event(self, kind: str, **fields: object) -> None:
        """Record something for machines; shown only with `--json`."""
        self._record(kind, **fields)

    def note(self, text: str) -> None:
        """Tell the user something."""
        self._record("note", text=text)
        self._say(text)

    def show(self, text: Text) -> None:
        """Show a person something of their own data: no journal keeps it; pipes and `--json` leave it out."""
        if not self.shows_texts:
            return
        if self.colour:
            console = self._bar.console if self._bar is not None else Console(file=cast(TextIO, self._stream))
            console.print(text, highlight=False)
        else:
            self._say(text.plain)

    @property
    def shows_texts(self) -> bool:
        """Whether texts of problems and answers may be shown."""
        return self.mode in ("live", "plain") and may_show_texts(self._stream)

    @property
    def colour(self) -> bool:
        """Whether a person looks at a terminal that may be coloured (https://no-color.org)."""
        return self.mode == "live" and not os.environ.get("NO_COLOR")

    def warn(self, text: str) -> None:
        """Tell the user something that they should look at."""
        self._record("warning", text=text)
        self._say(f"warning: {text}")

    def _record(self, kind: str, **fields: object) -> None:
        row: Json = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": kind, **fields}
        if self.journal is not None:
            self.journal.append(row)
        if self.mode == "json":
            self._stream.write(encode(row).decode())

    def _say(self, text: str) -> None:
        if self.mode == "live" and self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        elif self.mode in ("live", "plain"):
            self._stream.write(text + "\n")

    def _show(self, progress: Progress) -> None:
        now = time.monotonic()
        if self._bar is not None and self._bar_task is not None:
            self._bar.update(self._bar_task, completed=progress.done, details=progress.details)
        elif self.mode == "plain" and now - self._shown_at >= PLAIN_SECONDS:
            self._shown_at = now
            self._stream.write(progress.line + "\n")
        elif self.mode == "json" and now - self._shown_at >= JSON_SECONDS:
            self._shown_at = now
            state = {"title": progress.title, "done": progress.done, "total": progress.total}
            self._stream.write(encode({"event": "progress", **state, **progress.fields}).decode())

    def _open_bar(self, progress: Progress) -> None:
        if self.mode != "live" or self._bar is not None:  # work inside work shares the outer line
            return
        bar = LiveBar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[details]}", markup=False),
            TimeElapsedColumn(),
            console=Console(file=cast(TextIO, self._stream)),
            refresh_per_second=4,
            transient=True,
        )
        self._bar, self._bar_task = bar, bar.add_task(progress.title, total=progress.total, details="")
        bar.start()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._bar_task = None


class _Forgiving(io.TextIOBase):
    """Writes what the stream can encode; a stream that is closed, or whose reader left, stops nothing."""

    def __init__(self, stream: TextIO | None) -> None:
        self._inner = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute in the base class
        return getattr(self._inner, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return self._inner is not None and self._inner.isatty()

    def write(self, text: str) -> int:
        if self._inner is not None:
            try:
                self._inner.write(text.encode(self.encoding, "replace").decode(self.encoding))
                self._inner.flush()
            except (OSError, ValueError):
                self._inner = None
        return len(text)


def may_show_texts(stream: TextIO | io.TextIOBase) -> bool:
    """Whether a person looks at a stream, or asked for texts in it."""
    return stream.isatty() or os.environ.get(SHOW_TEXTS, "") == "1"


def duration(seconds: float) -> str:
    """Seconds for people: `8.2 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _short(value: Field) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
