"""Removes stored texts from a run: all of them, or what belongs to one subject; weights are not touched.

A subject is named by a problem's id, or by a value in its `meta`. A row that names it goes, with the purchases whose
answers it holds; what they cost stays in the sums. Everything is rewritten under a temporary name and renamed, so a
purge that was killed is begun again by the same command.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from ponder.core.types import Json
from ponder.runs.files import atomic_file, disk_errors, sync_folder, write_atomic
from ponder.runs.journal import Journal, encode, read_rows
from ponder.runs.pack import PACK, PackWriter, read_header, read_pack
from ponder.runs.store import SUMMARY

PURCHASES = "purchases.jsonl"
WITHOUT_TEXT = ("events.jsonl", "ledger.jsonl", "metrics.jsonl", "timing.jsonl")
"""Journals of figures: a purge of everything leaves them, a purge of a subject takes its name out of them."""
SETTINGS = ("stage.json", "recipe.yaml", "manifest.json", "plan.json")
"""What was asked for: never rewritten, because a run is recognised by it."""
QUOTING = re.compile(r"worst-.*\.json|alarms\.json|.*\.html|.*\.md")
"""Files that quote texts."""
PAGES = (".html", ".md")
UNPACKED = "unpacked"
PURGED = "[purged]"
_NAMING = ("id", "subject", "problem", "problem_id")


class Finding(NamedTuple):
    """A file that holds what is to go."""

    path: Path
    rows: int | None
    """That go; None: the whole file."""
    bytes: int


def find(run: Path, subjects: Collection[str] = (), before: float | None = None) -> list[Finding]:
    """What a purge would remove; nothing is changed.

    Args:
        run: Its folder.
        subjects: Ids or values in `meta`; none means everything.
        before: Only files that were last written before this time (seconds since 1970).
    """
    chosen = [path for path in _files(run) if before is None or path.stat().st_mtime < before]
    if not subjects:
        return [Finding(path, None, path.stat().st_size) for path in chosen if _holds_text(path)]
    found: list[Finding] = []
    texts = _texts(run, subjects)
    for path in chosen:
        if path.suffix in PAGES or UNPACKED in path.parts:  # made again from what is left
            found.append(Finding(path, None, path.stat().st_size))
        elif rows := _count(path, subjects, texts):
            found.append(Finding(path, rows, path.stat().st_size))
    return found


def unfinished(run: Path, found: Collection[Finding]) -> list[str]:
    """Stages that are not done and would draw the removed rows again."""
    names = {each.path.relative_to(run).parts[0] for each in found if each.rows is not None and each.path.parent != run}
    return sorted(name for name in names if not (run / name / SUMMARY).exists())


def remove(run: Path, found: Collection[Finding], subjects: Collection[str] = ()) -> None:
    """Carry out what `find` found.

    Raises:
        ResourceError: If a file cannot be written or removed; the same command goes on.
    """
    texts = _texts(run, subjects) if subjects else set()
    # Whose texts name the purchases goes last, so that a second attempt finds them still.
    for each in sorted(found, key=lambda finding: finding.path.name != PURCHASES):
        with disk_errors(each.path):
            if each.rows is None:
                each.path.unlink(missing_ok=True)
            elif each.path.suffix == ".parquet":
                _rewrite_sealed(each.path, subjects)
            elif each.path.suffix == ".jsonl":
                _rewrite_journal(each.path, subjects, texts)
            else:
                value = _without(json.loads(each.path.read_bytes()), subjects)
                write_atomic(each.path, encode(value))
    for folder in {each.path.parent for each in found if each.rows is None}:
        if folder.name in (UNPACKED, "purchases") and not any(folder.iterdir()):
            shutil.rmtree(folder)
        elif folder.exists():
            sync_folder(folder)


def trained(run: Path) -> list[str]:
    """Stages that left weights, which may remember what they were trained on."""
    kept = (path.parent for name in ("model", "snapshots", "checkpoints") for path in run.glob(f"*/{name}"))
    return sorted({folder.name for folder in kept})


def _files(run: Path) -> Iterator[Path]:
    """Files of a run that may hold texts; neither links nor the folders of models."""
    for folder, folders, names in os.walk(run):
        folders[:] = sorted(name for name in folders if name not in ("model", "snapshots", "checkpoints"))
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_symlink() or name in SETTINGS or name.startswith("."):
                continue
            if path.suffix in (".jsonl", ".parquet", ".json", *PAGES) or UNPACKED in path.parts:
                yield path


def _holds_text(path: Path) -> bool:
    if path.suffix in (".json", *PAGES):
        return QUOTING.fullmatch(path.name) is not None
    return path.name not in WITHOUT_TEXT


def _names(value: Any, subjects: Collection[str]) -> bool:
    """Whether a row is about one of the subjects."""
    if isinstance(value, list):
        return any(_names(each, subjects) for each in value)
    if not isinstance(value, dict):
        return False
    for key, each in value.items():
        if key in _NAMING and str(each) in subjects:
            return True
        if key == "meta" and isinstance(each, dict) and any(str(one) in subjects for one in each.values()):
            return True
        if _names(each, subjects):
            return True
    return False


def _texts(run: Path, subjects: Collection[str]) -> set[str]:
    """Answers about the subjects, by which their purchases are found."""
    found: set[str] = set()
    for path in _files(run):
        if path.suffix == ".jsonl" and path.name not in (*WITHOUT_TEXT, PURCHASES):
            for row in read_rows(path):
                completion = row.get("completion")
                if isinstance(completion, dict) and _names(row, subjects):
                    found.add(str(completion.get("text", "")))
    return found - {""}


def _goes(path: Path, row: Json, subjects: Collection[str], texts: Collection[str]) -> bool:
    if path.name == PURCHASES:
        return any(each.get("text") in texts for each in row.get("completions", ()) if isinstance(each, dict))
    return path.name not in WITHOUT_TEXT and _names(row, subjects)


def _count(path: Path, subjects: Collection[str], texts: Collection[str]) -> int:
    """Rows or values of a file that go."""
    if path.name == PACK:
        return sum(_names(row.trace.model_dump(mode="json"), subjects) for row in read_pack(path))
    if path.suffix in (".jsonl", ".parquet"):
        return sum(_goes(path, row, subjects, texts) or _redacted(row, subjects) != row for row in read_rows(path))
    value = json.loads(path.read_bytes())
    return int(_without(value, subjects) != value)


def _rewrite_journal(path: Path, subjects: Collection[str], texts: Collection[str]) -> None:
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        for row in read_rows(path):
            if not _goes(path, row, subjects, texts):
                file.write(encode(_redacted(row, subjects)))
            elif path.name == PURCHASES:  # what it cost is still true
                spent = {key: value for key, value in row.items() if key not in ("keys", "completions")}
                file.write(encode({**spent, "kind": "waste", "why": "purged"}))
    if path.with_suffix(".parquet").exists():
        Journal(path).seal()


def _rewrite_sealed(path: Path, subjects: Collection[str]) -> None:
    if path.name == PACK:
        kept = [row for row in read_pack(path) if not _names(row.trace.model_dump(mode="json"), subjects)]
        with PackWriter(path, read_header(path)) as writer:
            writer.write(kept)
    elif (journal := path.with_suffix(".jsonl")).exists():
        Journal(journal).seal()  # which is rewritten before it
    else:
        mask = [not _names(row, subjects) for row in read_rows(path)]
        table = pq.read_table(path)
        with atomic_file(path) as temporary:
            pq.write_table(table.filter(mask), temporary, compression="zstd")


def _without(value: Any, subjects: Collection[str]) -> Any:
    """The value without list items about the subjects, and without their names in texts."""
    if isinstance(value, list):
        return [_without(each, subjects) for each in value if not _about(each, subjects)]
    if isinstance(value, dict):
        return {key: _without(each, subjects) for key, each in value.items()}
    return _redacted(value, subjects)


def _about(value: Any, subjects: Collection[str]) -> bool:
    """Whether an item itself is about a subject, not only something inside of a list in it."""
    flat = {key: each for key, each in value.items() if not isinstance(each, list)} if isinstance(value, dict) else {}
    return _names(flat, subjects)


def _redacted(value: Any, subjects: Collection[str]) -> Any:
    """The value with the subjects' names taken out of its texts; short numbers only where they are all of a text."""
    if isinstance(value, dict):
        return {key: _redacted(each, subjects) for key, each in value.items()}
    if isinstance(value, list):
        return [_redacted(each, subjects) for each in value]
    if not isinstance(value, str):
        return value
    for subject in subjects:
        if value == subject:
            return PURGED
        if len(subject) >= 4 and not subject.isdigit():
            value = re.sub(rf"(?<![\w-]){re.escape(subject)}(?![\w-])", PURGED, value)
    return value
