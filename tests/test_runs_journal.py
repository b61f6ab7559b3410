"""Journals: whole rows or none, whatever happens, and the same rows from Parquet."""

from __future__ import annotations

import errno
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.core.errors import DataError, ResourceError
from ponder.runs import journal as module
from ponder.runs.journal import Journal, read_rows

ROWS = [{"n": number, "text": "ü\u2028 line\nbreak " * number} for number in range(5)]


def test_rows_come_back_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "new" / "j.jsonl")
    journal.append(ROWS[0])
    journal.append_all(ROWS[1:])
    journal.append_all([])
    assert list(journal.rows()) == list(read_rows(journal.path)) == list(Journal(journal.path).rows()) == ROWS
    assert len(journal) == len(Journal(journal.path)) == 5
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600


def test_a_tail_torn_at_any_byte_is_repaired(tmp_path: Path) -> None:
    whole = Journal(tmp_path / "whole.jsonl")
    whole.append_all(ROWS)
    data = whole.path.read_bytes()
    for cut in range(len(data) + 1):
        path = tmp_path / "torn.jsonl"
        path.write_bytes(data[:cut])
        complete = data[:cut].count(b"\n")
        assert list(read_rows(path)) == ROWS[:complete]  # a reader sees no half row even before the repair
        journal = Journal(path)
        assert len(journal) == complete
        journal.append({"n": -1})
        assert [*journal.rows()] == [*ROWS[:complete], {"n": -1}]


def test_truncating_keeps_the_first_rows(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.append_all(ROWS)
    journal.truncate(5)
    journal.truncate(2)
    journal.append(ROWS[4])
    assert [*Journal(journal.path).rows()] == [ROWS[0], ROWS[1], ROWS[4]]
    for wrong in (-1, 4):
        with pytest.raises(ValueError):
            journal.truncate(wrong)


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.append({"loss": float("nan"), "list": [float("inf"), 1.0], "half": "\ud800"})
    assert [*journal.rows()] == [{"loss": None, "list": [None, 1.0], "half": "\ud800"}]


@pytest.mark.parametrize("damage", [b"not json\n", b"[1]\n", b"\0\0\0\n", b'{"n": \n'])
def test_a_damaged_line_is_named(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'{"n":1}\n' + damage + b'{"n":2}\n')
    with pytest.raises(DataError) as caught:
        list(Journal(path).rows())
    assert caught.value.where == f"{path}:2" and "not json" not in str(caught.value)


def test_a_full_disk_leaves_no_half_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.append_all(ROWS[:2])
    real = os.write
    calls = iter((True, False))

    def fill(descriptor: int, data: Any) -> int:
        if next(calls):
            return real(descriptor, bytes(data)[:9])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "write", fill)
    with pytest.raises(ResourceError, match="full"):
        journal.append_all(ROWS[2:])
    monkeypatch.undo()
    assert len(journal) == 2 and journal.path.read_bytes().endswith(b"}\n")
    journal.append(ROWS[2])
    assert [*journal.rows()] == ROWS[:3]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
KEYS = st.sampled_from(["a", "b", "c", "long key"])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.dictionaries(KEYS, VALUES, min_size=1, max_size=3), max_size=5))
def test_parquet_holds_the_same_rows(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    journal = Journal(tmp_path_factory.mktemp("seal") / "j.jsonl")
    journal.append_all(rows)
    assert list(read_rows(journal.seal())) == rows


def test_sealed_scalars_are_typed_columns(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.append_all({"n": n, "share": n / 2 if n % 2 else 1, "tags": ["x"], "note": "a"} for n in range(3000))
    schema = module.pq.read_schema(journal.seal())
    assert [str(kind) for kind in schema.types] == ["int64", "double", "string", "string"]


def test_a_cut_parquet_file_points_to_its_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.append_all(ROWS)
    sealed = journal.seal()
    sealed.write_bytes(sealed.read_bytes()[:-10])
    with pytest.raises(ResourceError, match="Parquet") as caught:
        list(read_rows(sealed))
    assert ".jsonl" in caught.value.fix
    assert list(read_rows(journal.seal())) == ROWS
    with pytest.raises(ResourceError):
        list(read_rows(tmp_path / "absent.jsonl"))


WRITER = """
import sys
from pathlib import Path
from ponder.runs.journal import Journal
journal = Journal(Path(sys.argv[1]))
for number in range(len(journal), 10**9):
    journal.append({"n": number, "filler": "x" * 3000})
    print(number + 1, flush=True)
"""


def test_a_kill_loses_no_row_that_was_confirmed(tmp_path: Path) -> None:
    path, rng = tmp_path / "j.jsonl", random.Random(3)
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": "src"},
        )
        assert writer.stdout is not None
        confirmed = int(writer.stdout.readline())
        time.sleep(rng.random() * 0.02)
        writer.send_signal(signal.SIGKILL)
        confirmed = max([confirmed, *map(int, writer.stdout.read().split())])
        writer.wait()
        numbers = [row["n"] for row in Journal(path).rows()]
        assert numbers == list(range(len(numbers))) and len(numbers) >= confirmed
