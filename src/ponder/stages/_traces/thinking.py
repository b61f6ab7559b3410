"""A response as thinking and answer apart, and put together again as the same text to the letter."""

from __future__ import annotations

import re
from typing import NamedTuple

from ponder.core.answers import THINK_CLOSE, THINK_OPEN

TAGS = (f"{THINK_OPEN}\n", f"\n{THINK_CLOSE}\n\n")
"""Around the thinking, as Ponder's own models write it."""
_PARTS = re.compile(rf"(\s*{THINK_OPEN}\s*)?(\S.*?)(\s*{THINK_CLOSE}\s*)(\S.*)", re.DOTALL)
_THOUGHT = re.compile(
    r"\s*<\|begin_of_thought\|>\s*(.*?)\s*<\|end_of_thought\|>\s*"
    r"(?:<\|begin_of_solution\|>)?\s*(.*?)\s*(?:<\|end_of_solution\|>)?\s*",
    re.DOTALL,
)


class Parts(NamedTuple):
    """A response taken apart: text = tags[0] + thinking + tags[1] + answer."""

    thinking: str
    answer: str
    tags: tuple[str, str]


def apart(text: str) -> Parts | None:
    """The parts of a response that thinks once and then answers; None for any other."""
    if text.count(THINK_CLOSE) != 1 or text.count(THINK_OPEN) > 1:
        return None
    found = _PARTS.fullmatch(text)
    if found is None or THINK_OPEN in found[2]:
        return None
    return Parts(found[2], found[4], (found[1] or "", found[3]))


def together(thinking: str, answer: str, tags: tuple[str, str] = TAGS) -> str:
    r"""The response that has these parts.

    Example:
        >>> together("2 + 2 = 4", "The answer is 4.")
        '<think>\n2 + 2 = 4\n</think>\n\nThe answer is 4.'
    """
    return f"{tags[0]}{thinking}{tags[1]}{answer}"


def normal(text: str) -> str:
    """A response with OpenThoughts' marks of thought and solution written as thinking tags; any other as it is."""
    if "<|begin_of_thought|>" not in text:
        return text
    found = _THOUGHT.fullmatch(text)
    return together(found[1], found[2]) if found is not None and found[1] and found[2] else text
