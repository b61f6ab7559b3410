"""One policy for reading a response: where thinking ends, and which words are the final answer.

The answer is looked for only after the end of thinking. A thought that never closes is a truncated response and has no
answer, whatever it says inside. Everything here is linear in the length of the text.
"""

from __future__ import annotations

import re
from typing import NamedTuple

THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"


class Thought(NamedTuple):
    """A response taken apart."""

    thinking: str
    """Text between the tags, stripped; empty when the response does not reason aloud."""
    answer: str
    """Text after the thought."""
    closed: bool
    """False when a thought was opened and never closed: the response was cut."""


class FinalAnswer(NamedTuple):
    """The final answer of a response, or why there is none."""

    text: str | None
    reason: str
    """`marked` or `last line` when found; `no answer` or `truncated` when not."""


def split_thinking(response: str) -> Thought:
    """Take a response apart at its thinking tags.

    A response may carry only the closing tag, because some templates open the thought in the prompt.
    """
    head, closing, tail = response.rpartition(THINK_CLOSE)
    if closing:
        if THINK_OPEN in tail:  # a second thought that never closed
            return Thought(response.replace(THINK_OPEN, "").strip(), "", False)
        return Thought(head.replace(THINK_OPEN, "").replace(THINK_CLOSE, "").strip(), tail.strip(), True)
    before, opening, thinking = response.partition(THINK_OPEN)
    if opening:
        return Thought(thinking.strip(), before.strip(), False)
    return Thought("", response.strip(), True)


_MARKER = re.compile(r"(?:the\s+)?(?:final\s+)?answer\s+is\s*:?|(?:final\s+)?answer\s*:|####", re.IGNORECASE)


def final_answer(response: str) -> FinalAnswer:
    r"""Read the final answer: the last of `\boxed{}`, `<answer>`, "the answer is" or `####` after the thought.

    Without any marker the last non-empty line is the answer, so that terse models are not judged by their manners.
    """
    thought = split_thinking(response)
    if not thought.closed:
        return FinalAnswer(None, "truncated")
    text = thought.answer
    if not text:
        return FinalAnswer(None, "no answer")
    found = max(_boxed(text), _tagged(text), _after_marker(text), key=lambda hit: hit[0])
    if found[0] >= 0:
        answer = found[1].strip()
        return FinalAnswer(answer, "marked") if answer else FinalAnswer(None, "no answer")
    return FinalAnswer(text.splitlines()[-1].strip(), "last line")


def _boxed(text: str) -> tuple[int, str]:
    r"""Position and content of the last complete `\boxed{...}`, braces matched."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return -1, ""
    depth = 0
    for index in range(start + 6, len(text)):
        depth += (text[index] == "{") - (text[index] == "}")
        if depth == 0:
            return start, text[start + 7 : index]
    return start, ""


def _tagged(text: str) -> tuple[int, str]:
    start = text.rfind("<answer>")
    if start < 0:
        return -1, ""
    body, closing, _ = text[start + 8 :].partition("</answer>")
    return start, body if closing else ""


def _after_marker(text: str) -> tuple[int, str]:
    """The rest of the line behind the last marker, its closing full stop removed."""
    last = None
    for last in _MARKER.finditer(text):
        pass
    if last is None:
        return -1, ""
    rest = text[last.end() :].lstrip()
    line = rest.splitlines()[0] if rest else ""
    return last.start(), line.strip().rstrip(".").strip()
