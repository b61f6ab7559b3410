"""Capitals, articles and lists, as English writes them."""

from __future__ import annotations

from collections.abc import Iterable


def capital(text: str) -> str:
    """The text with its first letter as a capital."""
    return text[:1].upper() + text[1:]


def indefinite(thing: str) -> str:
    """A thing with its indefinite article."""
    return f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"


def joined(parts: Iterable[str], link: str = " and ") -> str:
    """One or more parts as English joins them: `a, b and c`."""
    *head, last = parts
    return f"{', '.join(head)}{link}{last}" if head else last
