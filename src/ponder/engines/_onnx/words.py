"""Text and tokens as ONNX Runtime GenAI makes them of each other."""

# A compiled package without types.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as genai

from ponder.core.answers import THINK_CLOSE, THINK_OPEN, WAIT
from ponder.core.chat import encoded_apart
from ponder.core.errors import ConfigurationError, DataError
from ponder.core.types import Message, Messages
from ponder.engines._steering import Manners
from ponder.models.genai_config import GenaiConfig
from ponder.models.token_bytes import byte_level

NUL = "\x00"
STAND_INS = "\x01\x02\x03\x04\x05\x06\x07\x08\x0e\x0f\x10\x11"
"""Characters that every pattern cuts as it does NUL."""
SHUT = "{%- set enable_thinking = false -%}"
"""The library passes a template no variables: this one is put before it."""
_PROBE = (Message(role="user", content="x"),)


class Words:
    """The tokenizer and template of a folder.

    Args:
        folder: The artefact.
        model: As it is loaded.
        config: As it was checked.

    Raises:
        DataError: If the tokenizer is damaged, or of another kind than byte-level.
    """

    def __init__(self, folder: Path, model: genai.Model, config: GenaiConfig) -> None:
        """Read the names of special tokens and the bytes of all others."""
        table, self.specials = _spelling(folder / "tokenizer.json")
        try:
            self._library = genai.Tokenizer(model)
        except RuntimeError as error:
            raise DataError(f"the tokenizer cannot be loaded: {error}", where=str(folder)) from error
        self._bytes = table
        self._nul = next((token for token, spelled in table.items() if spelled == b"\x00"), None)
        self.vocabulary = config.vocabulary
        self.stop_ids = frozenset(config.ends)
        self.padding = config.padding
        self.template = _template(folder)
        names = sorted(self.specials, key=len, reverse=True)
        self._look_alike = re.compile("|".join(map(re.escape, names))) if names else None
        self.think_open, self.think_close = self.specials.get(THINK_OPEN), self.specials.get(THINK_CLOSE)
        self.opened = self.render(_PROBE).rstrip().endswith(THINK_OPEN) if self.template else False

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Token ids; without `special` no name of a special token becomes one."""
        if special or self._look_alike is None:
            return self._tokens(text)
        cuts = [match.start() + 1 for match in self._look_alike.finditer(text)]
        pieces = [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
        return [token for piece in pieces for token in self._tokens(piece)]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of tokens: thinking tags kept, ends of turns and padding dropped, an opened thought shown.

        The library's own `decode` ends at the first byte that is no character, and tells nobody.
        """
        kept = [token for token in ids if token not in self.stop_ids and token != self.padding]
        text = b"".join(self._bytes.get(token, b"") for token in kept).decode(errors="replace")
        return f"{THINK_OPEN}\n{text}" if self.opened and THINK_OPEN not in text else text

    def render(self, messages: Messages, thinking: bool = True) -> str:
        """The conversation as text, with the generation prompt.

        Raises:
            ConfigurationError: If there is no template, or it refuses the conversation.
        """
        if not self.template:
            raise ConfigurationError("this artefact has no chat template", fix="export the model with its template")
        told = json.dumps([turn.model_dump(exclude_none=True) for turn in messages])
        template = self.template if thinking else SHUT + self.template
        try:
            return self._library.apply_chat_template(told, template_str=template, add_generation_prompt=True)
        except RuntimeError as error:
            raise ConfigurationError(f"the chat template refuses this conversation: {error}") from error

    def prompt(self, messages: Messages) -> list[int]:
        """Token ids of a conversation, nothing added; text that names special tokens stays text."""
        contents = [text for turn in messages for text in (turn.content, turn.reasoning_content) if text]
        odd = any(NUL in text for text in contents)
        if odd or (self._look_alike is not None and any(map(self._look_alike.search, contents))):
            return self._hostile(messages)
        return self._tokens(self.render(messages))

    def manners(self, commit: str) -> Manners | None:
        """For steering; None where the thinking tags are no single tokens."""
        if self.think_open is None or self.think_close is None:
            return None
        begin = tuple(self.encode(f"\n\n{commit}")) if commit else ()
        return Manners(self.think_open, self.think_close, self.opened, tuple(self.encode(WAIT)), begin)

    def thinking_tokens(self, ids: Sequence[int]) -> int:
        """Generated tokens inside the thinking tags, tags included."""
        count, inside = 0, self.opened
        for token in ids:
            inside = inside or token == self.think_open
            count += inside and token not in self.stop_ids
            inside = inside and token != self.think_close
        return count

    def _hostile(self, messages: Messages) -> list[int]:
        """The template is read as template, and what stands in it as text."""
        return encoded_apart(messages, self.render, self._tokens, self.encode)

    def _tokens(self, text: str) -> list[int]:
        """As the library encodes; it ends a text at its first NUL, so a stand-in takes that one's place."""
        if not text:
            return []
        if NUL not in text:
            return [int(token) for token in self._library.encode(text)]
        stand_in = next((mark for mark in STAND_INS if mark not in text), None)
        alone = [] if stand_in is None else [int(token) for token in self._library.encode(stand_in)]
        if stand_in is None or len(alone) != 1 or self._nul is None:
            raise ConfigurationError("this engine cannot read a text with a NUL character in it")
        ids = self._library.encode(text.replace(NUL, stand_in))
        return [int(token) for token in np.where(ids == alone[0], self._nul, ids)]


def _spelling(path: Path) -> tuple[dict[int, bytes], dict[str, int]]:
    """Bytes of every token, and the ids of those that have a name of their own."""
    try:
        declared: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        spelled = {int(index): byte_level(token) for token, index in declared["model"]["vocab"].items()}
        names = {str(token["content"]): int(token["id"]) for token in declared["added_tokens"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError("tokenizer.json cannot be read", where=str(path)) from error
    named = set(names.values())
    if any(text is None and index not in named for index, text in spelled.items()):
        raise DataError("only byte-level tokenizers are run here", where=str(path))
    table = {index: text for index, text in spelled.items() if text is not None}
    return table | {index: name.encode() for name, index in names.items()}, names


def _template(folder: Path) -> str:
    """The chat template as the library finds it: a file of its own, or a key of the tokenizer's settings."""
    try:
        if (path := folder / "chat_template.jinja").is_file():
            return path.read_text(encoding="utf-8")
        declared = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        return str(declared.get("chat_template") or "")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError("the chat template cannot be read", where=str(folder)) from error
