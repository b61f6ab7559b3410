"""How many of each kind a mixture takes, so that its shares come out and as much as possible is used."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

Kind = TypeVar("Kind", bound=Hashable)


def quotas(available: Mapping[Kind, int], shares: Mapping[Kind, float]) -> dict[Kind, int]:
    """The largest mixture with these shares.

    Args:
        available: How many there are of each kind.
        shares: Of each kind, relative to each other; a kind without one is left out.

    Returns:
        How many of each kind in `shares`; all are 0 when a kind that has a share has no members.

    Raises:
        ValueError: If no share is above 0, or one is below.

    Example:
        >>> quotas({"short": 100, "long": 50}, {"short": 0.8, "long": 0.2})
        {'short': 100, 'long': 25}
    """
    if any(share < 0 for share in shares.values()) or not any(shares.values()):
        raise ValueError("shares are 0 or more, and one of them is more")
    whole = sum(shares.values())
    wanted = {kind: share / whole for kind, share in shares.items()}
    total = min(available.get(kind, 0) / share for kind, share in wanted.items() if share > 0)
    return {kind: min(available.get(kind, 0), int(share * total + 0.5)) for kind, share in wanted.items()}
