"""Which token of the student each token of a teacher becomes.

Tokens of equal bytes are each other's counterpart, special ones by their role. A teacher's token that the student
lacks becomes the token with which the student begins to spell it: that is what the student would have to say next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ponder.core.chat import Chat
from ponder.core.types import IntArray
from ponder.models.alignment import BoolArray
from ponder.models.token_bytes import TokenBytes


@dataclass(frozen=True, slots=True)
class Translation:
    """A teacher's vocabulary in the student's tokens."""

    ids: IntArray  # (V of the teacher,) the student's token, or -1
    exact: BoolArray  # (V of the teacher,) both tokens spell the same, or play the same role
    shared: float
    """Share of the student's tokens of several bytes that have an exact counterpart; lone bytes are in all."""

    def of(self, tokens: IntArray) -> tuple[IntArray, BoolArray]:
        """`ids` and `exact` of any array of the teacher's tokens; those of a padded head are -1."""
        known = (tokens >= 0) & (tokens < len(self.ids))
        places = np.where(known, tokens, 0)
        return np.where(known, self.ids[places], -1).astype(np.int32), known & self.exact[places]


def translation(
    teacher: Chat, student: Chat, teacher_spelling: TokenBytes, student_spelling: TokenBytes
) -> Translation:
    """Build it once for two chats and the spellings of their tokenizers."""
    own = _by_bytes(student_spelling)
    ids = np.full(len(teacher_spelling.table), -1, np.int32)
    for index, piece in enumerate(teacher_spelling.table):
        if piece:
            ids[index] = own.get(piece, -1)
    _match_specials(ids, teacher, student)
    exact = ids >= 0
    words = {index for piece, index in own.items() if len(piece) > 1}
    shared = len(words.intersection(ids[exact].tolist())) / len(words) if words else 1.0
    _spell_the_rest(ids, teacher_spelling, student_spelling, student)
    return Translation(ids, exact, shared)


def _by_bytes(spelling: TokenBytes) -> dict[bytes, int]:
    """The student's token of given bytes; the one for a lone byte only where there is no other."""
    found: dict[bytes, int] = {}
    for index, piece in enumerate(spelling.table):
        if piece and (piece not in found or found[piece] in spelling.fallback):
            found[piece] = index
    return found


def _match_specials(ids: IntArray, teacher: Chat, student: Chat) -> None:
    """Writes the special tokens' counterparts: of the same name, and whatever ends a turn."""
    names = {added.content: index for index, added in student.tokenizer.added_tokens_decoder.items() if added.special}
    for index, added in teacher.tokenizer.added_tokens_decoder.items():
        if added.special and added.content in names:
            ids[index] = names[added.content]
    for index in teacher.stop_ids:
        ids[index] = student.end_id


def _spell_the_rest(ids: IntArray, teacher: TokenBytes, student: TokenBytes, chat: Chat) -> None:
    """Writes for every unmatched token the first token of the student's own spelling of it."""
    texts: dict[int, str] = {}
    for index in (ids < 0).nonzero()[0]:
        piece = teacher.table[index]
        try:
            text = piece.decode() if piece else ""
        except UnicodeDecodeError:
            continue  # part of a character: no text of its own
        if text:
            texts[int(index)] = text
    if not texts:
        return
    encoded = chat.tokenizer(list(texts.values()), add_special_tokens=False)["input_ids"]
    for (index, text), tokens in zip(texts.items(), encoded, strict=True):
        (piece,) = student.spell(tokens[:1]) or [None]
        if piece and text.encode().startswith(piece):
            ids[index] = tokens[0]
