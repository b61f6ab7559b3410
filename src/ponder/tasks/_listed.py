"""Answers that are lists: how the skills whose answer has several parts read them."""

from __future__ import annotations

import re

from ponder.core.answers import final_answer
from ponder.core.types import Verdict

_HEDGE = re.compile(r"\b(?:or|either|maybe|perhaps|possibly|might)\b")
_SEPARATOR = re.compile(r"[,;\n]|->|\b(?:and|then|next|finally|first)\b")


def phrase(text: str) -> str:
    """Lower case, single spaces, no surrounding punctuation and no leading article."""
    words = text.lower().strip(" \t.,:;!?*-\"'()").split()
    return " ".join(words[1:] if words[:1] == ["the"] else words)


def listed(text: str) -> list[str]:
    """The parts of a list written with commas, `and`, `then` or arrows, each as a `phrase`."""
    return [part for part in map(phrase, _SEPARATOR.split(text.lower())) if part]


def read_list(response: str) -> tuple[list[str], str] | Verdict:
    """The parts of the final answer and its text, or the verdict on a response that names no list."""
    found = final_answer(response)
    if found.text is None:
        return Verdict.wrong(reason=found.reason)
    if _HEDGE.search(found.text.lower()):
        return Verdict.wrong(found.text, "hedged")
    return listed(found.text), found.text
