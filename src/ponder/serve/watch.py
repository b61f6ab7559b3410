"""Sees whether the files of a model have changed since it was loaded; what is loaded goes on being served."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from ponder.core.errors import ResourceError
from ponder.runs.keys import Fingerprint, fingerprint

_log = logging.getLogger("ponder.serve")
EVERY_SECONDS = 5.0
"""Between two looks."""


class Watch:
    """Compares hashes; contents are read again only when sizes or times have changed.

    Args:
        path: Of the model; hashed at once.
        every: Seconds between two looks.

    Raises:
        ResourceError: If it cannot be read.
    """

    def __init__(self, path: Path, every: float = EVERY_SECONDS) -> None:
        """Remember what was loaded."""
        self._path, self._every = path, every
        self._loaded: Fingerprint = fingerprint(path)
        self._seen = self._loaded
        self._looked, self._looking = time.monotonic(), threading.Lock()
        self.changed_before = False
        """What the last look found."""

    def changed(self) -> bool:
        """Whether the files differ from what was loaded, or are gone."""
        with self._looking:
            if time.monotonic() < self._looked + self._every:
                return self.changed_before
            try:
                self._seen = fingerprint(self._path, self._seen)
                changed = self._seen.digest != self._loaded.digest
            except ResourceError:
                changed = True
            if changed and not self.changed_before:
                _log.warning("the files of the model have changed; what was loaded goes on being served")
            self.changed_before, self._looked = changed, time.monotonic()
            return changed
