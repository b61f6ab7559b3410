"""Traces that are stored in chunks of any size: a journal of marks says which of them are whole.

The mark is written behind its rows. Whatever a kill leaves, rows without a mark are dropped, and so is a mark whose
rows did not reach the disk, so that a resumed stage goes on where the last whole chunk ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ponder.core.types import Json
from ponder.runs.journal import Journal
from ponder.runs.store import StageFolder


class Chunks:
    """The rows `NAME.jsonl` of a stage with their marks in `chunks.jsonl`."""

    def __init__(self, folder: StageFolder, name: str) -> None:
        """Drop what is not whole."""
        self.rows: Journal = folder.journal(name)
        self._marks: Journal = folder.journal("chunks")
        self.marks: list[Json] = []
        """One entry for every whole chunk, in order."""
        stored = 0
        for mark in self._marks.rows():
            if stored + mark["rows"] > len(self.rows):
                break
            stored += mark["rows"]
            self.marks.append(mark)
        self._marks.truncate(len(self.marks))
        self.rows.truncate(stored)

    def __len__(self) -> int:
        return len(self.marks)

    def add(self, rows: Sequence[Json], mark: Json) -> None:
        """Store a whole chunk; the mark tells its number of rows besides what is given."""
        self.rows.append_all(rows)
        whole = {"rows": len(rows), **mark}
        self._marks.append(whole)
        self.marks.append(whole)

    def total(self, name: str, marks: Iterable[Json] | None = None) -> float:
        """The sum of a number over all marks."""
        return sum(mark[name] for mark in (self.marks if marks is None else marks))
