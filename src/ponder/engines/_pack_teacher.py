"""A teacher that was asked long ago: it answers from a pack, and only about the traces that the pack holds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ponder.core.errors import ConfigurationError
from ponder.core.types import FloatArray, IntArray, TopK, Trace
from ponder.runs.files import make_folder
from ponder.runs.pack import PackHeader, PackRow, read_header, read_pack

Key = tuple[str, tuple[int, ...], tuple[int, ...]]


class PackTeacher:
    """See `ponder.core.protocols.Teacher`.

    The distributions are laid out in flat files, from which those of single traces are read: a pack may be larger than
    the memory.

    Args:
        path: The pack.
        folder: Receives the flat files; `close` removes it.

    Raises:
        DataError: If the pack is damaged.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        """Look at the header; `rows` lays the pack out."""
        self.header: PackHeader = read_header(path)
        self._path, self._folder = path, folder
        self._places: dict[Key, tuple[int, int]] = {}
        self._ids: IntArray = np.zeros((0, 0), np.int32)
        self._logprobs: npt.NDArray[np.float16] = np.zeros((0, 0), np.float16)
        self._tail: npt.NDArray[np.float16] = np.zeros(0, np.float16)

    def rows(self) -> Iterator[Trace]:
        """Every trace of the pack, with its tokens; when all were taken, the teacher can be asked."""
        shutil.rmtree(self._folder, ignore_errors=True)
        make_folder(self._folder)
        tokens, k = self.header.tokens, self.header.top_k
        self._ids = _flat(self._folder / "ids", np.int32, (tokens, k))
        self._logprobs = _flat(self._folder / "logprobs", np.float16, (tokens, k))
        self._tail = _flat(self._folder / "tail", np.float16, (tokens,))
        start = 0
        for row in read_pack(self._path):
            end = start + len(row.top.tail)
            self._ids[start:end], self._logprobs[start:end] = row.top.ids, row.top.logprobs
            self._tail[start:end] = row.top.tail
            self._places[_key(row.trace)] = (start, end)
            start = end
            yield row.trace

    def top(self, traces: Sequence[Trace], k: int) -> list[TopK]:
        """See `Teacher.top`; fewer tokens than the pack holds put the others into the tail.

        Raises:
            ConfigurationError: If the pack holds fewer than k, or not this trace.
        """
        if k > self.header.top_k:
            raise ConfigurationError(
                f"top_k is {k}, and the pack holds {self.header.top_k} tokens of every distribution",
                where=str(self._path),
                fix=f"set top_k to {self.header.top_k} or less, or make the pack with more",
            )
        return [self._one(trace, k) for trace in traces]

    def logprobs(self, traces: Sequence[Trace]) -> list[FloatArray]:
        """See `Teacher.logprobs`; NaN for tokens outside of the top k."""
        found: list[FloatArray] = []
        for trace, top in zip(traces, self.top(traces, self.header.top_k), strict=True):
            tokens = np.array([*(trace.completion.prompt_tokens or ()), *(trace.completion.tokens or ())])
            here = top.ids == tokens[:, None]
            values = np.where(here, top.logprobs, 0.0).sum(1)
            found.append(np.where(here.any(1), values, np.nan).astype(np.float32))
        return found

    def close(self) -> None:
        """Remove the flat files."""
        self._ids, self._logprobs = self._ids[:0], self._logprobs[:0]
        self._tail = self._tail[:0]
        shutil.rmtree(self._folder, ignore_errors=True)

    def _one(self, trace: Trace, k: int) -> TopK:
        place = self._places.get(_key(trace))
        if place is None:
            raise ConfigurationError(
                "the pack does not hold this trace", where=f"{self._path}, problem {trace.problem.id}"
            )
        rows = slice(*place)
        logprobs = self._logprobs[rows].astype(np.float32)
        rest = np.exp(logprobs[:, k:].astype(np.float64)).sum(1) + np.exp(self._tail[rows].astype(np.float64))
        prompt = len(trace.completion.prompt_tokens or ())
        with np.errstate(divide="ignore"):
            tail = np.log(rest).astype(np.float32)
        return TopK(
            np.concatenate([np.full((prompt, k), -1, np.int32), self._ids[rows, :k]]),
            np.concatenate([np.full((prompt, k), -np.inf, np.float32), logprobs[:, :k]]),
            np.concatenate([np.zeros(prompt, np.float32), tail]),
        )


def _flat(path: Path, kind: type, shape: tuple[int, ...]) -> Any:
    """An array in a file; nothing is mapped when it is empty."""
    return np.memmap(path, kind, "w+", shape=shape) if 0 not in shape else np.zeros(shape, kind)


def _key(trace: Trace) -> Key:
    return trace.problem.id, trace.completion.prompt_tokens or (), trace.completion.tokens or ()


def pack_row(trace: Trace, top: TopK) -> PackRow:
    """A row of a pack, from what a teacher said of a whole sequence."""
    start = len(trace.completion.prompt_tokens or ())
    return PackRow(trace, TopK(top.ids[start:], top.logprobs[start:], top.tail[start:]))
