"""The tokenizer and the template in a GGUF file, as llama.cpp applies them."""

from __future__ import annotations

from collections.abc import Sequence

from ponder.core.types import Messages
from ponder.engines._gguf.server import LlamaServer
from ponder.engines._words import FileWords
from ponder.models.gguf_header import CONTROL, DEFINED, GgufHeader

MANY = 512
"""Texts whose tokens are kept: pieces of a template come again and again."""


class Words(FileWords):
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
        ends = (metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot"))
        super().__init__(
            specials={
                tokens[i]: i for i, kind in enumerate(header.token_kinds) if kind in (CONTROL, DEFINED) and tokens[i]
            },
            stop_ids=frozenset(end for end in ends if end is not None),
            padding=metadata.get("tokenizer.ggml.padding_token_id"),
            template=metadata.get("tokenizer.chat_template", ""),
        )
        self.vocabulary = len(tokens)
        self._names = {token: name for name, token in self.specials.items()}
        self._known: dict[tuple[str, bool], list[int]] = {}
        bos = metadata.get("tokenizer.ggml.bos_token_id")
        self._bos = [bos] if bos is not None and metadata.get("tokenizer.ggml.add_bos_token") else []

    def prompt(self, messages: Messages) -> list[int]:
        """As for every file, with one BOS where the file wants one."""
        ids = super().prompt(messages)
        return ids if not self._bos or ids[:1] == self._bos else [*self._bos, *ids]

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

    def _text(self, ids: Sequence[int]) -> str:
        return self._server.post("/detokenize", {"tokens": list(ids)})["content"] if ids else ""

    def _rendered(self, messages: Messages, thinking: bool) -> str:
        body = {"messages": [turn.model_dump(exclude_none=True) for turn in messages]}
        told = {} if thinking else {"chat_template_kwargs": {"enable_thinking": False}}
        return self._server.post("/apply-template", {**body, **told})["prompt"]

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
