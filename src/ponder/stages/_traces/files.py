"""Reads traces that a stage or an import left behind, and writes such files whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError

from ponder.core.errors import ConfigurationError, DataError, ResourceError
from ponder.core.types import Json, Trace
from ponder.measure.stored import LEFT_OUT, stored_trace
from ponder.measure.terms import UNKNOWN
from ponder.runs.files import TEMPORARY, atomic_file, make_folder
from ponder.runs.journal import Journal, encode, read_rows

NAMES = ("traces.parquet", "traces.jsonl")
SUFFIXES = (".parquet", ".jsonl")
TERMS = "terms.json"
"""Beside the traces: the terms of every teacher."""
UNNAMED = "unnamed"
"""Whoever wrote traces that name no sampler."""
BATCH = 512


def traces_file(path: Path) -> Path:
    """The file of traces at a place: itself, or the one in the folder of a stage.

    Raises:
        ResourceError: If there is none.
    """
    path = path.expanduser()
    if path.is_dir():
        found = next((path / name for name in NAMES if (path / name).is_file()), None)
        if found is None:
            raise ResourceError("there are no traces in this folder", where=str(path), fix="name a file of traces")
        return found
    if path.name == NAMES[0] and not path.exists() and path.with_suffix(".jsonl").exists():
        raise ResourceError("these traces are not finished", where=str(path.parent), fix="run that stage to its end")
    if not path.is_file():
        raise ResourceError("there are no traces here", where=str(path), fix="run `ponder generate` first")
    return path


def read_traces(path: Path) -> Iterator[Trace]:
    """Every trace of a file in order.

    Raises:
        DataError: At a row that is none; names its number and the field, never what it holds.
        ResourceError: If the file is missing or cannot be read.
    """
    for number, row in enumerate(read_rows(path), 1):
        try:
            yield stored_trace(row)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "row"
            raise DataError(
                f"this row is not a trace: {field}: {first['msg'].split(',')[0][:100]}",
                where=f"{path}:{number}",
                fix="rows of other tools become traces by `ponder traces import`",
            ) from error


def row_of(trace: Trace) -> Json:
    """A trace as it is stored: without token ids, and without the clock."""
    return trace.model_dump(mode="json", exclude=LEFT_OUT)


def terms_file(path: Path) -> Path:
    """Where the terms of a file of traces stand that is not in the folder of a stage."""
    return path.with_suffix(f".{TERMS}")


def stored_terms(path: Path) -> dict[str, Json]:
    """The terms beside a file of traces, by teacher; nothing where none were written."""
    for place in (terms_file(path), path.parent / TERMS):
        try:
            found = json.loads(place.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(found, dict):
            return {str(label): terms for label, terms in found.items() if isinstance(terms, dict)}
    return {}


def gathered_terms(paths: Iterable[Path], traces: Iterable[Trace]) -> dict[str, Json]:
    """The terms of everyone whose traces these are, as the files say; of those whom no file names, unknown."""
    known = {label: terms for path in paths for label, terms in stored_terms(path).items()}
    samplers = sorted({trace.sampler for trace in traces})
    return {label or UNNAMED: known.get(label, UNKNOWN.model_dump()) for label in samplers}


def replace_rows(journal: Journal, rows: Iterable[Json]) -> Path:
    """Fill a stage's journal afresh and seal it; returns the sealed file."""
    journal.truncate(0)
    pending = iter(rows)
    while batch := list(islice(pending, BATCH)):
        journal.append_all(batch)
    return journal.seal()


def write_rows(path: Path, rows: Iterable[Json]) -> int:
    """Write a file of rows, JSONL or Parquet by its suffix, in one piece; returns how many there are.

    Raises:
        ConfigurationError: If the suffix is neither.
    """
    check_suffix(path)
    if path.suffix.lower() == ".jsonl":
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            lines = (file.write(encode(row)) for row in rows)
            return sum(1 for _ in lines)
    make_folder(path.parent)
    with (
        atomic_file(path) as temporary,
        TemporaryDirectory(prefix=TEMPORARY, dir=path.parent) as folder,
    ):
        journal = Journal(Path(folder) / "rows.jsonl")
        os.replace(replace_rows(journal, rows), temporary)
        return len(journal)


def check_suffix(path: Path, allowed: Sequence[str] = SUFFIXES) -> None:
    """Refuse an output file whose name does not say its format."""
    if path.suffix.lower() not in allowed:
        raise ConfigurationError(
            f"the name ends in {path.suffix or 'nothing'}", where=str(path), fix=f"end it in {' or '.join(allowed)}"
        )
