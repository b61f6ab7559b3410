"""The tokenizer and the template in a GGUF file, as llama.cpp applies them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from ponder.core.answers import THINK_CLOSE, THINK_OPEN, WAIT
from ponder.core.chat import encoded_apart
from ponder.core.errors import ConfigurationError
from ponder.core.types import Message, Messages
from ponder.engines._gguf.server import LlamaServer
from ponder.engines._steering import Manners
from ponder.models.gguf_header import GgufHeader

CONTROL, DEFINED, BYTE = 3, 4, 6
"""Kinds of tokens."""
_PROBE = (Message(role="user", content="x"),)
MANY = 512
"""Texts whose tokens are kept: pieces of a template come again and again."""


class Words:
    """Text to tokens and back, with the file's own vocabulary.

    Args:
        server: That runs the file.
        header: Of the file.
    """

    def __init__(self, server: LlamaServer, header: GgufHeader) -> None:
        """Learn the special tokens."""
        self._server = server
        metadata = header.metadata
        tokens: list[str] = metadata["tokenizer.ggml.tokens"]
        kinds = metadata.get("tokenizer.ggml.token_type") or [1] * len(tokens)
        self.vocabulary = len(tokens)
        self.specials = {tokens[i]: i for i, kind in enumerate(kinds) if kind in (CONTROL, DEFINED) and tokens[i]}
        self._names = {token: name for name, token in self.specials.items()}
        ends = (metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot"))
        self.stop_ids = frozenset(end for end in ends if end is not None)
        self.whole = next((i for i, kind in enumerate(kinds) if kind == 1 and tokens[i].isascii()), 0)
        """A token that is whole characters."""
        self.padding = metadata.get("tokenizer.ggml.padding_token_id")
        self.template: str = metadata.get("tokenizer.chat_template", "")
        names = sorted(self.specials, key=len, reverse=True)
        self._look_alike = re.compile("|".join(map(re.escape, names))) if names else None
        self._known: dict[tuple[str, bool], list[int]] = {}
        bos = metadata.get("tokenizer.ggml.bos_token_id")
        self._bos = [bos] if bos is not None and metadata.get("tokenizer.ggml.add_bos_token") else []
        self.think_open, self.think_close = self.specials.get(THINK_OPEN), self.specials.get(THINK_CLOSE)
        self.opened = self.render(_PROBE).rstrip().endswith(THINK_OPEN) if self.template else False

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Token ids; without `special` no name of a special token becomes one."""
        if special or self._look_alike is None:
            return self._tokens(text, special)
        cuts = [match.start() + 1 for match in self._look_alike.finditer(text)]
        pieces = [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
        return [token for piece in pieces if piece for token in self._tokens(piece, special=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of tokens: thinking tags kept, ends of turns and padding dropped, an opened thought shown."""
        kept = [token for token in ids if token not in self.stop_ids and token != self.padding]
        text = self._server.post("/detokenize", {"tokens": kept})["content"] if kept else ""
        return f"{THINK_OPEN}\n{text}" if self.opened and THINK_OPEN not in text else text

    def spell(self, ids: Sequence[int]) -> str:
        """Text of tokens as they are: special ones by their names."""
        found, plain = [], []
        for token in [*ids, -1]:
            name = self._names.get(token)
            if token >= 0 and name is None:
                plain.append(token)
                continue
            if plain:
                found.append(self._server.post("/detokenize", {"tokens": plain})["content"])
                plain = []
            found.append(name or "")
        return "".join(found)

    def render(self, messages: Messages, thinking: bool = True) -> str:
        """The conversation as text, with the generation prompt.

        Raises:
            ConfigurationError: If the file has no template, or the template refuses the conversation.
        """
        if not self.template:
            raise ConfigurationError("this GGUF file has no chat template", fix="export the model with its template")
        body = {"messages": [turn.model_dump(exclude_none=True) for turn in messages]}
        told = {} if thinking else {"chat_template_kwargs": {"enable_thinking": False}}
        return self._server.post("/apply-template", {**body, **told})["prompt"]

    def prompt(self, messages: Messages) -> list[int]:
        """Token ids of a conversation, one BOS where the file wants one; text that names special tokens stays text."""
        contents = [text for turn in messages for text in (turn.content, turn.reasoning_content) if text]
        if self._look_alike is not None and any(map(self._look_alike.search, contents)):
            ids = self._hostile(messages)
        else:
            ids = self._tokens(self.render(messages), special=True)
        return ids if not self._bos or ids[:1] == self._bos else [*self._bos, *ids]

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
        return encoded_apart(messages, self.render, lambda text: self._tokens(text, special=True), self.encode)

    def _tokens(self, text: str, special: bool) -> list[int]:
        if not text:
            return []
        key = (text, special)
        found = self._known.get(key)
        if found is None:
            body = {"content": text, "add_special": False, "parse_special": special}
            found = self._server.post("/tokenize", body)["tokens"]
            if len(text) < 200 and len(self._known) < MANY:
                self._known[key] = found
        return list(found)
