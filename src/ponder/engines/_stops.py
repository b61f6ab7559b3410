"""Where a completion's text ends, and how much of it was thinking."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import torch
from torch import Tensor

from ponder.core.answers import THINK_CLOSE
from ponder.core.chat import Chat

BROKEN = "\ufffd"
"""What a tokenizer writes for bytes that are not yet a character."""


class Texts:
    """Decodes samples up to their stop string.

    Args:
        chat: Of the model.
        stop: Strings that end a completion.
    """

    def __init__(self, chat: Chat, stop: Sequence[str]) -> None:
        """Learn what `chat` puts in front of every text."""
        self._chat = chat
        self._stop = tuple(text for text in stop if text)
        self._opening = len(chat.decode([]))  # a thought that the prompt opened is shown, but was not sampled

    def text(self, tokens: list[int]) -> str:
        """Text of a sample, ended before the first stop string."""
        text = self._chat.decode(tokens)
        end = self._end(text)
        return text if end < 0 else text[:end]

    def met(self, tokens: list[int]) -> bool:
        """Whether the text contains a stop string."""
        return bool(self._stop) and self._end(self._chat.decode(tokens)) >= 0

    def settled(self, tokens: list[int]) -> str:
        """The part of an unfinished text that nothing sampled later can take back."""
        text = self.text(tokens).rstrip(BROKEN)
        for length in range(max(map(len, self._stop), default=1) - 1, 0, -1):
            if any(len(text) >= length and stop.startswith(text[-length:]) for stop in self._stop):
                return text[:-length]
        return text

    def candidates(self, vocabulary: int, device: torch.device) -> Tensor | None:
        """(V,) tokens that can complete a stop string: only after these is a growing sample decoded."""
        if not self._stop:
            return None
        last = {text[-1] for text in self._stop}
        if any(
            character.isspace() for character in last
        ):  # some tokenizers hide spaces when a token stands alone
            return torch.ones(vocabulary, dtype=torch.bool, device=device)
        tokenizer = self._chat.tokenizer
        alone = tokenizer.batch_decode([[token] for token in range(min(vocabulary, len(tokenizer)))])
        found = [any(mark in text for mark in (*last, BROKEN)) for text in alone]
        found += [False] * (vocabulary - len(found))
        return torch.tensor(found, device=device)

    def thinking_tokens(self, tokens: list[int]) -> int:
        """Generated tokens inside the thinking tags, tags included."""
        opening, closing = self._chat.think_open, self._chat.think_close
        if opening is None or closing is None:
            return self._thinking_by_text(tokens)
        count, inside = 0, self._chat.prompt_opens_thinking
        for token in tokens:
            inside = inside or token == opening
            count += inside and token not in self._chat.stop_ids
            inside = inside and token != closing
        return count

    def _thinking_by_text(self, tokens: list[int]) -> int:
        """For tags spelled with several tokens: the shortest beginning that contains the closing tag."""
        if THINK_CLOSE not in self._chat.decode(tokens):
            return 0
        return 1 + bisect_left(
            range(1, len(tokens) + 1), True, key=lambda n: THINK_CLOSE in self._chat.decode(tokens[:n])
        )

    def _end(self, text: str) -> int:
        """Where the first stop string begins; -1 when there is none."""
        return min((at for stop in self._stop if (at := text.find(stop, self._opening)) >= 0), default=-1)
