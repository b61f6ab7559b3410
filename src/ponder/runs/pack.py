"""Teacher packs: traces with what a teacher expected at every token, in one Parquet file that needs no teacher.

A row is a trace as it is stored elsewhere, its prompt and completion as token ids, and for each of the n completion
tokens the teacher's k likeliest tokens, their log-probabilities (half precision) and the log of the mass of all
others. What the file was made with, and a checksum over the rows, stand in its own metadata, so that it can be copied
anywhere. It is written once, and read with a few rows in memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from ponder.core.errors import ConfigurationError, DataError, ResourceError
from ponder.core.types import Completion, IntArray, Json, Record, TopK, Trace
from ponder.runs.files import atomic_file

PACK = "pack.parquet"
FORMAT = 1
"""Raised when the meaning of a column changes."""
KEY = b"ponder.pack"
ROWS_PER_GROUP = 256
SMALL = 1 << 16
"""Vocabularies below this have ids of two bytes."""


class PackHeader(Record):
    """What a pack was made with."""

    format: int = FORMAT
    teacher: str
    """Name of the model, or of the models by task."""
    teacher_digest: str = ""
    """Hash of the weights where they were at hand."""
    top_k: int
    vocabulary: int
    """Token ids are below this."""
    tokenizer: str
    """Hash of the tokenizer whose ids these are."""
    template: str
    """Hash of the chat template that rendered the prompts."""
    terms: dict[str, Json] = Field(default={})
    """Licence and terms of use of what each teacher wrote or said, as `measure/terms.py` has them."""
    rows: int = 0
    tokens: int = 0
    """Completion tokens, each with a distribution."""
    unsaid: int = 0
    """Completion tokens of which the teacher said nothing."""
    tail_mass: float = 0.0
    """Mean mass outside of the k tokens."""
    checksum: str = ""
    """blake2b over the rows."""


@dataclass(frozen=True, slots=True)
class PackRow:
    """One trace with what the teacher expected of its completion."""

    trace: Trace
    """With `prompt_tokens` and `tokens`."""
    top: TopK
    """Of the completion's n tokens alone: ids (n, k), logprobs (n, k), tail (n,)."""


class PackWriter:
    """Writes a pack; the file appears when the block ends well.

    Args:
        path: The file.
        header: Without the counts, which are made here.
    """

    def __init__(self, path: Path, header: PackHeader) -> None:
        """Nothing is written before the block begins."""
        self._path, self._header = path, header
        self._hash = hashlib.blake2b(digest_size=32)
        self._counts = {"rows": 0, "tokens": 0, "unsaid": 0}
        self._tail = 0.0
        self._stack = ExitStack()
        self._file: Any = None

    def __enter__(self) -> Self:
        """Begin the file."""
        temporary = self._stack.enter_context(atomic_file(self._path))
        # Half floats share exponents and not mantissas: stored byte by byte they pack better.
        schema = schema_of(self._header.vocabulary)
        self._file = pq.ParquetWriter(
            temporary,
            schema,
            compression="zstd",
            use_dictionary=["trace"],  # type: ignore[arg-type]  # a list is what its documentation says
            column_encoding={"logprobs.list.element": "BYTE_STREAM_SPLIT", "tail.list.element": "BYTE_STREAM_SPLIT"},
        )
        return self

    def write(self, rows: Sequence[PackRow]) -> None:
        """Add rows as one group."""
        columns: dict[str, list[Any]] = {name: [] for name in schema_of(self._header.vocabulary).names}
        for row in rows:
            stored = _stored(row, self._header.vocabulary)
            for name, value in stored.items():
                columns[name].append(value)
            self._count(stored)
        self._file.write_batch(pa.record_batch(columns, schema=schema_of(self._header.vocabulary)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Seal the file with its header, or leave nothing."""
        if error is None:
            said = max(1, self._counts["tokens"] - self._counts["unsaid"])
            header = self._header.model_copy(
                update={**self._counts, "tail_mass": self._tail / said, "checksum": self._hash.hexdigest()}
            )
            self._file.add_key_value_metadata({KEY: header.model_dump_json().encode()})
        self._file.close()
        self._stack.__exit__(kind, error, trace)

    def _count(self, stored: dict[str, Any]) -> None:
        _hash_row(self._hash, stored)
        said = np.asarray(stored["ids"]).reshape(len(stored["tail"]), -1)
        known = (said != _missing(self._header.vocabulary)).any(1)
        self._counts["rows"] += 1
        self._counts["tokens"] += len(known)
        self._counts["unsaid"] += int((~known).sum())
        self._tail += float(np.exp(np.asarray(stored["tail"], np.float32)[known]).sum())


def read_header(path: Path) -> PackHeader:
    """What a pack was made with.

    Raises:
        ResourceError: If the file is missing or no Parquet.
        DataError: If it is no pack, or of another format.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
        metadata = {**metadata, **(pq.read_metadata(path).metadata or {})}
    except (OSError, pa.ArrowException) as error:
        raise ResourceError("this pack cannot be read", where=str(path), fix="copy or make it again") from error
    try:
        header = PackHeader.model_validate_json(metadata[KEY])
    except (KeyError, ValidationError) as error:
        raise DataError("this Parquet file is no teacher pack", where=str(path)) from error
    if header.format != FORMAT:
        raise DataError(f"this pack has format {header.format}, and this Ponder reads {FORMAT}", where=str(path))
    return header


def packed_terms(path: Path) -> dict[str, Json]:
    """The terms in a pack; nothing when the file is none."""
    try:
        return dict(read_header(path).terms)
    except (DataError, ResourceError):
        return {}


def read_pack(path: Path) -> Iterator[PackRow]:
    """The rows of a pack in order; its checksum is compared at the end.

    Raises:
        DataError: If the rows are not those that were written.
        ResourceError: If the file cannot be read.
    """
    header = read_header(path)
    found = hashlib.blake2b(digest_size=32)
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROWS_PER_GROUP):
                for place in range(batch.num_rows):
                    stored = _cells(batch, place)
                    _hash_row(found, stored)
                    yield _row(stored, header)
    except (OSError, pa.ArrowException, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise DataError("this pack is damaged", where=str(path), fix="copy or make it again") from error
    if found.hexdigest() != header.checksum:
        raise DataError("this pack does not match its checksum", where=str(path), fix="copy or make it again")


def schema_of(vocabulary: int) -> pa.Schema:
    """Columns of a pack."""
    ids = pa.uint16() if vocabulary < SMALL else pa.int32()
    return pa.schema(
        [
            ("trace", pa.string()),
            ("prompt_tokens", pa.list_(pa.int32())),
            ("tokens", pa.list_(pa.int32())),
            ("ids", pa.list_(ids)),
            ("logprobs", pa.list_(pa.float16())),
            ("tail", pa.list_(pa.float16())),
        ]
    )


def _missing(vocabulary: int) -> int:
    """What stands for no token: a number that is none, in the type of the ids."""
    return SMALL - 1 if vocabulary < SMALL else -1


def _stored(row: PackRow, vocabulary: int) -> dict[str, Any]:
    completion = row.trace.completion
    bare = completion.model_copy(update={"prompt_tokens": None, "tokens": None, "logprobs": None, "seconds": 0.0})
    kind = np.uint16 if vocabulary < SMALL else np.int32
    ids = np.where(row.top.ids < 0, _missing(vocabulary), row.top.ids).astype(kind)
    text = json.dumps(row.trace.model_copy(update={"completion": bare}).model_dump(mode="json"), ensure_ascii=False)
    return {
        "trace": text,
        "prompt_tokens": np.asarray(completion.prompt_tokens, np.int32),
        "tokens": np.asarray(completion.tokens, np.int32),
        "ids": ids.reshape(-1),
        "logprobs": row.top.logprobs.astype(np.float16).reshape(-1),
        "tail": row.top.tail.astype(np.float16),
    }


def _cells(batch: pa.RecordBatch, place: int) -> dict[str, Any]:
    cells: dict[str, Any] = {"trace": batch.column("trace")[place].as_py()}
    for name in batch.schema.names[1:]:
        cells[name] = batch.column(name)[place].values.to_numpy(zero_copy_only=False)
    return cells


def _hash_row(hasher: Any, stored: Json) -> None:
    for name in ("trace", "prompt_tokens", "tokens", "ids", "logprobs", "tail"):
        value = stored[name]
        data = value.encode() if isinstance(value, str) else np.ascontiguousarray(value).tobytes()
        hasher.update(len(data).to_bytes(8, "little"))
        hasher.update(data)


def _row(stored: dict[str, Any], header: PackHeader) -> PackRow:
    tokens, prompt = stored["tokens"], stored["prompt_tokens"]
    shape = (len(tokens), header.top_k)
    ids: IntArray = stored["ids"].astype(np.int32).reshape(shape)
    ids[ids == _missing(header.vocabulary)] = -1
    top = TopK(ids, stored["logprobs"].astype(np.float32).reshape(shape), stored["tail"].astype(np.float32))
    trace = Trace.model_validate_json(stored["trace"])
    known: dict[str, Any] = {"prompt_tokens": tuple(prompt.tolist()), "tokens": tuple(tokens.tolist())}
    completion: Completion = trace.completion.model_copy(update=known)
    return PackRow(trace.model_copy(update={"completion": completion}), top)
