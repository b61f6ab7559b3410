"""The tokenizer and the template of an exported file, by the library that will run it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise

from ponder.core.answers import THINK_CLOSE, THINK_OPEN
from ponder.core.chat import encoded_apart
from ponder.core.errors import ConfigurationError
from ponder.core.types import Message, Messages

_PROBE = (Message(role="user", content="x"),)


class FileWords(ABC):
    """Text to tokens and back as `engines._reader.Reader`; a library says how it cuts plain text.

    Args:
        specials: Ids of the tokens that have a name of their own.
        stop_ids: Tokens that end a turn.
        padding: The token that fills up, if there is one.
        template: Of conversations; empty where the file has none.
    """

    def __init__(
        self, specials: Mapping[str, int], stop_ids: frozenset[int], padding: int | None, template: str
    ) -> None:
        """Learn the special tokens."""
        self.specials, self.stop_ids, self.padding, self.template = dict(specials), stop_ids, padding, template
        self.think_open, self.think_close = self.specials.get(THINK_OPEN), self.specials.get(THINK_CLOSE)
        self._opens: bool | None = None
        names = sorted(self.specials, key=len, reverse=True)
        self._look_alike = re.compile("|".join(map(re.escape, names))) if names else None

    @property
    def prompt_opens_thinking(self) -> bool:
        """See `Reader.prompt_opens_thinking`."""
        if self._opens is None:
            self._opens = bool(self.template) and self.render(_PROBE).rstrip().endswith(THINK_OPEN)
        return self._opens

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Token ids; without `special` no name of a special token becomes one."""
        return self._tokens(text, special=True) if special else self.encode_as_text(text)

    def encode_as_text(self, text: str) -> list[int]:
        """See `Reader.encode_as_text`: each look-alike is cut behind its first letter."""
        found = self._look_alike.finditer(text) if self._look_alike is not None else ()
        cuts = [match.start() + 1 for match in found]
        pieces = [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
        return [token for piece in pieces if piece for token in self._tokens(piece, special=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """See `Reader.decode`."""
        text = self._text([token for token in ids if token not in self.stop_ids and token != self.padding])
        return f"{THINK_OPEN}\n{text}" if self.prompt_opens_thinking and THINK_OPEN not in text else text

    def render(self, messages: Messages, thinking: bool = True) -> str:
        """The conversation as text, with the generation prompt.

        Raises:
            ConfigurationError: If the file has no template, or the template refuses the conversation.
        """
        if not self.template:
            raise ConfigurationError("this artefact has no chat template", fix="export the model with its template")
        return self._rendered(messages, thinking)

    def prompt(self, messages: Messages) -> list[int]:
        """Token ids of a conversation; text that names special tokens stays text."""
        contents = [text for turn in messages for text in (turn.content, turn.reasoning_content) if text]
        if any(map(self._is_hostile, contents)):
            return encoded_apart(messages, self.render, lambda text: self._tokens(text, True), self.encode_as_text)
        return self._tokens(self.render(messages), special=True)

    def _is_hostile(self, text: str) -> bool:
        """Whether a text cannot be rendered and cut as it stands."""
        return self._look_alike is not None and self._look_alike.search(text) is not None

    @abstractmethod
    def _tokens(self, text: str, special: bool) -> list[int]:
        """As the library cuts a text, with names of special tokens or with none in it."""

    @abstractmethod
    def _text(self, ids: Sequence[int]) -> str:
        """As the library spells tokens."""

    @abstractmethod
    def _rendered(self, messages: Messages, thinking: bool) -> str:
        """As the library applies the template."""
