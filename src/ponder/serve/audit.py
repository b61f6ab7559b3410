"""The audit log: a line for every request, without the text of any conversation unless that was asked for."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

from ponder.core.errors import ResourceError
from ponder.core.types import Json

_log = logging.getLogger("ponder.serve")
MODE = 0o600
FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


class Audit:
    """Appends JSON lines to a file that only its owner reads.

    The file may be renamed or removed at any time, as log rotation does: the next line begins a new one. A line that
    cannot be written is lost, counted, and fails no request.

    Args:
        path: Of the file.
        content: Whether lines hold prompts and answers too.

    Raises:
        ResourceError: If the file cannot be opened.
    """

    def __init__(self, path: Path, content: bool = False) -> None:
        """Open the file."""
        self.path, self.content, self.lost = path, content, 0
        self._torn = False
        try:
            self._file = self._open()
        except OSError as error:
            raise ResourceError(
                f"the audit log cannot be written: {error.strerror}", where=str(path), fix="choose another file"
            ) from error

    def write(self, row: Json) -> bool:
        """Append a line; False if it was lost."""
        line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        try:
            self._follow()
            if self._torn:
                line = b"\n" + line
            written = os.write(self._file, line)
            self._torn = written < len(line)
        except OSError as error:
            if self.lost == 0:
                _log.error("the audit log cannot be written: %s", error.strerror)
            self.lost += 1
            return False
        self.lost += self._torn
        return not self._torn

    def close(self) -> None:
        """No more lines."""
        os.close(self._file)

    def _open(self) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        found = os.open(self.path, FLAGS, MODE)
        if os.fstat(found).st_mode & 0o077:
            os.fchmod(found, MODE)
        return found

    def _follow(self) -> None:
        """Go on in a new file where the old one was renamed or removed."""
        own = os.fstat(self._file)
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (own.st_dev, own.st_ino):
            old, self._file = self._file, self._open()
            self._torn = False
            os.close(old)


def fingerprint(text: str) -> str:
    """Hash that tells whether two texts are the same; one that is short or common can be guessed from it."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
