r"""Reads a user's JSONL safely: one object a line, bounded memory, errors that name lines and quote nothing.

Lines end at \n only: U+2028 and its kin inside a text are text. A file in another encoding, a line that is
not JSON, a NUL or a lone surrogate is refused with its reason, by stopping there or by skipping and
counting.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from ponder.core.errors import DataError, ResourceError
from ponder.core.types import Json

MAX_LINE_BYTES = 16 * 1024**2
"""A longer line is a bad row; it is skipped without being held in memory."""
MAX_REASONS = 30
BadRowPolicy = Literal["error", "skip"]
Made = TypeVar("Made")

_KINDS = {
    bool: "a truth value",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}
_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!", b"\x28\xb5/\xfd")
"""How zip, gzip, bzip2, xz, 7z, rar and zstd begin."""
_UNSUITED = re.compile("[\x00\ud800-\udfff]")


class BadRow(Exception):
    """A row that cannot be used; the argument is the reason, which quotes field names but no content."""


class Row(NamedTuple):
    """One usable line."""

    line: int
    """Counted from 1."""
    data: Json
    part: str = ""
    """File or hub configuration that it came from, where that says something."""


class RowReport:
    """What became of the rows of one file."""

    def __init__(self, path: Path, policy: BadRowPolicy) -> None:
        """Count for a file; under the policy `error` the first bad row raises."""
        self.path, self.policy = path, policy
        self.rows = 0
        self.reasons: Counter[str] = Counter()
        self.first: dict[str, int] = {}

    def refuse(self, line: int, reason: str) -> None:
        """Count a bad row.

        Raises:
            DataError: Under the policy `error`; names file and line.
        """
        if self.policy == "error":
            raise DataError(reason, where=f"{self.path}:{line}", fix="mend the row, or set on_bad_row: skip")
        self.count(line, reason)

    def count(self, line: int, reason: str) -> None:
        """Note why a row is left out, or is of no use to a verifier."""
        if reason not in self.reasons and len(self.reasons) >= MAX_REASONS:
            reason = "other reasons"
        self.reasons[reason] += 1
        self.first.setdefault(reason, line)

    @property
    def table(self) -> str:
        """One reason a line, the most frequent first."""
        return "\n".join(
            f"{count:>8,}  {reason} (first at line {self.first[reason]})"
            for reason, count in self.reasons.most_common()
        )

    def nothing_left(self) -> DataError:
        """The error for a file of which no row is usable."""
        if not self.rows:
            return DataError("the file has no rows", where=str(self.path), fix="write one JSON object a line")
        return DataError(f"0 of {self.rows:,} rows can be used\n{self.table}", where=str(self.path))


def read_rows(report: RowReport) -> Iterator[Row]:
    """The usable rows of a JSONL file, streamed.

    Raises:
        ResourceError: If the file is missing or cannot be read.
        DataError: If it is not UTF-8 text, or has a bad row under the policy `error`.
    """
    for line, raw in _lines(report.path):
        if raw is not None and not raw.strip():
            continue
        report.rows += 1
        try:
            yield Row(line, parsed_row(raw))
        except BadRow as reason:
            report.refuse(line, str(reason))


def made(report: RowReport, rows: Iterator[Row], make: Callable[[Row], Made]) -> Iterator[tuple[Row, Made]]:
    """What `make` makes of each row; a row it refuses with `BadRow` is counted or stops the reading."""
    for row in rows:
        try:
            result = make(row)
        except BadRow as reason:
            report.refuse(row.line, str(reason))
        else:
            yield row, result


def refuse_archive(path: Path) -> None:
    """Nothing is unpacked here: an archive can write elsewhere, link elsewhere, or fill the disk.

    Raises:
        DataError: If the file is an archive, whatever it is called.
    """
    try:
        with path.open("rb") as file:
            start = file.read(262)
    except OSError:
        return  # whoever reads it says why
    if start.startswith(_ARCHIVES) or start[257:] == b"ustar":
        raise DataError(
            "this file is an archive, and data are read from plain files only",
            where=str(path),
            fix="unpack it yourself, look at what came out, and name the JSONL, JSON, CSV or Parquet file",
        )


def text_at(row: Json, field: str) -> str:
    """A text that is there and says something.

    Raises:
        BadRow: If it is missing, empty, or not text; names the field and the type.
    """
    if field not in row:
        raise BadRow(f"the field {field!r} is missing")
    return checked_text(row[field], field)


def checked_text(value: Any, field: str) -> str:
    """`value` as a text that says something; `BadRow` names the field."""
    if not isinstance(value, str):
        raise BadRow(f"the field {field!r} is {kind_of(value)}, not text")
    if not value.strip():
        raise BadRow(f"the field {field!r} is empty")
    return value


def kind_of(value: Any) -> str:
    """The name that JSON gives to the type of a value."""
    return _KINDS.get(type(value), "null")


def _lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines; None for one that is too long."""
    refuse_archive(path)
    try:
        with path.open("rb") as file:
            start = file.read(4)
            if start[:2] in (b"\xff\xfe", b"\xfe\xff") or (len(start) == 4 and start[1] == start[3] == 0):
                raise DataError("this file is UTF-16 or UTF-32", where=str(path), fix="save it as UTF-8")
            file.seek(3 if start[:3] == b"\xef\xbb\xbf" else 0)
            number = 0
            while raw := file.readline(MAX_LINE_BYTES):
                number += 1
                too_long = len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n")
                while too_long and raw and not raw.endswith(b"\n"):
                    raw = file.readline(MAX_LINE_BYTES)
                yield number, None if too_long else raw
    except OSError as error:
        raise ResourceError(f"the data cannot be read: {error.strerror or error}", where=str(path)) from error


def parsed_row(raw: bytes | None) -> Json:
    """One line as an object; None stands for a line that is too long.

    Raises:
        BadRow: If it is not one, or holds what no text may hold.
    """
    if raw is None:
        raise BadRow(f"the line is longer than {MAX_LINE_BYTES // 1024**2} MB")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRow("the line is not valid UTF-8") from error
    if "\x00" in text:
        raise BadRow("the line holds NUL bytes")
    try:
        value = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadRow("the line is not valid JSON") from error
    if not isinstance(value, dict):
        raise BadRow(f"the line is {kind_of(value)}, not a JSON object")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BadRow("a key stands twice in the same object")
    for key, value in pairs:
        texts = [key, *(value if isinstance(value, list) else [value])]
        if any(isinstance(text, str) and _UNSUITED.search(text) for text in texts):
            raise BadRow(f"the field {key[:60]!r} holds a NUL or half of a character")
    return found


def _refuse_constant(name: str) -> None:
    raise BadRow(f"{name} is not a JSON number")
