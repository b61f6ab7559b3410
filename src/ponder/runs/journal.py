"""Rows that are appended one by one, survive a kill at any byte, and are sealed as Parquet when complete.

The journal (JSONL) stays the truth: the Parquet file beside it can be rebuilt from it. Non-finite numbers
have no form in JSON and are stored as null.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ponder.core.errors import DataError, ResourceError
from ponder.core.types import Json
from ponder.runs.files import PRIVATE_FILE, atomic_file, disk_errors, make_folder

SYNC_SECONDS = 2.0
"""A row is flushed to the disk at most this long after it was appended, as long as rows keep coming."""
ROWS_PER_BATCH = 1024
_CHUNK_BYTES = 1 << 20


class Journal:
    """An append-only file of JSON objects, one a line."""

    def __init__(self, path: Path) -> None:
        """Open or create the file; a last line that a killed writer left torn is removed."""
        self.path = path
        make_folder(path.parent)
        with disk_errors(path):
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR, PRIVATE_FILE)
            try:
                os.fchmod(descriptor, PRIVATE_FILE)
                self._count = _repair(descriptor)
            finally:
                os.close(descriptor)
        self._synced_at = time.monotonic()

    def __len__(self) -> int:
        return self._count

    def append(self, row: Json) -> None:
        """Add one row."""
        self.append_all((row,))

    def append_all(self, rows: Iterable[Json]) -> None:
        """Add rows with one write: after a kill a prefix of them is there, and no half row.

        Raises:
            ResourceError: If the disk is full or read-only; the journal is then as it was before the call.
        """
        lines = [encode(row) for row in rows]
        if not lines:
            return
        data = b"".join(lines)
        with disk_errors(self.path, needed_bytes=len(data)):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            try:
                _write_all(descriptor, data)
                if time.monotonic() - self._synced_at >= SYNC_SECONDS:
                    self._sync(descriptor)
            finally:
                os.close(descriptor)
        self._count += len(lines)

    def rows(self) -> Iterator[Json]:
        """Every row in order, as the journal is at the time of the call.

        Raises:
            DataError: At a line that is no JSON object: somebody else changed the file.
        """
        return islice(_journal_rows(self.path), self._count)

    def truncate(self, count: int) -> None:
        """Keep the first `count` rows.

        Raises:
            ValueError: If there are fewer rows than that.
        """
        if not 0 <= count <= self._count:
            raise ValueError(f"cannot keep {count} of {self._count} rows")
        if count == self._count:
            return
        with disk_errors(self.path), self.path.open("rb+") as file:
            file.truncate(sum(len(line) for line in islice(file, count)))
            os.fsync(file.fileno())
        self._count = count

    def sync(self) -> None:
        """Flush to the disk what was appended."""
        with disk_errors(self.path):
            descriptor = os.open(self.path, os.O_WRONLY)
            try:
                self._sync(descriptor)
            finally:
                os.close(descriptor)

    def seal(self) -> Path:
        """Write all rows as a Parquet file beside the journal and return its path.

        Scalars become typed columns; nested values, and columns whose values differ in type, become JSON
        text. `read_rows` gives back equal rows from either file.
        """
        self.sync()
        sealed = self.path.with_suffix(".parquet")
        schema = _schema(self.rows())
        with (
            atomic_file(sealed) as temporary,
            pq.ParquetWriter(temporary, schema, compression="zstd") as file,
        ):
            rows = self.rows()
            while batch := list(islice(rows, ROWS_PER_BATCH)):
                file.write_batch(_record_batch(batch, schema))
        return sealed

    def _sync(self, descriptor: int) -> None:
        os.fsync(descriptor)
        self._synced_at = time.monotonic()


def read_rows(path: Path) -> Iterator[Json]:
    """Rows of a journal (`.jsonl`) or of a sealed one (`.parquet`).

    Raises:
        ResourceError: If the file is missing or cannot be read as what its name says.
        DataError: At a line that is no JSON object.
    """
    if not path.is_file():
        raise ResourceError("there is no such file", where=str(path))
    return _sealed_rows(path) if path.suffix == ".parquet" else _journal_rows(path)


def encode(row: Json) -> bytes:
    """One row as a line of UTF-8 JSON, newline included."""
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair, which only an escape can carry
        return json.dumps(_finite(row), separators=(",", ":")).encode() + b"\n"
    except ValueError:
        return encode(_finite(row))


def _finite(value: Any) -> Any:
    """The value with null in place of every number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def _write_all(descriptor: int, data: bytes) -> None:
    """Write everything, or leave the file as it was."""
    before = os.fstat(descriptor).st_size
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        os.ftruncate(descriptor, before)
        raise


def _repair(descriptor: int) -> int:
    """Cut a torn last line off and return how many lines remain."""
    lines = position = end = 0  # `end`: just behind the last newline
    while chunk := os.pread(descriptor, _CHUNK_BYTES, position):
        newline = chunk.rfind(b"\n")
        if newline >= 0:
            end = position + newline + 1
        lines += chunk.count(b"\n")
        position += len(chunk)
    if end < position:
        os.ftruncate(descriptor, end)
        os.fsync(descriptor)
    return lines


def _journal_rows(path: Path) -> Iterator[Json]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return  # torn, or being written
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise DataError(
                    "this line is not a JSON object",
                    where=f"{path}:{number}",
                    fix="the file was changed or damaged; remove the line, or start over with --new",
                )
            yield row


def _sealed_rows(path: Path) -> Iterator[Json]:
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            for batch in file.iter_batches(ROWS_PER_BATCH):
                columns = [_decoded(batch.column(index), schema.field(index)) for index in range(len(schema))]
                for index in range(batch.num_rows):
                    yield {name: values[index] for name, values in columns if values[index] is not _MISSING}
    except pa.ArrowException as error:
        raise ResourceError(
            f"this is not a readable Parquet file: {error}",
            where=str(path),
            fix="delete it; the journal beside it (.jsonl) holds the same rows",
        ) from error


_MISSING = object()


def _decoded(column: pa.Array, field: pa.Field) -> tuple[str, list[Any]]:
    """A column's values, with `_MISSING` where the row did not have the key."""
    marks = field.metadata or {}
    values: list[Any] = column.to_pylist()
    if marks.get(b"ponder") == b"json":
        values = [_MISSING if value is None else json.loads(value) for value in values]
    elif marks.get(b"ponder") == b"optional":
        values = [_MISSING if value is None else value for value in values]
    return field.name, values


_TYPES = {
    "bool": pa.bool_(),
    "int": pa.int64(),
    "long": pa.int64(),
    "float": pa.float64(),
    "str": pa.string(),
}


def _schema(rows: Iterable[Json]) -> pa.Schema:
    """Column types from one pass over the rows."""
    kinds: dict[str, set[str]] = {}
    present: dict[str, int] = {}
    total = 0
    for row in rows:
        total += 1
        for key, value in row.items():
            kinds.setdefault(key, set()).add(_kind(value))
            present[key] = present.get(key, 0) + 1
    return pa.schema([_field(key, kinds[key], always=present[key] == total) for key in kinds])


def _field(name: str, kinds: set[str], *, always: bool) -> pa.Field:
    scalar = kinds - {"none"}
    if scalar == {"int", "float"}:
        scalar = {"float"}
    if scalar == {"int", "long"}:
        scalar = {"long"}
    ambiguous = "none" in kinds and not always  # a null could mean None or that the key is absent
    if len(scalar) == 1 and scalar <= _TYPES.keys() and not ambiguous:
        return pa.field(name, _TYPES[scalar.pop()], metadata=None if always else {"ponder": "optional"})
    return pa.field(name, pa.string(), metadata={"ponder": "json"})


def _kind(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "bool"
        case int():
            if abs(value) <= 2**53:  # exact as a float too, should the column also hold floats
                return "int"
            return "long" if -(2**63) <= value < 2**63 else "json"
        case float():
            return "float"
        case str():
            return "str" if value.isascii() or _is_utf8(value) else "json"
        case _:
            return "json"


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _record_batch(rows: Sequence[Json], schema: pa.Schema) -> pa.RecordBatch:
    columns = []
    for field in schema:
        if (field.metadata or {}).get(b"ponder") == b"json":
            values = [json.dumps(row[field.name]) if field.name in row else None for row in rows]
        else:
            values = [row.get(field.name) for row in rows]
        columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
