"""Compares text: equal but for case, spacing, and the quotes, markup and punctuation around it.

The gold answer is text, a number or a truth value. Naming it among other things is wrong: nothing is searched
for inside the answer, so listing every candidate earns nothing.
"""

from __future__ import annotations

import re
import unicodedata

from pydantic import JsonValue

from ponder.core.answers import final_answer
from ponder.core.protocols import Verifier
from ponder.core.types import Problem, Verdict

MAX_CHARACTERS = 10_000
"""A longer text is not compared."""
_FULL_WIDTH = {0xFEE0 + code: code for code in range(0x21, 0x7F)}
_AROUND = " .,:;*_`\"'“”‘’«»"
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s?\{([^{}]*)\}|\(([^()]*)\)|\$([^$]*)\$", re.DOTALL)


def exact(problem: Problem, response: str) -> Verdict:
    """Judge the final answer of a response by its normalised text."""
    gold = _gold(problem.answer)
    if gold is None:
        return Verdict.unknown("the gold answer is missing, too long or not text")
    found = final_answer(response)
    if found.text is None:
        return Verdict.wrong(reason=found.reason)
    if len(found.text) > MAX_CHARACTERS:
        return Verdict.wrong(found.text[:500], "too long")
    read = normalised(found.text)
    return Verdict.correct(read[:500]) if read == gold else Verdict.wrong(read[:500])


def normalised(text: str) -> str:
    """One spelling for texts that say the same.

    Compatibility forms other than full-width ones are kept: x² is not x2.
    """
    text = unicodedata.normalize("NFC", text).translate(_FULL_WIDTH).casefold()
    text = " ".join(text.split())
    for _ in range(3):
        bare = re.sub(r"(?<=[^\W\d])[!?]+$", "", text.strip(_AROUND))
        wrapped = _WRAPPED.fullmatch(bare)
        text = next((part for part in wrapped.groups() if part is not None), "") if wrapped else bare or text
    return text


def _gold(answer: JsonValue) -> str | None:
    if isinstance(answer, bool):
        return str(answer).lower()
    if isinstance(answer, int) and answer.bit_length() > MAX_CHARACTERS:
        return None  # Python refuses to write it out
    if not isinstance(answer, str | int | float) or len(str(answer)) > MAX_CHARACTERS:
        return None
    return normalised(str(answer)) or None


plugin: Verifier = exact
