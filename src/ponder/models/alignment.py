"""Aligns two tokenisations of one text by byte offsets: groups close where both have a boundary.

As GOLD does it (TRL's `gold_trainer.py`), with two differences: the bytes are compared, so that a tokenizer that
changes the text is noticed where it does; and everything is linear in the length of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ponder.core.types import IntArray

BoolArray = npt.NDArray[np.bool_]
_CONTINUES, _LEADS = 0x80, 0xC0
"""A byte of UTF-8 inside a character has the highest two bits 10."""


@dataclass(frozen=True, slots=True)
class Spans:
    """Where tokens begin in a text, and where the last one ends.

    A token without width (a space of the tokenizer's own) belongs to the group of the next one, at the end to the last.
    """

    starts: IntArray  # (N,) byte offsets, never falling
    phantom: BoolArray  # (N,) the token begins with a space that the text does not have
    end: int

    def then_end(self) -> Spans:
        """The same with one more token behind, as wide as one byte: the end of the turn, whatever its name is."""
        return Spans(np.append(self.starts, np.int32(self.end)), np.append(self.phantom, False), self.end + 1)


def written(pieces: Sequence[bytes | None], strips: bool = False, start: int = 0) -> tuple[str, Spans]:
    """The text that tokens spell, as far as it is one, and where they begin in it.

    It ends before a token that has no bytes, before bytes that are no UTF-8, and behind the last token that ends with
    a character.

    Args:
        pieces: Bytes of every token; None for a token that is no text.
        strips: The first token's leading space is not text.
        start: Offset of the first token.
    """
    known = list(pieces[: next((i for i, piece in enumerate(pieces) if piece is None), len(pieces))])
    phantom = np.zeros(len(known), np.bool_)
    if strips and known and (known[0] or b"").startswith(b" "):
        known[0] = (known[0] or b"")[1:]
        phantom[0] = True
    spelt = b"".join(piece or b"" for piece in known)
    valid = _valid_length(spelt)
    edges = np.zeros(len(known) + 1, np.int32)
    np.cumsum([len(piece or b"") for piece in known], dtype=np.int32, out=edges[1:])
    text = np.frombuffer(spelt[:valid], np.uint8)
    whole = np.append((text & _LEADS) != _CONTINUES, True)  # (valid + 1,) a character ends before this byte
    fits = (edges <= valid) & whole[np.minimum(edges, valid)]
    count = int(fits.nonzero()[0][-1])
    end = int(edges[count])
    return spelt[:end].decode(), Spans(edges[:count] + np.int32(start), phantom[:count], end + start)


def placed(pieces: Sequence[bytes | None], text: bytes, start: int = 0) -> Spans:
    """Where the tokens that a tokenizer made of a text begin in it, up to the first that does not say what is there.

    Args:
        pieces: Bytes of every token. One may begin with a space of its tokenizer's own.
        text: What was encoded.
        start: Offset of the text.
    """
    starts: list[int] = []
    phantom: list[bool] = []
    end = 0
    for piece in pieces:
        if piece is None:
            break
        own_space = not text.startswith(piece, end) and piece[:1] == b" "
        piece = piece[1:] if own_space else piece
        if not text.startswith(piece, end):
            break
        starts.append(end + start)
        phantom.append(own_space)
        end += len(piece)
    return Spans(np.array(starts, np.int32), np.array(phantom, np.bool_), end + start)


def groups(first: Spans, second: Spans) -> tuple[IntArray, IntArray]:
    """For every token of both the group that it is in, counted from 0; -1 before the first and behind the last one.

    A group holds at least one token of each side, and both sides of it spell the same bytes.
    """
    size = max(first.end, second.end) + 1
    shared = _edges(first, size) & _edges(second, size)
    number = np.cumsum(shared, dtype=np.int32) - np.int32(1)
    last = int(shared.nonzero()[0][-1]) if shared.any() else 0
    return _numbered(first, number, last), _numbered(second, number, last)


def _numbered(spans: Spans, number: IntArray, last: int) -> IntArray:
    behind = number[last] - 1 if spans.end == last else -1  # without width at the very end: part of the last group
    found = np.where(spans.starts < last, number[spans.starts], np.where(spans.starts == last, behind, -1))
    return found.astype(np.int32)


def _edges(spans: Spans, size: int) -> BoolArray:
    marks = np.zeros(size, np.bool_)
    marks[spans.starts] = True
    marks[spans.end] = True
    return marks


def _valid_length(spelt: bytes) -> int:
    try:
        spelt.decode()
    except UnicodeDecodeError as error:
        return error.start
    return len(spelt)
