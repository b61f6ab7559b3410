"""One policy for reading a response: where thinking ends, and which words are the final answer.

The answer is looked for only after the end of thinking. A thought that never closes is a truncated response
and has no answer, whatever it says inside. Everything here is linear in the length of the text.
"""

from __future__ import annotations

import re
from typing import NamedTuple

THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"
WAIT = "\nWait, "
"""Stands where a thought would have closed, so that it goes on (s1, arXiv:2501.19393)."""
MAX_BOX = 20_000
"""Characters in a box; a longer one counts as never closed."""


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


class WorkedSolution(NamedTuple):
    """Somebody's solution taken apart: the way to the answer, and the answer."""

    reasoning: str
    """Text before the answer, stripped; empty when the solution is nothing but an answer."""
    answer: FinalAnswer


class _Hit(NamedTuple):
    """A place that states an answer."""

    start: int
    """Where the statement begins; -1 when there is none."""
    text: str
    closed: bool = True


_NOWHERE = _Hit(-1, "")
_MARKER = re.compile(  # begins with letters, not with a boundary, so that the search can skip ahead
    r"(?:answer[*_]{0,3}\s{0,3}(?:is\b|:|=)|correct\s{1,3}(?:option|choice)[*_]{0,3}\s{0,3}(?:is\b|:)|####)"
    r"[*_]{0,3}\s{0,3}:?",
    re.IGNORECASE,
)
_LEAD = re.compile(r"(?:\bthe\s{1,3})?(?:\b(?:final|correct)\s{1,3})?\Z", re.IGNORECASE)
_BOX = re.compile(r"\\boxed\s{0,3}\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_JOINED = re.compile(  # what may stand between two boxes that state one answer: `and`, `or`, a comma, a name
    r"(?:\s|\$|\\[()\[\]]|\\q?quad|\\[,;: ]|(?!(?:no|not|so|wait)\s)[A-Za-z]{1,12}(?=\s)){0,12}?"
    r"(?P<link>,|;|\b(?:and|or)\b|\\text\s?\{\s?(?P<word>and|or),?\s?\})"
    r"(?:\s|\$|\\[()\[\]]|\\q?quad|\\[,;: ]|and\b|[A-Za-z](?:_\{?\w\}?)?\s?=){0,12}"
)
_END_OF_TURN = re.compile(r"<\|[A-Za-z_ ]{1,40}\|>")
_FAREWELL = re.compile(r"\s*I\s{1,3}hope\s{1,3}(?:it|this)\s{1,3}(?:is|helps)(?:\s{1,3}correct)?[.!]?\s{0,9}\Z")
_SURROGATE = re.compile("[\ud800-\udfff]")
MAX_BOXES = 30
"""Boxes that are read together as one answer."""
_DELIMITERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"))


def split_thinking(response: str) -> Thought:
    """Take a response apart at its thinking tags.

    A response may carry only the closing tag, because some templates open the thought in the prompt.
    """
    head, closing, tail = response.rpartition(THINK_CLOSE)
    if closing:
        if THINK_OPEN in tail:  # a second thought that never closed
            return Thought(_without_tags(response), "", False)
        return Thought(_without_tags(head), tail.strip(), True)
    before, opening, thinking = response.partition(THINK_OPEN)
    if opening:
        return Thought(_without_tags(thinking), before.strip(), False)
    return Thought("", response.strip(), True)


def final_answer(response: str) -> FinalAnswer:
    r"""Read the final answer: the last of `\boxed{}`, `<answer>`, `the answer is` and `####` after thinking.

    Without any marker the last line that says something is the answer, so that terse models are not judged by
    their manners. A last box or answer tag that never closes means that the response was cut.
    """
    thought = split_thinking(response)
    return _read(thought.answer)[1] if thought.closed else FinalAnswer(None, "truncated")


def worked_solution(text: str) -> WorkedSolution:
    """Take a worked solution apart, by the rules that read a response.

    Text around a box or behind the answer belongs to the reasoning: it often holds the last step.
    """
    thought = split_thinking(text)
    if not thought.closed:
        return WorkedSolution("", FinalAnswer(None, "truncated"))
    start, answer = _read(thought.answer)
    boxed = thought.answer.startswith("\\boxed", start)
    if boxed and thought.answer[:start].strip(" $"):
        return WorkedSolution(thought.thinking or thought.answer, answer)
    return WorkedSolution(thought.thinking or thought.answer[:start].rstrip(" \n$*#"), answer)


def _read(text: str) -> tuple[int, FinalAnswer]:
    """Where the statement of the final answer begins, and the answer."""
    text = _own_words(text)
    hit = max(_boxed(text), _tagged(text), _after_marker(text), key=lambda hit: hit.start)
    reason = "marked"
    if hit.start < 0:
        hit, reason = _last_line(text), "last line"
    answer = _tidy(hit.text)
    if answer and hit.closed:
        return hit.start, FinalAnswer(answer, reason)
    return max(0, hit.start), FinalAnswer(None, "no answer" if hit.closed else "truncated")


def _own_words(text: str) -> str:
    """The text without what a sampler failed to stop at, and without the farewell that some prompts teach."""
    if end := _END_OF_TURN.search(text):
        text = text[: end.start()]
    farewell = _FAREWELL.search(text, max(0, len(text) - 60))
    return text[: farewell.start()] if farewell else text


def _boxed(text: str) -> _Hit:
    r"""The last `\boxed{...}`, with the boxes before it that nothing but `,`, `and` or `or` parts from it.

    `\boxed{7} or \boxed{8}` states both: whoever puts every guess into a box of its own has hedged.
    """
    last = _box_before(text, len(text))
    if not last.closed or last.start < 0:
        return last
    hit = last
    for _ in range(MAX_BOXES):
        before = _box_before(text, hit.start)
        end = _box_end(text, before)
        link = _JOINED.fullmatch(text, end, hit.start) if before.start >= 0 and hit.start - end < 80 else None
        if link is None:
            break
        word = (link["word"] or link["link"]).strip()
        hit = _Hit(before.start, f"{before.text}{'' if word in ',;' else ' '}{word} {hit.text}")
    return hit


def _box_before(text: str, end: int) -> _Hit:
    """The last box that begins before `end`, braces matched; escaped braces are text."""
    start, box = end, None
    while box is None:
        start = text.rfind("\\boxed", 0, start)
        if start < 0:
            return _NOWHERE
        box = _BOX.match(text, start)
    depth = 1
    for brace in _BRACE.finditer(text, box.end(), box.end() + MAX_BOX):
        depth += (brace.group() == "{") - (brace.group() == "}")
        if depth == 0:
            return _Hit(start, text[box.end() : brace.start()])
    return _Hit(start, "", closed=False)


def _box_end(text: str, box: _Hit) -> int:
    """The place behind a closed box."""
    opening = _BOX.match(text, box.start) if box.start >= 0 and box.closed else None
    return opening.end() + len(box.text) + 1 if opening else len(text)


def _tagged(text: str) -> _Hit:
    start = text.rfind("<answer>")
    if start < 0:
        return _NOWHERE
    body, closing, _ = text[start + 8 :].partition("</answer>")
    return _Hit(start, body, bool(closing))


def _after_marker(text: str) -> _Hit:
    """The rest of the line behind the last marker, or the next line when nothing follows on its own."""
    start, end = -1, 0
    for match in _MARKER.finditer(text):
        start, end = match.span()
    if start < 0:
        return _NOWHERE
    lead = _LEAD.search(text[max(0, start - 24) : start])
    start -= len(lead.group()) if lead else 0
    rest = text[end:].lstrip(" \t*_:").lstrip()
    return _Hit(start, _displayed(rest) or rest.partition("\n")[0])


def _displayed(text: str) -> str:
    """The formula that a text begins with, when it goes on over several lines."""
    for opening, closing in _DELIMITERS:
        if text.startswith(opening):
            end = text.find(closing, len(opening))
            return text[: end + len(closing)] if "\n" in text[:end] else ""
    return ""


def _last_line(text: str) -> _Hit:
    """The last line with a letter or a digit, as a line of markup says nothing; or all there is."""
    end = len(text)
    while end > 0:
        start = text.rfind("\n", 0, end) + 1
        line = text[start:end]
        if any(map(str.isalnum, line)):
            return _Hit(start, line)
        end = start - 1
    return _Hit(0, text)


def _tidy(text: str) -> str:
    """An answer without the markup, maths delimiters and full stop around it; always encodable as UTF-8."""
    text = _SURROGATE.sub("\ufffd", text).strip()
    for _ in range(3):
        text = text.strip("*`").strip()
        text = text if text.endswith(("..", "\\right.")) else text.removesuffix(".").rstrip()
        for opening, closing in _DELIMITERS:
            inner = text[len(opening) : -len(closing)]
            if text == f"{opening}{inner}{closing}" and "$" not in inner.replace("\\$", ""):
                text = _ungrouped(inner.strip())
                break
    return text


def _ungrouped(formula: str) -> str:
    """A formula without the braces around the whole of it, which LaTeX does not show: `{1,2}` is a bare list."""
    if not (formula.startswith("{") and formula.endswith("}")):
        return formula
    depth = 0
    for brace in _BRACE.finditer(formula):
        depth += (brace.group() == "{") - (brace.group() == "}")
        if depth == 0:
            return formula[1:-1] if brace.end() == len(formula) else formula
    return formula


def _without_tags(text: str) -> str:
    return text.replace(THINK_OPEN, "").replace(THINK_CLOSE, "").strip()
