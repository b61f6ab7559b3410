"""What was expected of a run before it began: `plan.json`, to be laid beside what it really took.

`ponder plan` writes nothing into a run. It remembers each stage's figures under the stage's key in the user's cache, so
that a run of exactly that stage finds them. What cannot be remembered or read is as good as never made.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path
from pydantic import Field, ValidationError

from ponder.core.errors import ResourceError
from ponder.core.types import Record
from ponder.runs.files import write_atomic

PLAN = "plan.json"
REMEMBERED = 400
"""Stages whose last plan is remembered; the oldest are forgotten."""


class PlanEntry(Record):
    """What one stage was expected to take."""

    stage: str
    key: str
    """Of the stage as it was planned."""
    probed: bool = False
    """Some of it was measured on this machine, not only computed."""
    seconds: float
    low_seconds: float | None = None
    high_seconds: float | None = None
    peak_memory_bytes: int
    tokens: dict[str, int] = Field(default_factory=dict)
    """`prompt`, `sampled` and `trained`, as far as they were foreseen."""
    disk_bytes: int = 0
    """Of the stage's folder when it is done."""
    joules: float | None = None
    money: float | None = None
    """None: not known."""
    currency: str | None = None
    note: str = ""


def write_plan(run_folder: Path, entries: Sequence[PlanEntry]) -> None:
    """Replace a run's `plan.json`."""
    rows = [entry.model_dump(mode="json") for entry in entries]
    write_atomic(run_folder / PLAN, json.dumps({"stages": rows}, indent=2).encode() + b"\n")


def read_plan(run_folder: Path) -> list[PlanEntry]:
    """The entries of a run's plan; none when there is no plan, or it is damaged."""
    try:
        content = json.loads((run_folder / PLAN).read_bytes())
        return [PlanEntry.model_validate(row) for row in content["stages"]]
    except (OSError, ValueError, ValidationError, KeyError, TypeError):
        return []


def remember(entries: Iterable[PlanEntry]) -> None:
    """Keep the entries for a run of the same stages."""
    folder = _folder()
    with suppress(OSError, ResourceError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for entry in entries:
            write_atomic(folder / f"{entry.key}.json", entry.model_dump_json().encode())
        by_age = sorted(folder.glob("*.json"), key=os.path.getmtime, reverse=True)
        for old in by_age[REMEMBERED:]:
            old.unlink(missing_ok=True)


def recalled(key: str) -> PlanEntry | None:
    """The last plan of a stage with this key, if there was one."""
    try:
        return PlanEntry.model_validate_json((_folder() / f"{key}.json").read_bytes())
    except (OSError, ValueError, ValidationError):
        return None


def _folder() -> Path:
    return Path(user_cache_path("ponder")) / "plans"
