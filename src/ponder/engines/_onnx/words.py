"""Text and tokens as ONNX Runtime GenAI makes them of each other."""

# A compiled package without types.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as genai

from ponder.core.errors import ConfigurationError, DataError
from ponder.core.types import Messages
from ponder.engines._words import FileWords
from ponder.models.genai_config import GenaiConfig
from ponder.models.token_bytes import byte_level

NUL = "\x00"
STAND_INS = "\x01\x02\x03\x04\x05\x06\x07\x08\x0e\x0f\x10\x11"
"""Characters that every pattern cuts as it does NUL."""
SHUT = "{%- set enable_thinking = false -%}"
"""The library passes a template no variables: this one is put before it."""


class Words(FileWords):
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
        table, specials = _spelling(folder / "tokenizer.json")
        super().__init__(specials, frozenset(config.ends), config.padding, _template(folder))
        try:
            self._library = genai.Tokenizer(model)
        except RuntimeError as error:
            raise DataError(f"the tokenizer cannot be loaded: {error}", where=str(folder)) from error
        self._bytes = table
        self._nul = next((token for token, spelled in table.items() if spelled == b"\x00"), None)

    def _is_hostile(self, text: str) -> bool:
        return NUL in text or super()._is_hostile(text)

    def _text(self, ids: Sequence[int]) -> str:
        """Not the library's own `decode`, which ends at the first byte that is no character, and tells nobody."""
        return b"".join(self._bytes.get(token, b"") for token in ids).decode(errors="replace")

    def _rendered(self, messages: Messages, thinking: bool) -> str:
        told = json.dumps([turn.model_dump(exclude_none=True) for turn in messages])
        template = self.template if thinking else SHUT + self.template
        try:
            return self._library.apply_chat_template(told, template_str=template, add_generation_prompt=True)
        except RuntimeError as error:
            raise ConfigurationError(f"the chat template refuses this conversation: {error}") from error

    def _tokens(self, text: str, special: bool) -> list[int]:
        """As the library cuts it: names always become tokens there, so a text was cut within them before.

        It ends a text at its first NUL, so a stand-in takes that one's place.
        """
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
