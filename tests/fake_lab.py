"""A stage of one's own for the tests: it counts, resumes, and needs no torch."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

COUNT = '''
"""Counts."""
import time
from pathlib import Path
from typing import ClassVar
from pydantic import Field
from ponder.core.types import Json, Record
from ponder.runs.interrupt import raise_if_stopped
from ponder.stages._stage import Context, Estimate, Stage

class Inner(Record):
    rate: float = Field(default=0.1, gt=0.0, le=1.0)
    """How fast."""

class Count(Stage):
    """Appends rows."""
    inputs: ClassVar[tuple[str, ...]] = ("source", "sources")
    rows: int = Field(default=3, ge=0)
    source: str = ""
    sources: dict[str, str] = {}
    inner: Inner = Inner()
    exact: bool = False
    words: tuple[str, ...] = ()
    path: str = ""
    pause: float = 0.0
    fail: str = ""

    def __call__(self, context: Context) -> Json:
        with Path("calls.txt").open("a") as file:
            file.write(context.folder.path.name + "\\n")
        journal = context.folder.journal("rows")
        begun = len(journal)
        with context.log.progress("count", total=self.rows, unit="rows") as progress:
            for number in range(begun, self.rows):
                raise_if_stopped()
                journal.append({"n": number, "seed": context.seed})
                progress.update(number + 1)
                time.sleep(self.pause)
        if self.fail:
            errors = {"key": KeyError(), "full": OSError(28, "full"), "memory": MemoryError()}
            raise errors[self.fail]
        (context.folder.path / "model").mkdir(exist_ok=True)
        return {"rows": len(journal), "begun": begun, "source": context.artefact(self.source, "model")}

    def estimate(self, context: Context) -> Estimate:
        return Estimate(self.rows, 10 * self.rows, 2_000_000, 1.5, "guessed")

plugin: type[Stage] = Count
'''


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `lab.count` importable and work in `folder`."""
    (folder / "lab").mkdir()
    (folder / "lab" / "__init__.py").write_text("")
    (folder / "lab" / "count.py").write_text(COUNT)
    for name in ("lab", "lab.count"):  # of another test's folder
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)


def calls(folder: Path) -> list[str]:
    """Names of the stages that were called, in order."""
    path = folder / "calls.txt"
    return path.read_text().split() if path.exists() else []
