"""Gives the special tokens of a GGUF file names that nobody can type, in place and byte by byte.

wllama reads names of special tokens in a prompt as these tokens, even where a user wrote them. With other names a
user's text stays text; first and last character of each name change, so nothing in the file moves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path


def can_be_marked(name: str) -> bool:
    """Whether a name is of the usual form: `<...>`."""
    return len(name) > 2 and name.startswith("<") and name.endswith(">") and not {"\x02", "\x03"} & set(name)


def marked(name: str) -> str:
    """The other name."""
    return f"\x02{name[1:-1]}\x03"


def rename(path: Path, names: Iterable[str], header_bytes: int, back: bool = False) -> None:
    """Write the other names into a file (or, `back`, the usual ones).

    Args:
        path: A GGUF file.
        names: The usual names.
        header_bytes: Before the tensors.
        back: Whether to undo it.
    """
    pairs = {(name.encode(), marked(name).encode()) for name in names}
    table = {new: old for old, new in pairs} if back else dict(pairs)
    pattern = re.compile(b"|".join(map(re.escape, sorted(table, key=len, reverse=True))))
    with path.open("r+b") as file:
        head = file.read(header_bytes)
        file.seek(0)
        file.write(pattern.sub(lambda found: table[found[0]], head))
