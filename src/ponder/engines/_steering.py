"""How a thought is held to what was asked of it, token by token; one meaning for every engine.

A thought that is as long as it may be is closed, one that repeats itself too; one that would close too early is sent on
with "Wait". Tokens that take the place of drawn ones are forced: nobody chose them, and no training credits them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ponder.core.answers import WAIT
from ponder.core.errors import ConfigurationError
from ponder.core.loops import repeats
from ponder.core.types import Sampling
from ponder.engines._reader import Reader

PATIENCE = 32
"""Tokens that an engine may draw ahead of a look, where a thought may be sent on or broken off at any token."""


@dataclass(frozen=True, slots=True)
class Manners:
    """What steering needs to know of a model."""

    opening: int
    closing: int
    """Tokens of the thinking tags."""
    opened: bool
    """Whether prompts end inside a thought."""
    wait: tuple[int, ...]
    """Tokens of `core.answers.WAIT`."""
    commit: tuple[int, ...]
    """Tokens of the text that begins a forced answer."""

    @classmethod
    def of(cls, reader: Reader, sampling: Sampling) -> Manners | None:
        """Of a model, for one way of sampling; None where the thinking tags are no single tokens.

        Raises:
            ConfigurationError: If the sampling steers a thought and they are none.
        """
        opening, closing = reader.think_open, reader.think_close
        if opening is None or closing is None:
            _refuse_without_tags(sampling)
            return None
        commit = tuple(reader.encode_as_text(f"\n\n{sampling.commit}")) if sampling.commit else ()
        return cls(opening, closing, reader.prompt_opens_thinking, tuple(reader.encode_as_text(WAIT)), commit)


def is_steered(sampling: Sampling) -> bool:
    """Whether anything is asked of the thought."""
    return sampling.max_thinking_tokens is not None or sampling.waits > 0 or sampling.break_loops


def is_followed(sampling: Sampling) -> bool:
    """Whether more is asked of the thought than a budget: every token is then looked at."""
    return sampling.waits > 0 or sampling.break_loops or bool(sampling.commit and is_steered(sampling))


class Steering:
    """Follows one completion.

    Args:
        sampling: What is asked.
        manners: Of the model.
    """

    def __init__(self, sampling: Sampling, manners: Manners) -> None:
        """Begin before the first token."""
        self._limit, self._waits, self._loops = sampling.max_thinking_tokens, sampling.waits, sampling.break_loops
        self._manners = manners
        self._inside, self._count = manners.opened, 0
        self._thought: list[int] = []
        self._due: deque[int] = deque()

    @property
    def inside(self) -> bool:
        """Whether a thought is open."""
        return self._inside

    @property
    def due(self) -> bool:
        """Whether the next token is settled before it is drawn."""
        return bool(self._due) or self._must_close()

    @property
    def ahead(self) -> int | None:
        """Tokens that can be drawn before one may have to be replaced; None: as many as there are."""
        if self.due:
            return 0
        if self._waits or (self._loops and (self._inside or not self._manners.opened)):
            return PATIENCE if self._limit is None else max(1, min(PATIENCE, self._limit - self._count))
        if self._limit is None:
            return None
        return self._limit - self._count if self._inside else max(1, self._limit)

    def take(self, drawn: int) -> tuple[int, bool]:
        """The token that is appended where `drawn` was drawn, and whether it is a forced one."""
        token = self._settled(drawn)
        forced = token is not None
        token = drawn if token is None else token
        closes = token == self._manners.closing
        if self._inside and not closes:
            self._count += 1
            self._thought += [token] if self._loops else []
        self._inside = (self._inside or token == self._manners.opening) and not closes
        return token, forced

    def _settled(self, drawn: int) -> int | None:
        """The token that stands in the place of a drawn one; None: the drawn one."""
        if self._due:
            return self._due.popleft()
        if self._must_close():
            self._due.extend(self._manners.commit)
            return self._manners.closing
        if drawn == self._manners.closing and self._inside and self._may_wait():
            self._waits -= 1
            self._due.extend(self._manners.wait[1:])
            return self._manners.wait[0]
        return None

    def _must_close(self) -> bool:
        if not self._inside:
            return False
        return (self._limit is not None and self._count >= self._limit) or (self._loops and repeats(self._thought))

    def _may_wait(self) -> bool:
        room = self._limit is None or self._count + len(self._manners.wait) < self._limit
        return self._waits > 0 and room and bool(self._manners.wait)


def _refuse_without_tags(sampling: Sampling) -> None:
    if is_steered(sampling):
        named = "max_thinking_tokens" if sampling.max_thinking_tokens is not None else "waits, break_loops"
        raise ConfigurationError(
            "a thinking budget needs <think> and </think> as single tokens, which this model lacks",
            where=named,
            fix="leave it out, or use a model with thinking tags",
        )
