"""A teacher whose tokenizer differs from the student's: it reads the same text, and answers for the student's tokens.

What can be asked of it is a matter of degree (`Rung`): where the tokenizers are the same a `LocalTeacher` is exact;
where they share enough of their vocabularies distributions can be translated; otherwise the log-probability of what
was said is known for groups of tokens; and where the tokens do not spell the text, nothing but the text is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from ponder.core.chat import Chat
from ponder.core.errors import ConfigurationError
from ponder.core.protocols import Teacher
from ponder.core.types import FloatArray, TopK, Trace
from ponder.engines._coverage import Coverage
from ponder.engines._pairing import Pairer, Pairing
from ponder.engines._translated import translated_rows
from ponder.models.alignment import placed
from ponder.models.sameness import same_tokenizer
from ponder.models.token_bytes import TokenBytes, token_bytes
from ponder.models.translation import translation

LOOK_AT = 4
"""The teacher is asked for so many times k tokens, because some of them become one, and some none."""
MIN_SHARED = 0.25
"""Share of the student's tokens of several bytes with a counterpart, below which distributions are not translated:
most of a row would be about the beginnings of words. A judgement."""
SURPRISE = 0.01
"""Nats added to a token's surprise when a group's log-probability is divided, so that sure tokens divide equally."""
PROBE = "Anna has 12 coins.\n\nShe  gives Bob 7: 12 - 7 = 5."
"""A text that a tokenizer has to leave as it is: capitals, two spaces, line ends."""


class Rung(StrEnum):
    """How much a teacher can say to a student, from all to little."""

    SAME = "same tokenizer"
    """Every token, exactly: `LocalTeacher`."""
    MATCHED = "matched vocabulary"
    """Log-probabilities of groups, and distributions where both begin a token."""
    SAMPLED = "sampled groups"
    """Log-probabilities of groups only."""
    TEXT = "text only"
    """Its text can be imitated (`sft`); it cannot be asked about the student's."""


def rung_of(student: Chat, teacher: Chat) -> tuple[Rung, str]:
    """How much a teacher can say to a student, and why not more (empty for `SAME`)."""
    if same_tokenizer(student.tokenizer, teacher.tokenizer):
        return Rung.SAME, ""
    try:
        ours, theirs = _spelling(student, "student"), _spelling(teacher, "teacher")
    except ConfigurationError as error:
        return Rung.TEXT, error.what
    shared = translation(teacher, student, theirs, ours).shared
    if shared < MIN_SHARED:
        return Rung.SAMPLED, f"only {shared:.0%} of the student's longer tokens are tokens of the teacher"
    return Rung.MATCHED, f"{shared:.0%} of the student's longer tokens are tokens of the teacher"


class CrossTeacher:
    """See `ponder.core.protocols.Teacher`.

    Args:
        teacher: Answers for the teacher's own tokens, such as a `LocalTeacher`.
        teacher_chat: The teacher's template and tokenizer; the problem is put to it in its own form.
        student_chat: Whose tokens the traces carry.

    Raises:
        ConfigurationError: If one of the tokenizers changes a text or does not spell it: the rung `TEXT`.
    """

    def __init__(self, teacher: Teacher, teacher_chat: Chat, student_chat: Chat) -> None:
        """Read both vocabularies once."""
        theirs, ours = _spelling(teacher_chat, "teacher"), _spelling(student_chat, "student")
        self._teacher = teacher
        self._pairer = Pairer(teacher_chat, student_chat, theirs, ours)
        self._translation = translation(teacher_chat, student_chat, theirs, ours)
        self._vocabulary = len(ours.table)
        self.coverage = Coverage()
        """Of all that was asked so far."""

    @property
    def shared(self) -> float:
        """Share of the student's tokens of several bytes that are tokens of the teacher."""
        return self._translation.shared

    @property
    def rung(self) -> Rung:
        """`MATCHED` or `SAMPLED`."""
        return Rung.MATCHED if self.shared >= MIN_SHARED else Rung.SAMPLED

    def logprobs(self, traces: Sequence[Trace]) -> list[FloatArray]:
        """See `Teacher.logprobs`; over a group of tokens the sum is the teacher's, and its parts are a convention.

        A group's sum is divided in proportion to the student's own surprise, or equally where that is not known: what
        the student was sure of was no decision, and is neither praised nor blamed. An advantage of teacher minus
        student then has the same sign throughout the group, and the same sum as the group's. The share of a single
        token is biased by the convention; the group's is not.
        """
        pairings = self._pairings(traces)
        scores = self._teacher.logprobs([pairing.trace for pairing in pairings])
        return [_divided(*one) for one in zip(traces, pairings, scores, strict=True)]

    def top(self, traces: Sequence[Trace], k: int) -> list[TopK]:
        """See `Teacher.top`; rows within a group say nothing.

        Raises:
            ConfigurationError: If the vocabularies have too little in common: the rung `SAMPLED`.
        """
        if self.rung is Rung.SAMPLED:
            raise ConfigurationError(
                f"only {self.shared:.0%} of the student's longer tokens are tokens of the teacher, so its "
                "distributions cannot be told in them",
                where="teacher",
                fix="use the objective opd, which needs the log-probability of what was said only, or sft",
            )
        pairings = self._pairings(traces)
        k = min(k, self._vocabulary)
        found = self._teacher.top([pairing.trace for pairing in pairings], LOOK_AT * k)
        return [self._translated(*one, k) for one in zip(traces, pairings, found, strict=True)]

    def _pairings(self, traces: Sequence[Trace]) -> list[Pairing]:
        """Align the traces, and count what can be said of them."""
        pairings = [self._pairer.pair(trace) for trace in traces]
        for pairing in pairings:
            known = pairing.ours >= 0
            sizes, theirs = (np.bincount(side[side >= 0]) for side in (pairing.ours, pairing.theirs))
            self.coverage.traces += 1
            self.coverage.tokens += len(known)
            self.coverage.aligned += int(known.sum())
            self.coverage.single += int(((sizes == 1) & (theirs == 1)).sum())
            if pairing.reason:
                self.coverage.reasons[pairing.reason] += 1
        return pairings

    def _translated(self, trace: Trace, pairing: Pairing, top: TopK, k: int) -> TopK:
        start, tokens = _prompt_length(trace), np.array(trace.completion.tokens or (), np.int32)
        rows = translated_rows(pairing, top, self._translation, tokens, k)
        length = start + len(tokens)
        ids, logprobs = np.full((length, k), -1, np.int32), np.full((length, k), -np.inf, np.float32)
        tail = np.zeros(length, np.float32)
        with np.errstate(divide="ignore"):
            logprobs[start + rows.places], tail[start + rows.places] = np.log(rows.masses), np.log(rows.tail)
        ids[start + rows.places] = rows.ids
        self.coverage.asked += len(tokens)
        self.coverage.rows += len(rows.places)
        self.coverage.exact += rows.exact
        self.coverage.lost += rows.lost
        self.coverage.unlisted += rows.unlisted
        self.coverage.begun += rows.begun
        return TopK(ids, logprobs, tail)


def _divided(trace: Trace, pairing: Pairing, score: FloatArray) -> FloatArray:
    """(T,) the teacher's log-probabilities of groups, divided among the student's tokens."""
    start, count = _prompt_length(trace), len(pairing.ours)
    found = np.full(start + count, np.nan, np.float32)
    read, known = pairing.theirs >= 0, pairing.ours >= 0
    own = score[pairing.prompt_length :].astype(np.float64)
    sums = np.bincount(pairing.theirs[read], own[read])
    surprise = np.zeros(count)
    logprobs = trace.completion.logprobs
    if logprobs is not None and len(logprobs) == count:
        surprise = np.maximum(-np.array(logprobs, np.float64), 0.0)
    weight = (surprise + SURPRISE)[known]
    group = pairing.ours[known]
    found[start:][known] = sums[group] * weight / np.bincount(group, weight)[group]
    return found


def _prompt_length(trace: Trace) -> int:
    return len(trace.completion.prompt_tokens or ())


def _spelling(chat: Chat, whose: str) -> TokenBytes:
    """Bytes of a tokenizer's tokens, tried on a text.

    Raises:
        ConfigurationError: If its tokens do not spell what it encoded.
    """
    spelling = token_bytes(chat.tokenizer)
    pieces = spelling.spell(chat.response(PROBE)[:-1])
    if placed(pieces, PROBE.encode()).end < len(PROBE.encode()):
        raise ConfigurationError(
            f"the {whose}'s tokenizer changes the text (capitals, spaces or line ends), so nothing can be aligned",
            where="teacher",
            fix="learn from the teacher's text alone (generate, then distill with sft)",
        )
    return spelling
