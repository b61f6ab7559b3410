"""Where the rows of a benchmark come from: the Hugging Face Hub, or a local JSONL, JSON, CSV or Parquet file or folder.

Every row passes the same checks whatever it lay in, and knows the part (the file or the hub's configuration) that
it came from.
"""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ponder.core.errors import DataError, ResourceError
from ponder.core.types import Json
from ponder.tasks._rows import (
    MAX_LINE_BYTES,
    BadRow,
    BadRowPolicy,
    Row,
    RowReport,
    parsed_row,
    read_rows,
    refuse_archive,
)

MAX_JSON_BYTES = 512 * 1024**2
"""A JSON file is parsed whole; a larger one belongs into JSONL."""
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


class Table(NamedTuple):
    """One table of the hub."""

    dataset: str
    config: str | None = None
    split: str = "test"
    part: str = ""
    """What its rows are part of; empty: the configuration."""


Tables = Mapping[str, tuple[Table, ...]]
"""The tables of every split."""
Names = Mapping[str, tuple[str, ...]]
"""By split, names that its files may also have."""


class Source(NamedTuple):
    """Rows with the report that counts the bad ones."""

    report: RowReport
    rows: Iterator[Row]


def hub_source(table: Table, policy: BadRowPolicy, revision: str | None) -> Source:
    """A table of the hub; downloaded once by its client, then read from the client's cache."""
    report = RowReport(Path(f"{table.dataset}:{table.config or ''}:{table.split}".replace("::", ":")), policy)
    return Source(report, _hub_rows(report, table, revision))


def file_source(path: Path, policy: BadRowPolicy) -> Source:
    """A local file; its part is its name without the suffix."""
    refuse_archive(path)
    report = RowReport(path, policy)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        rows = _parquet_rows(report)
    elif suffix == ".csv":
        rows = _csv_rows(report)
    elif suffix == ".json":
        rows = _json_rows(report)
    else:
        rows = read_rows(report)
    return Source(report, (row._replace(part=path.stem) for row in rows))


def files_of(folder: Path, names: Sequence[str]) -> list[Path]:
    """The files of a split in a folder: `test.jsonl`, `test-00000-of-00001.parquet`; the first name that has any."""
    for name in names:
        for suffix in SUFFIXES:
            whole = folder / f"{name}{suffix}"
            found = [whole] if whole.is_file() else sorted(folder.glob(f"{name}-*{suffix}"))
            if found:
                return found
    return []


def data_files(folder: Path) -> list[Path]:
    """Every data file directly in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


def _hub_rows(report: RowReport, table: Table, revision: str | None) -> Iterator[Row]:
    try:
        datasets: Any = importlib.import_module("datasets")
    except ImportError as error:
        raise ResourceError(
            "reading a benchmark from the hub needs the package 'datasets'",
            where=table.dataset,
            fix="pip install 'ponder[hub]', or give a local file: path: FILE.jsonl",
        ) from error
    try:
        loaded = datasets.load_dataset(table.dataset, table.config, split=table.split, revision=revision)
    except Exception as error:  # the hub's client raises many kinds; all mean that the data are not here
        raise ResourceError(
            f"the data set cannot be read from the hub ({type(error).__name__})",
            where=f"https://huggingface.co/datasets/{table.dataset}",
            fix="run once with a network (a gated set also needs its terms accepted and a login), later runs read "
            "the cache; or give a local file: path: FILE.jsonl",
        ) from error
    for line, data in enumerate(loaded, 1):
        report.rows += 1
        yield Row(line, data, table.part or table.config or "")


def _json_rows(report: RowReport) -> Iterator[Row]:
    """A JSON list, an object that holds one list of objects, or lines under the wrong name."""
    try:
        size = report.path.stat().st_size
        text = report.path.read_text(encoding="utf-8-sig") if size <= MAX_JSON_BYTES else ""
    except UnicodeDecodeError as error:
        raise DataError("this file is not UTF-8 text", where=str(report.path), fix="save it as UTF-8") from error
    except OSError as error:
        raise _unreadable(report.path, error) from error
    if size > MAX_JSON_BYTES:
        raise DataError("this JSON file is too large", where=str(report.path), fix="convert it to JSONL")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        yield from read_rows(report)  # complains about a line, if it is not lines either
        return
    listed = value
    if isinstance(value, dict):
        lists = [item for item in value.values() if isinstance(item, list) and item and isinstance(item[0], dict)]
        listed = lists[0] if len(lists) == 1 else [value]
    if not isinstance(listed, list):
        raise DataError("this file holds no list of rows", where=str(report.path), fix="write a list of objects")
    yield from _checked(report, iter(listed))


def _csv_rows(report: RowReport) -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE_BYTES)
    try:
        with report.path.open(encoding="utf-8-sig", newline="") as file:
            yield from _checked(report, csv.DictReader(file, restkey="", strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"this is not a CSV file in UTF-8: {error}", where=str(report.path)) from error
    except OSError as error:
        raise _unreadable(report.path, error) from error


def _parquet_rows(report: RowReport) -> Iterator[Row]:
    parquet: Any = importlib.import_module("pyarrow.parquet")  # slow to import, and rarely needed
    try:
        with parquet.ParquetFile(report.path) as file:
            batches = (row for batch in file.iter_batches(batch_size=1000) for row in batch.to_pylist())
            yield from _checked(report, batches)
    except OSError as error:
        raise _unreadable(report.path, error) from error
    except DataError:
        raise
    except ValueError as error:  # ArrowInvalid is one
        raise DataError("this is not a Parquet file", where=str(report.path)) from error


def _checked(report: RowReport, values: Iterator[Any]) -> Iterator[Row]:
    """Rows under the rules of JSONL: no NUL, no half characters, no NaN."""
    for line, value in enumerate(values, 1):
        report.rows += 1
        try:
            yield Row(line, _as_json(value))
        except BadRow as reason:
            report.refuse(line, str(reason))


def _as_json(value: Any) -> Json:
    try:
        return parsed_row(json.dumps(value).encode())
    except (TypeError, ValueError, RecursionError) as error:  # bytes, dates: nothing that a question is made of
        raise BadRow("the row holds a value that JSON has no word for") from error


def _unreadable(path: Path, error: OSError) -> ResourceError:
    return ResourceError(f"the data cannot be read: {error.strerror or error}", where=str(path))
