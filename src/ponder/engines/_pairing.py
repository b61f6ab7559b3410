"""One trace in the tokens of student and teacher, aligned: what the teacher reads, and which tokens correspond."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ponder.core.answers import THINK_OPEN
from ponder.core.chat import Chat
from ponder.core.types import IntArray, Trace
from ponder.models.alignment import BoolArray, Spans, groups, placed, written
from ponder.models.token_bytes import TokenBytes

OPENING = f"{THINK_OPEN}\n"
"""What `Chat.decode` puts before a response whose thought the prompt has opened."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """A student's trace beside the teacher's tokens of the same text."""

    trace: Trace
    """With the teacher's `prompt_tokens` and `tokens`; without tokens when it can say nothing."""
    ours: IntArray  # (T of the student's completion,) group of each token, -1 where the teacher says nothing
    theirs: IntArray  # (T of the teacher's completion,)
    our_phantom: BoolArray  # like `ours`: the token brings a space that is not in the text
    their_phantom: BoolArray
    reason: str
    """Why the teacher cannot speak about all of it, or empty."""

    @property
    def prompt_length(self) -> int:
        """Of the teacher's prompt, tokens."""
        return len(self.trace.completion.prompt_tokens or ())


class Pairer:
    """Reads a student's completions for a teacher.

    The teacher reads the problem in its own template and the completion's text in its own tokens. The text is what the
    student's tokens spell; the stored one counts only where a tokenizer adds spaces of its own, to tell them apart.

    Args:
        teacher: Chat of the teacher.
        student: Chat of the student.
        teacher_spelling: Bytes of the teacher's tokens.
        student_spelling: Bytes of the student's tokens.
    """

    def __init__(
        self, teacher: Chat, student: Chat, teacher_spelling: TokenBytes, student_spelling: TokenBytes
    ) -> None:
        """Remember them."""
        self._teacher, self._student = teacher, student
        self._theirs, self._ours = teacher_spelling, student_spelling

    def pair(self, trace: Trace) -> Pairing:
        """Align one trace."""
        tokens = trace.completion.tokens or ()
        if trace.completion.prompt_tokens != tuple(self._student.prompt(trace.problem.messages)):
            return self._silent(trace, "with another prompt than the problem's")
        ended = bool(tokens) and tokens[-1] in self._student.stop_ids
        body = tokens[:-1] if ended else tokens
        opening = OPENING if self._student.prompt_opens_thinking else ""
        text, ours = self._read(body, trace.completion.text, opening)
        whole = len(ours.starts) == len(body)
        reason = "" if whole else self._broken_off(body, len(ours.starts))
        encoded, given = self._encoded(opening + text)
        if encoded is None:
            return self._silent(trace, "that do not think where the teacher's prompt opens a thought")
        read = encoded[:-1]
        theirs = placed(self._theirs.spell(read), (opening + text).encode()[given:], given)
        if len(theirs.starts) < len(read):
            reason = "of which the teacher's tokenizer changes the text"
        elif whole and ended:
            ours, theirs, read = ours.then_end(), theirs.then_end(), encoded
        return self._paired(trace, ours, theirs, tuple(read), reason)

    def _read(self, body: tuple[int, ...], stored: str, opening: str) -> tuple[str, Spans]:
        """The text of the student's tokens behind what its prompt has opened, and their places."""
        pieces, start = self._ours.spell(body), len(opening)
        if self._ours.strips:
            stored = stored.removeprefix(THINK_OPEN).removeprefix("\n") if opening else stored
            spans = placed(pieces, stored.encode(), start)
            if len(spans.starts) == len(body) and spans.end == start + len(stored.encode()):
                return stored, spans
        return written(pieces, self._ours.strips, start)

    def _encoded(self, response: str) -> tuple[list[int] | None, int]:
        """The teacher's tokens with its end of turn, and the bytes of the text that its prompt already holds."""
        if not self._teacher.prompt_opens_thinking:
            return self._teacher.response(response), 0
        if not response.startswith(THINK_OPEN):
            return None, 0
        given = len(OPENING if response.startswith(OPENING) else THINK_OPEN)
        return self._teacher.response(OPENING + response[given:]), given

    def _broken_off(self, body: tuple[int, ...], count: int) -> str:
        special = None in self._ours.spell(body[count : count + 1])
        return "with a special token inside" if special else "with bytes that are no text"

    def _paired(self, trace: Trace, ours: Spans, theirs: Spans, read: tuple[int, ...], reason: str) -> Pairing:
        count, known = len(trace.completion.tokens or ()), len(theirs.starts)
        first, second = groups(ours, theirs)
        completion = trace.completion.model_copy(
            update={
                "prompt_tokens": tuple(self._teacher.prompt(trace.problem.messages)),
                "tokens": read[:known],
                "logprobs": None,
                "forced": (),
            }
        )
        return Pairing(
            trace.model_copy(update={"completion": completion}),
            np.append(first, np.full(count - len(first), -1, np.int32)).astype(np.int32),
            second,
            np.append(ours.phantom, np.zeros(count - len(first), np.bool_)),
            theirs.phantom,
            reason,
        )

    def _silent(self, trace: Trace, reason: str) -> Pairing:
        nothing = Spans(np.zeros(0, np.int32), np.zeros(0, np.bool_), 0)
        return self._paired(trace, nothing, nothing, (), reason)
