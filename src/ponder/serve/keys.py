"""The keys that clients show: from the environment or a file, kept as hashes, told apart by the beginnings of these."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Sequence
from pathlib import Path

from ponder.core.errors import ConfigurationError, ResourceError

KEY_VARIABLE = "PONDER_SERVE_KEY"
MAX_KEYS = 1000
ID_CHARACTERS = 8
"""Of a key's hash, by which logs and limits tell keys apart."""


class Keys:
    """Some keys, of which only hashes are kept.

    Args:
        keys: As clients show them; none: everybody may ask.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        """Forget the keys themselves."""
        self._hashes = tuple(_hash(key) for key in keys)

    def __bool__(self) -> bool:
        """Whether a key is needed."""
        return bool(self._hashes)

    def holder(self, shown: str) -> str | None:
        """The short name of the key that was shown, or None for one that is not ours; in the same time for all."""
        found, given = None, _hash(shown)
        for known in self._hashes:
            if hmac.compare_digest(given, known):
                found = known.hex()[:ID_CHARACTERS]
        return found


def read_keys(file: Path | None = None) -> tuple[str, ...]:
    """The keys that clients must show: of the environment (commas between them), or lines of a file.

    Arguments are seen by other users of the machine, so keys are never taken from there.

    Raises:
        ConfigurationError: If a key is empty or has characters that no header can carry, or others may read the file.
        ResourceError: If the file cannot be read.
    """
    given = os.environ.get(KEY_VARIABLE)
    where, keys = KEY_VARIABLE, [] if given is None else given.split(",")
    if file is not None:
        if given is not None:
            raise ConfigurationError(f"keys are given twice: by --keys and by {KEY_VARIABLE}", fix="use one of them")
        where, keys = str(file), _lines(file)
        if not keys:
            raise ConfigurationError("the file has no keys", where=where, fix="write one key on each line")
    for key in keys:
        if not (key and key.isascii() and key.isprintable() and key == key.strip() and " " not in key):
            raise ConfigurationError(
                "a key is empty, or has characters that a header cannot carry",
                where=where,
                fix="use letters and digits, or unset it",
            )
    if len(keys) > MAX_KEYS:
        raise ConfigurationError(f"more than {MAX_KEYS} keys", where=where, fix="use fewer")
    return tuple(dict.fromkeys(keys))


def _lines(file: Path) -> list[str]:
    try:
        if os.name == "posix" and file.stat().st_mode & 0o077:
            raise ConfigurationError("others may read the keys", where=str(file), fix=f"chmod 600 {file}")
        text = file.read_text(encoding="ascii")
    except OSError as error:
        raise ResourceError(f"cannot read the keys: {error.strerror}", where=str(file), fix="name a file") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError("a key has characters that a header cannot carry", where=str(file)) from error
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
