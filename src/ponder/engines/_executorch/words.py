"""The trained model's own tokenizer and template: a `.pte` brings the files, and the application renders."""

from __future__ import annotations

from collections.abc import Sequence

from ponder.core.answers import WAIT
from ponder.core.chat import Chat
from ponder.engines._steering import Manners
from ponder.engines._stops import Texts


class ChatWords:
    """A chat format as `engines._rows.Reader`."""

    def __init__(self, chat: Chat) -> None:
        """Keep it."""
        self.chat = chat
        self.stop_ids = chat.stop_ids
        self._texts = Texts(chat, ())

    def decode(self, ids: Sequence[int]) -> str:
        """See `Reader.decode`."""
        return self.chat.decode(list(ids))

    def manners(self, commit: str) -> Manners | None:
        """See `Reader.manners`."""
        opening, closing = self.chat.think_open, self.chat.think_close
        if opening is None or closing is None:
            return None
        wait, begin = self.chat.encode_as_text(WAIT), self.chat.encode_as_text(f"\n\n{commit}") if commit else []
        return Manners(opening, closing, self.chat.prompt_opens_thinking, tuple(wait), tuple(begin))

    def thinking_tokens(self, ids: Sequence[int]) -> int:
        """See `Reader.thinking_tokens`."""
        return self._texts.thinking_tokens(list(ids))
