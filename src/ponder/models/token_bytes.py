"""Which bytes each token of a tokenizer stands for, so that two tokenizers can be compared on one text.

Two families can be read: byte-level BPE (GPT-2's alphabet of visible characters) and SentencePiece's (a mark for the
space, `<0xE4>` for a byte that is no token). Others, such as WordPiece, do not keep the spaces of a text: refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ponder.core.answers import THINK_CLOSE, THINK_OPEN
from ponder.core.errors import ConfigurationError

TAGS = (THINK_OPEN, THINK_CLOSE)
"""Special tokens that are part of a response's text; every other one has no bytes."""
_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, slots=True)
class TokenBytes:
    """The spelling of a vocabulary.

    Text of its own tokens is `b"".join` of their bytes; where `strips`, without the space it may begin with.
    """

    table: tuple[bytes | None, ...]
    """By id; None for special tokens and holes, which stand for no text."""
    fallback: frozenset[int]
    """Ids that stand for one byte because no token of the text's own was found."""
    strips: bool
    """The decoder takes one space from the beginning: the tokenizer puts one before every text."""

    def spell(self, ids: Sequence[int]) -> list[bytes | None]:
        """Bytes of every id; None also for ids beyond the vocabulary (a padded head has some)."""
        return [self.table[i] if 0 <= i < len(self.table) else None for i in ids]


def token_bytes(tokenizer: Any) -> TokenBytes:
    """The spelling of a Hugging Face fast tokenizer.

    Raises:
        ConfigurationError: If its decoder is of a kind whose tokens do not spell the text.
    """
    parts = _decoder_parts(tokenizer)
    kinds = {part["type"] for part in parts}
    spaces = next(filter(None, map(_space_mark, parts)), None)
    if "ByteLevel" not in kinds and spaces is None:
        raise ConfigurationError(
            "this tokenizer's tokens do not spell the text that they were made from",
            where=f"decoder {', '.join(sorted(kinds)) or 'none'}",
            fix="use a teacher with a byte-level or SentencePiece tokenizer, or learn from its text alone (sft)",
        )
    table: list[bytes | None] = [None] * len(tokenizer)
    fallback: set[int] = set()
    for token, index in tokenizer.get_vocab().items():
        if index >= len(table):
            table.extend([None] * (index + 1 - len(table)))
        if "ByteLevel" in kinds:
            table[index] = byte_level(token)
        elif "ByteFallback" in kinds and (byte := _FALLBACK.fullmatch(token)):
            table[index] = bytes.fromhex(byte[1])
            fallback.add(index)
        else:
            table[index] = token.replace(str(spaces), " ").encode()
    for index, added in tokenizer.added_tokens_decoder.items():
        table[index] = added.content.encode() if not added.special or added.content in TAGS else None
    return TokenBytes(tuple(table), frozenset(fallback), strips=any(map(_strips, parts)))


def _decoder_parts(tokenizer: Any) -> list[dict[str, Any]]:
    decoder = tokenizer.backend_tokenizer.decoder
    if decoder is None:
        return []
    state = json.loads(decoder.__getstate__())
    return list(state["decoders"]) if state["type"] == "Sequence" else [state]


def _space_mark(part: dict[str, Any]) -> str | None:
    """What stands for a space in the tokens, if this part of a decoder says so."""
    if part["type"] == "Metaspace":
        return part["replacement"]
    if part["type"] == "Replace" and part["content"] == " ":
        return part["pattern"].get("String")
    return None


def _strips(part: dict[str, Any]) -> bool:
    if part["type"] == "Strip":
        return part["content"] == " " and part["start"] > 0
    return part["type"] == "Metaspace" and part.get("prepend_scheme", "always") != "never"


def _alphabet() -> dict[str, int]:
    """GPT-2's visible character of every byte, turned round."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + place): byte for place, byte in enumerate(hidden)}


_BYTE_OF = _alphabet()


def byte_level(token: str) -> bytes | None:
    """Bytes of a token of a byte-level vocabulary; None where it is not written in GPT-2's alphabet."""
    found = [_BYTE_OF.get(character) for character in token]
    return None if None in found else bytes(byte for byte in found if byte is not None)
