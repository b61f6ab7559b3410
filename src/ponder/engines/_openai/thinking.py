"""Thinking in one form: whatever way a server shows it, the text reads as a local model's does."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from ponder.core.answers import THINK_CLOSE, THINK_OPEN

_SURROGATE = re.compile("[\ud800-\udfff]")
_FIELDS = ("reasoning_content", "reasoning")


class Said(NamedTuple):
    """What a message says, in Ponder's form."""

    text: str
    """`<think>\\n...\\n</think>\\n\\n...`, or the answer alone."""
    raw: str | None
    """As it was served, where that was another form: the text, or the message's fields as JSON."""
    cut: bool
    """A thought was opened and never closed."""


def said(message: Any, cut: bool = False) -> Said:
    """The text of a chat message.

    Args:
        message: The `message` of a choice; anything that is not one says nothing.
        cut: Whether the tokens ran out, so that a thought without an answer behind it never closed.
    """
    if not isinstance(message, dict):
        return Said("", None, False)
    content, inner = _content(message.get("content"))
    field = next((name for name in _FIELDS if isinstance(message.get(name), str) and message[name].strip()), None)
    thought = _clean(message[field]) if field else inner
    if not thought.strip():
        return _inline(content)
    shown = {name: message[name] for name in ("content", field) if name is not None and name in message}
    raw = _clean(json.dumps(shown, ensure_ascii=False))
    answer = content.rpartition(THINK_CLOSE)[2] if THINK_CLOSE in content else content
    if cut and not answer.strip():
        return Said(f"{THINK_OPEN}\n{thought.strip()}", raw, True)
    return Said(_joined(thought, answer), raw, False)


def _inline(content: str) -> Said:
    """Text that may hold a thought between tags, or only the tag that closes it."""
    opened = content.lstrip().startswith(THINK_OPEN)
    if content.count(THINK_OPEN) > 1 or content.count(THINK_CLOSE) > 1 or (THINK_OPEN in content and not opened):
        open_end = content.rfind(THINK_OPEN) > content.rfind(THINK_CLOSE)
        return Said(content, None, open_end and THINK_OPEN in content)  # no form that is known: left as it is
    head, closing, answer = content.partition(THINK_CLOSE)
    thought = head.lstrip().removeprefix(THINK_OPEN)
    if closing:
        text = _joined(thought, answer) if thought.strip() else answer.lstrip()
    elif opened:
        text = f"{THINK_OPEN}\n{thought.strip()}"
    else:
        text = content
    return Said(text, None if text == content else content, opened and not closing)


def _joined(thought: str, answer: str) -> str:
    return f"{THINK_OPEN}\n{thought.strip()}\n{THINK_CLOSE}\n\n{answer.lstrip()}"


def _content(content: Any) -> tuple[str, str]:
    """(answer, thought) of a content that is a text, or a list of parts."""
    if isinstance(content, str):
        return _clean(content), ""
    if not isinstance(content, list):
        return "", ""
    answer, thought = [], []
    for part in content:
        if not isinstance(part, dict):
            continue
        if isinstance(part.get("text"), str):
            (thought if part.get("type") in ("thinking", "reasoning") else answer).append(part["text"])
        elif "thinking" in part:
            inner = part["thinking"]
            thought.append(inner if isinstance(inner, str) else _content(inner)[0])
    return _clean("".join(answer)), _clean("".join(thought))


def _clean(text: str) -> str:
    """Text that can be stored: half of a surrogate pair is no character."""
    return _SURROGATE.sub("\ufffd", text)
