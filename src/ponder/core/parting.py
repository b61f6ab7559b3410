"""Parts a growing answer into thinking and content, whatever pieces it comes in."""

from __future__ import annotations

from ponder.core.answers import THINK_CLOSE, THINK_OPEN, split_thinking


class Parter:
    """Takes one answer apart while it comes, tags and the space around both parts left out.

    What a well-formed answer adds up to is what `core.answers.split_thinking` finds in the whole of it: one thought, if
    any, and then the answer. Of an answer that opens a thought late, what had come before it was told as content.

    Args:
        held: The answer is held to a form, and may quote tags: only what a leading tag opens is a thought.
    """

    def __init__(self, held: bool = False) -> None:
        """Begin outside a thought."""
        self._waiting, self._thinking, self._held, self._settled = "", False, held, False
        self._begun = {True: False, False: False}
        self._space = {True: "", False: ""}

    def feed(self, piece: str, last: bool = False) -> list[tuple[bool, str]]:
        """(is thinking, text) of what is certain after one more piece; `last` when nothing follows."""
        self._waiting += piece
        found: list[tuple[bool, str]] = []
        while not self._settled:
            tag = THINK_CLOSE if self._thinking else THINK_OPEN
            before, met, after = self._waiting.partition(tag)
            self._settled = self._held and not self._thinking and self._is_answer(before, bool(met))
            if not met or self._settled:
                break
            found += self._told(before)
            self._waiting, self._thinking = after, not self._thinking
            self._settled = self._held and not self._thinking
        tag = THINK_CLOSE if self._thinking else THINK_OPEN
        last = last or self._settled
        cut = 0 if last else next((n for n in range(len(tag) - 1, 0, -1) if self._waiting.endswith(tag[:n])), 0)
        end = len(self._waiting) - cut
        found += self._told(self._waiting[:end])
        self._waiting = self._waiting[end:]
        return found

    def _is_answer(self, text: str, whole: bool) -> bool:
        """Whether text before a thought, or before all that is known, shows that no thought will come."""
        return bool(text.strip()) if whole else not THINK_OPEN.startswith(text.lstrip())

    def _told(self, text: str) -> list[tuple[bool, str]]:
        """The text without leading space; trailing space waits for what follows it."""
        kind = self._thinking
        text = self._space[kind] + text
        if not self._begun[kind]:
            text = text.lstrip()
        kept = text.rstrip()
        self._space[kind] = text[len(kept) :]
        self._begun[kind] = self._begun[kind] or bool(kept)
        return [(kind, kept)] if kept else []


def parted(text: str, held: bool = False) -> tuple[str, str]:
    """(thought, answer) of a whole text; see `Parter` for `held`."""
    if not held:
        thought = split_thinking(text)
        return thought.thinking, thought.answer
    found = {True: "", False: ""}
    for thinking, piece in Parter(held=True).feed(text, last=True):
        found[thinking] += piece
    return found[True], found[False]
