"""Where a completion's text ends, and how much of it was thinking."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence

from ponder.core.answers import THINK_CLOSE
from ponder.engines._reader import Reader

BROKEN = "\ufffd"
"""What a tokenizer writes for bytes that are not yet a character."""


class Texts:
    """Decodes samples up to their stop string.

    Args:
        reader: Of the model.
        stop: Strings that end a completion.
    """

    def __init__(self, reader: Reader, stop: Sequence[str]) -> None:
        """Learn what the reader puts in front of every text."""
        self._reader = reader
        self._stop = tuple(text for text in stop if text)
        self._opening = len(reader.decode([]))  # a thought that the prompt opened is shown, but was not sampled

    def text(self, tokens: Sequence[int]) -> str:
        """Text of a sample, ended before the first stop string."""
        text = self._reader.decode(tokens)
        end = self._end(text)
        return text if end < 0 else text[:end]

    def met(self, tokens: Sequence[int]) -> bool:
        """Whether the text contains a stop string."""
        return bool(self._stop) and self._end(self._reader.decode(tokens)) >= 0

    def ended(self, tokens: Sequence[int]) -> bool:
        """Whether the last token, or a stop string, ends a sample."""
        return tokens[-1] in self._reader.stop_ids or self.met(tokens)

    def settled(self, tokens: Sequence[int]) -> str:
        """The part of an unfinished text that nothing sampled later can take back."""
        text = self.text(tokens).rstrip(BROKEN)
        for length in range(max(map(len, self._stop), default=1) - 1, 0, -1):
            if any(len(text) >= length and stop.startswith(text[-length:]) for stop in self._stop):
                return text[:-length]
        return text

    def thinking_tokens(self, tokens: Sequence[int]) -> int:
        """Generated tokens inside the thinking tags, tags included."""
        reader = self._reader
        if reader.think_open is None or reader.think_close is None:
            return self._thinking_by_text(tokens)
        tags = (reader.think_open, reader.think_close)
        return thinking_tokens(tokens, tags, reader.prompt_opens_thinking, reader.stop_ids)

    def _thinking_by_text(self, tokens: Sequence[int]) -> int:
        """For tags spelled with several tokens: the shortest beginning that contains the closing tag."""
        if THINK_CLOSE not in self._reader.decode(tokens):
            return 0
        return 1 + bisect_left(
            range(1, len(tokens) + 1), True, key=lambda n: THINK_CLOSE in self._reader.decode(tokens[:n])
        )

    def _end(self, text: str) -> int:
        """Where the first stop string begins; -1 when there is none."""
        return min((at for stop in self._stop if (at := text.find(stop, self._opening)) >= 0), default=-1)


def thinking_tokens(tokens: Sequence[int], tags: tuple[int, int], opened: bool, stop_ids: Collection[int]) -> int:
    """Tokens inside the thinking tags, tags included.

    Args:
        tokens: As they were drawn.
        tags: Tokens of the opening and of the closing tag.
        opened: Whether the prompt ends inside a thought.
        stop_ids: Tokens that end a turn, which count nowhere.
    """
    opening, closing = tags
    count, inside = 0, opened
    for token in tokens:
        inside = inside or token == opening
        count += inside and token not in stop_ids
        inside = inside and token != closing
    return count


def pieces_of(texts: Iterable[str]) -> Iterator[str]:
    """What each of the growing texts adds to those before it."""
    shown = 0
    for text in texts:
        if len(text) > shown:
            yield text[shown:]
            shown = len(text)
