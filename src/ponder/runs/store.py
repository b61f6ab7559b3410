"""What a run leaves behind: a folder, with one sub-folder per stage.

A stage is done when its `summary.json` exists, and that file is written last. One process at a time owns a
run.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ponder.core.errors import ConfigurationError, ResourceError
from ponder.core.types import Json
from ponder.runs.files import PRIVATE_FILE, disk_errors, make_folder, sweep, write_atomic
from ponder.runs.files import atomic_folder as atomic_folder  # callers think of it as part of the store
from ponder.runs.journal import Journal, encode
from ponder.runs.journal import read_rows as read_rows

SUMMARY = "summary.json"
LOCK = ".lock"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def is_safe_name(name: str) -> bool:
    """Whether a name can be a folder of a run: letters, digits, `_`, `-` and `.`, leading nowhere else."""
    return _NAME.fullmatch(name) is not None


class StageFolder:
    """The folder of one stage. Nothing is created before something is written."""

    def __init__(self, path: Path) -> None:
        """`path` need not exist yet."""
        self.path = path
        self._journals: dict[str, Journal] = {}

    def is_done(self) -> bool:
        """Whether the stage ran to its end; a damaged summary counts as none."""
        try:
            return self.read_json(SUMMARY) is not None
        except ResourceError:
            return False

    def summary(self) -> Json:
        """What the finished stage returned.

        Raises:
            ResourceError: If it is not finished.
        """
        summary = self.read_json(SUMMARY)
        if summary is None:
            raise ResourceError("this stage is not done", where=str(self.path), fix="run the recipe again")
        return summary

    def finish(self, summary: Json) -> None:
        """Flush the journals, then mark the stage as done."""
        for journal in self._journals.values():
            journal.sync()
        self.write_json(SUMMARY, summary)

    def journal(self, name: str) -> Journal:
        """The journal `name.jsonl`, the same object for the same name."""
        if name not in self._journals:
            self._journals[name] = Journal(self.path / _with_suffix(name, ".jsonl"))
        return self._journals[name]

    def read_json(self, name: str) -> Any:
        """The content of `name.json`, or None when there is no such file.

        Raises:
            ResourceError: If the file cannot be read as JSON.
        """
        path = self.path / _with_suffix(name, ".json")
        try:
            return json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ResourceError(f"this file cannot be read: {error}", where=str(path)) from error

    def write_json(self, name: str, value: Any) -> None:
        """Replace `name.json` atomically; numbers that are not finite become null."""
        write_atomic(self.path / _with_suffix(name, ".json"), encode(value))


class Run:
    """A run folder owned by this process: created when missing, locked until `close`.

    Raises:
        ResourceError: If another process owns it, or it cannot be created.
    """

    def __init__(self, path: Path) -> None:
        """Create, lock, and tidy what killed writers left behind."""
        self.path = path
        make_folder(path)
        self._lock = _acquire(path)
        try:
            sweep(path)
        except BaseException:
            self.close()
            raise
        self._stages: dict[str, StageFolder] = {}

    def stage(self, name: str) -> StageFolder:
        """The folder of a stage, the same object for the same name.

        Raises:
            ConfigurationError: If the name, or a link under it, leads out of the run folder.
        """
        if not is_safe_name(name):
            raise ConfigurationError(
                f"{name!r} cannot name a stage", fix="use letters, digits, '_', '-' and '.', at most 100"
            )
        path = self.path / name
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise ConfigurationError(f"the stage folder {name!r} leads out of the run", where=str(path))
        return self._stages.setdefault(name, StageFolder(path))

    def events(self) -> Journal:
        """The journal of what happened, over all starts of this run."""
        return Journal(self.path / "events.jsonl")

    def close(self) -> None:
        """Give the run to the next process."""
        if self._lock is not None:
            _held.discard(self.path.resolve())
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_held: set[Path] = set()
"""Run folders that this process owns: a record lock does not exclude its own process."""


def _acquire(folder: Path) -> int | None:
    """Lock a folder. The kernel frees the lock of a process that died, and children do not inherit it."""
    path = folder / LOCK
    if folder.resolve() in _held:
        raise _owned(folder, os.getpid())
    with disk_errors(path):
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, PRIVATE_FILE)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with disk_errors(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        owner = os.pread(descriptor, 32, 0).strip().decode(errors="replace")
        os.close(descriptor)
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise _owned(folder, owner or "unknown") from error
        reason = error.strerror
        raise ResourceError(f"this file system cannot lock files: {reason}", where=str(path)) from error
    except ResourceError:
        os.close(descriptor)
        raise
    _held.add(folder.resolve())
    return descriptor


def _owned(folder: Path, owner: int | str) -> ResourceError:
    return ResourceError(
        f"another process is using this run: pid {owner}",
        where=str(folder),
        fix=f"wait for it, stop it with `kill {owner}`, or choose another folder with --out",
    )


def _with_suffix(name: str, suffix: str) -> str:
    return name if name.endswith(suffix) else name + suffix
