"""Under which terms a model's answers may be learnt from, as far as its folder or the user says.

Nothing here is legal advice: a licence that is not in the table is shown by its name and counts as unknown, and unknown
is never shown as allowed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import yaml

from ponder.core.types import Record

Training = Literal["allowed", "conditions", "forbidden", "unknown"]
MAX_BYTES = 64 * 1024
"""Of a card or a licence that is looked at."""
CARDS = ("README.md", "MODELCARD.md")
LICENCES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE", "LICENCE.txt", "COPYING")


class Terms(Record):
    """What is known of the terms of a model or of data."""

    licence: str | None = None
    """Identifier as a model card writes it, such as `apache-2.0`; None when nothing is known."""
    training: Training = "unknown"
    """Whether other models may be trained on its answers."""
    note: str = ""
    """Conditions in a few words, or where the terms can be read."""
    source: str = ""
    """Who says so: `settings`, or the file."""


UNKNOWN = Terms()

_FREE = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "cc0-1.0", "unlicense", "cc-by-4.0")
KNOWN: dict[str, tuple[Training, str]] = {
    **{name: ("allowed", "") for name in _FREE},
    "cc-by-sa-4.0": ("conditions", "what is derived carries the same licence"),
    **{
        name: ("conditions", "not for commercial use")
        for name in ("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-2.0")
    },
    **{
        name: ("forbidden", "its answers must not be used to improve a model that is not derived from it")
        for name in ("llama2", "llama3")
    },
    **{
        name: ("conditions", "a model trained on its answers is named `Llama...` and says `Built with Llama`")
        for name in ("llama3.1", "llama3.2", "llama3.3", "llama4")
    },
    "gemma": ("conditions", "the terms of Gemma go with a model that was trained on its answers"),
    "openrail": ("conditions", "the licence's restrictions of use are passed on"),
    "bigscience-openrail-m": ("conditions", "the licence's restrictions of use are passed on"),
}
"""What licences say about training on a model's answers, as read in their texts in 2025; anything else is unknown."""
_FIRST_WORDS: tuple[tuple[str, str], ...] = (
    (r"apache license\s+version 2\.0", "apache-2.0"),
    (r"\bmit license\b", "mit"),
    (r"llama 2 community license", "llama2"),
    (r"(?:meta )?llama 3 community license", "llama3"),
    (r"llama 3\.1 community license", "llama3.1"),
    (r"llama 3\.2 community license", "llama3.2"),
    (r"llama 3\.3 community license", "llama3.3"),
    (r"gemma terms of use", "gemma"),
)


def terms_of_licence(licence: str, source: str, note: str = "") -> Terms:
    """The terms that a licence's identifier stands for.

    Example:
        >>> terms_of_licence("Apache-2.0", "README.md").training, terms_of_licence("other", "README.md").training
        ('allowed', 'unknown')
    """
    training, known = KNOWN.get(licence.strip().casefold(), ("unknown", ""))
    return Terms(licence=licence.strip(), training=training, note=note or known, source=source)


def terms_of_folder(folder: Path) -> Terms:
    """The terms that a model's folder names: its card's metadata first, then a licence text. Never raises."""
    for name in CARDS:
        if (terms := _of_card(folder / name)) is not None:
            return terms
    for name in LICENCES:
        if (text := _beginning(folder / name)) is not None:
            return _of_text(text, name)
    return UNKNOWN


def _of_card(path: Path) -> Terms | None:
    text = _beginning(path)
    front = re.match(r"\ufeff?---\r?\n(.*?)\r?\n---", text or "", re.DOTALL)
    if front is None:
        return None
    try:
        metadata: Any = yaml.safe_load(front[1])
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    licence = metadata.get("license") if isinstance(metadata, dict) else None
    if isinstance(licence, list) and licence:
        licence = licence[0]
    if not isinstance(licence, str) or not licence.strip():
        return None
    named = metadata.get("license_name")
    if licence.strip().casefold() == "other" and isinstance(named, str) and named.strip():
        licence = named
    link = metadata.get("license_link")
    return terms_of_licence(licence[:100], path.name, f"see {link[:200]}" if isinstance(link, str) else "")


def _of_text(text: str, name: str) -> Terms:
    start = " ".join(text[:2000].casefold().split())
    for pattern, licence in _FIRST_WORDS:
        if re.search(pattern, start):
            return terms_of_licence(licence, name)
    return Terms(note=f"see the file {name}", source=name)


def _beginning(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
