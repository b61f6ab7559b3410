"""What a stage used up: time, processor time, memory, tokens and energy, over every attempt that it took.

An attempt writes what it has used so far to `ledger.jsonl` in the stage's folder, first after a second and
then ever more rarely, so that a process that is killed loses at most five seconds or a fiftieth of its
attempt. An attempt that resumes begins rows of its own, and the total is the sum of the last row of each. The
file depends on the clock; nothing that must be reproducible is made from it. Whatever goes wrong in here stops
no run: the ledger then says less.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from pydantic import Field, ValidationError

from ponder.core.errors import Interrupted, PonderError
from ponder.core.types import Completion, Json, Record
from ponder.runs.journal import Journal

LEDGER = "ledger.jsonl"
POLL_SECONDS = 1.0
"""Between two looks at the counters; short enough for peaks of memory, and for energy counters that wrap."""
ROW_SECONDS, ROW_SHARE = 5.0, 0.02
"""A row is written when the attempt grew by this many seconds, or by this share when that is more."""
State = Literal["running", "done", "stopped", "failed"]


class Energy(Record):
    """What one source says of the energy that was used."""

    source: str
    """`rapl`, `nvml`, `battery` or `estimate`."""
    covers: str
    """Which parts of the machine."""
    origin: Literal["measured", "estimated"]
    joules: float | None = Field(ge=0.0)
    """Idle included; None when a reading was lost."""
    idle_watts: float | None = Field(default=None, ge=0.0)
    """What the same parts drew before the work began; None: not known, so nothing is subtracted."""
    assumption: str = ""
    """What the figure rests on beside the counter."""

    def net(self, seconds: float) -> float | None:
        """Joules above what the idle machine would have used in that time; None where either is unknown."""
        if self.joules is None or self.idle_watts is None:
            return None
        return max(0.0, self.joules - self.idle_watts * seconds)


class Spent(Record):
    """What a stretch of work used up."""

    seconds: float = Field(default=0.0, ge=0.0)
    cpu_seconds: float = Field(default=0.0, ge=0.0)
    """Of this process and of its children that have ended."""
    peak_memory_bytes: int | None = None
    """Of this process."""
    energy: tuple[Energy, ...] = ()


class Tokens(Record):
    """Tokens that went through models."""

    prompt: int = 0
    """Read, counted for every completion."""
    sampled: int = 0
    """Generated."""
    trained: int = 0
    """Learnt from, counted as often as they were."""
    scored: int = 0
    """Read by a teacher or a reference."""


class Attempt(Record):
    """A row: what an attempt has used so far."""

    attempt: int = Field(ge=1)
    at: str
    state: State
    spent: Spent
    tokens: Tokens


class Ledger:
    """Keeps the account of one attempt while its block runs.

    Args:
        folder: Of the stage.
        spent: Tells what was used since the attempt began; called from a thread too.
        warn: Told once when the account cannot be kept.
        poll_seconds: Between two looks; 0 looks only at the ends.
    """

    def __init__(
        self,
        folder: Path,
        spent: Callable[[], Spent],
        warn: Callable[[str], None] = lambda text: None,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        """Nothing is written before the block begins."""
        self._path, self._spent, self._warn, self._poll = folder / LEDGER, spent, warn, poll_seconds
        self._journal: Journal | None = None
        self._number, self._peak, self._row_at = 1, 0, 0.0
        self._tokens: dict[str, int] = dict.fromkeys(Tokens.model_fields, 0)
        self._guard, self._over = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Begin an attempt."""
        with self._guard:
            self._safely(self._begin)
        _open.append(self)
        if self._poll > 0:
            self._thread = threading.Thread(target=self._watch, name="ponder-ledger", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, whatever happened inside."""
        _open.remove(self)
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        stopped = isinstance(error, Interrupted | KeyboardInterrupt)
        with self._guard:
            self._safely(self._write, "done" if error is None else "stopped" if stopped else "failed")
            if self._journal is not None:
                self._safely(self._journal.sync)

    def add(self, counts: dict[str, int]) -> None:
        """Count tokens."""
        with self._guard:
            for name, count in counts.items():
                self._tokens[name] += count

    def look(self) -> None:
        """Read the counters now, and write a row when one is due."""
        with self._guard:
            self._safely(self._look)

    def _begin(self) -> None:
        journal = Journal(self._path)
        self._number = 1 + max((row.attempt for row in read_attempts(self._path.parent)), default=0)
        self._journal = journal
        self._write("running")

    def _look(self) -> None:
        spent = self._read()
        if spent.seconds >= self._row_at:
            self._write("running", spent)

    def _read(self) -> Spent:
        spent = self._spent()
        self._peak = max(self._peak, spent.peak_memory_bytes or 0)
        return spent.model_copy(update={"peak_memory_bytes": self._peak or None})

    def _write(self, state: State, spent: Spent | None = None) -> None:
        if self._journal is None:
            return
        spent = spent or self._read()
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        row = Attempt(attempt=self._number, at=at, state=state, spent=spent, tokens=Tokens(**self._tokens))
        first = POLL_SECONDS if spent.seconds < POLL_SECONDS else ROW_SECONDS
        self._row_at = spent.seconds + max(first, ROW_SHARE * spent.seconds)
        self._journal.append(row.model_dump(mode="json"))

    def _watch(self) -> None:
        while not self._over.wait(self._poll):
            self.look()

    def _safely(self, action: Callable[..., None], *arguments: object) -> None:
        try:
            action(*arguments)
        except Exception as error:
            self._journal = None
            message = error.what if isinstance(error, PonderError) else f"{type(error).__name__}: {error}"
            warn, self._warn = self._warn, lambda text: None
            warn(f"what this stage uses up is no longer recorded: {message}")


_open: list[Ledger] = []
"""Ledgers of this process whose block is running; the last one counts."""


def count_tokens(*, prompt: int = 0, sampled: int = 0, trained: int = 0, scored: int = 0) -> None:
    """Put tokens on the account of the stage that is running; nothing happens outside one."""
    if _open:
        _open[-1].add({"prompt": prompt, "sampled": sampled, "trained": trained, "scored": scored})


def count_completions(groups: Iterable[Sequence[Completion]]) -> Tokens:
    """Put what was read and generated on the account of the stage that is running, and return it."""
    usages = [completion.usage for group in groups for completion in group]
    tokens = Tokens(
        prompt=sum(usage.prompt_tokens for usage in usages), sampled=sum(usage.completion_tokens for usage in usages)
    )
    count_tokens(prompt=tokens.prompt, sampled=tokens.sampled)
    return tokens


def look_at_counters() -> None:
    """Have the running stage's ledger read its counters now, before one of them is reset."""
    if _open:
        _open[-1].look()


def read_attempts(folder: Path) -> list[Attempt]:
    """The last row of every attempt, in order; rows that make no sense are left out."""
    found: dict[int, Attempt] = {}
    for row in _rows(folder / LEDGER):
        found[row.attempt] = row
    return [found[number] for number in sorted(found)]


def total(attempts: list[Attempt]) -> Json | None:
    """What all attempts used together; None when there was none.

    Energy is added by source. A source of which one attempt is unknown is unknown, and so is the net of one
    that was measured without knowing its idle power.
    """
    if not attempts:
        return None
    spent = [row.spent for row in attempts]
    peaks = [each.peak_memory_bytes for each in spent if each.peak_memory_bytes is not None]
    return {
        "attempts": len(attempts),
        "state": attempts[-1].state,
        "seconds": sum(each.seconds for each in spent),
        "cpu_seconds": sum(each.cpu_seconds for each in spent),
        "peak_memory_bytes": max(peaks, default=None),
        "tokens": {name: sum(getattr(row.tokens, name) for row in attempts) for name in Tokens.model_fields},
        **energy_total([(each.energy, each.seconds) for each in spent]),
    }


def energy_total(parts: list[tuple[tuple[Energy, ...], float]]) -> Json:
    """Energy of several stretches of work, each with its seconds, as fields.

    Returns:
        `joules` (idle included), `net_joules` (above idle), `energy_origin` (`measured`, `estimated`, `mixed`
        or None), and `energy`, an entry per source. A sum of which a part is unknown is None.
    """
    sources: dict[tuple[str, str], list[tuple[Energy, float]]] = {}
    for entries, seconds in parts:
        for entry in entries:
            sources.setdefault((entry.source, entry.covers), []).append((entry, seconds))
    rows = [
        {
            "source": source,
            "covers": covers,
            "origin": entries[0][0].origin,
            "joules": _sum(entry.joules for entry, _ in entries),
            "net_joules": _sum(entry.net(seconds) for entry, seconds in entries),
            "assumption": "; ".join(dict.fromkeys(entry.assumption for entry, _ in entries if entry.assumption)),
        }
        for (source, covers), entries in sources.items()
    ]
    whole = bool(rows) and all(entries for entries, _ in parts)
    origins = {row["origin"] for row in rows}
    return {
        "joules": _sum(row["joules"] for row in rows) if whole else None,
        "net_joules": _sum(row["net_joules"] for row in rows) if whole else None,
        "energy_origin": None if not origins else origins.pop() if len(origins) == 1 else "mixed",
        "energy": rows,
    }


def _rows(path: Path) -> Iterator[Attempt]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            yield Attempt.model_validate(json.loads(line))
        except (ValueError, ValidationError, RecursionError):
            continue


def _sum(values: Iterator[float | None]) -> float | None:
    """The sum, or None when a part is unknown or there is none."""
    known: list[float] = []
    for value in values:
        if value is None:
            return None
        known.append(value)
    return sum(known) if known else None
