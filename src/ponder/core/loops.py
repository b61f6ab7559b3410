"""Tells a text that has begun to repeat itself from one that goes on."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

LEAST_TIMES = 3
"""Blocks alike, one behind the other, that make a loop ..."""
LEAST_COVERED = 24
"""... if they are so many items together."""
LONGEST = 256
"""Items of the longest block that is looked for."""


def repeats(items: Sequence[Hashable]) -> bool:
    """Whether a sequence ends in a loop: one block at least three times, over 24 items at least.

    Takes time in proportion to what it compares until a difference, which in a text that goes on is next to nothing.

    Example:
        >>> repeats("so it is 4 , wait , ".split() * 6), repeats([f"{n}," for n in range(100)])
        (True, False)
    """
    for period in range(1, min(LONGEST, len(items) // LEAST_TIMES) + 1):
        needed = max(LEAST_COVERED, LEAST_TIMES * period)
        if needed > len(items) or items[-1] != items[-1 - period]:
            continue
        if all(items[-1 - back] == items[-1 - back - period] for back in range(needed - period)):
            return True
    return False
