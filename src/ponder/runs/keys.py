"""What a result depends on, as hashes: records, files, and Ponder's own code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import ponder
from ponder.core.errors import ResourceError
from ponder.core.types import Json, Record


class Fingerprint(Record):
    """A file or folder as it was read."""

    digest: str
    """Of names and contents."""
    stamp: str
    """Of names, sizes and modification times: while it is equal, the contents need not be read again."""


def digest_of(value: Any) -> str:
    """Hash of anything that JSON can hold, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def fingerprint(path: Path, known: Fingerprint | None = None) -> Fingerprint:
    """Fingerprint of a file, or of all files below a folder; hidden files are left out.

    Args:
        path: An existing file or folder.
        known: An earlier fingerprint, whose digest is kept when the stamp did not change.

    Raises:
        ResourceError: If something cannot be read.
    """
    try:
        files = sorted(_files(path))
        stats = [(str(file.relative_to(path)), file.stat()) for file in files]
        stamp = digest_of([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])
        if known is not None and known.stamp == stamp:
            return known
        return Fingerprint(digest=digest_of([(str(f.relative_to(path)), _file_digest(f)) for f in files]), stamp=stamp)
    except OSError as error:
        raise ResourceError(f"this input cannot be read: {error.strerror}", where=str(path)) from error


@cache
def code_version() -> Json:
    """The version of Ponder and the hash of everything in its package."""
    return {"version": ponder.__version__, "digest": fingerprint(Path(ponder.__file__).parent).digest}


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for folder, subfolders, names in os.walk(path):
        subfolders[:] = [name for name in subfolders if name != "__pycache__" and not name.startswith(".")]
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
