"""What the server needs of whatever runs a model: a worker that answers, and something that spells its tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ponder.core.types import Completion, Messages, Sampling
from ponder.engines._scores import Scores
from ponder.serve.failures import Refusal


@dataclass(frozen=True, slots=True)
class Piece:
    """What is settled of a sample's text so far."""

    sample: int
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A sample that is finished."""

    sample: int
    completion: Completion
    scores: Scores | None
    """Of prompt and completion, where log-probabilities were asked for."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What a request for scores gets."""

    scores: list[Scores]


Event = Piece | Answer | Scored | Refusal
"""What a request is told: pieces and answers, or scores, or at last why there are none."""


@dataclass(eq=False, slots=True)
class Draw:
    """A request for completions."""

    ids: tuple[int, ...]
    """Rendered prompt."""
    seed: int
    samples: int
    sampling: Sampling
    """Its seed is left at 0, so that requests of other seeds are drawn together."""
    tell: Callable[[Event], None]
    streamed: bool = False
    top: int | None = None
    """Likeliest tokens beside each sampled one; None: no log-probabilities."""
    cancelled: bool = False
    """Set by whoever asked, once nobody waits for the answer."""
    left: int = field(init=False)
    told: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """All samples are to be drawn."""
        self.left = self.samples


@dataclass(eq=False, slots=True)
class Score:
    """A request for scores of token ids."""

    sequences: Sequence[Sequence[int]]
    top: int
    tell: Callable[[Event], None]
    cancelled: bool = False


class Speaker(Protocol):
    """Turns conversations into tokens and tokens into text; `core.chat.Chat` is one."""

    @property
    def digest(self) -> str:
        """Hash of the chat template."""
        ...

    def prompt(self, messages: Messages) -> list[int]:
        """Token ids of a conversation with the generation prompt.

        Raises:
            ConfigurationError: If the template cannot take it.
        """
        ...

    def spell(self, ids: Sequence[int]) -> str:
        """Text of tokens as they are, special ones included."""
        ...


class Engine(Protocol):
    """A model that answers requests in threads of its own; `serve.worker.Worker` is one."""

    @property
    def speaker(self) -> Speaker:
        """Of the model."""
        ...

    @property
    def positions(self) -> int | None:
        """Tokens that prompt and completion may have together; None: no limit."""
        ...

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        ...

    @property
    def alive(self) -> bool:
        """Whether requests are still answered."""
        ...

    @property
    def waiting(self) -> int:
        """Requests that are accepted and not answered yet."""
        ...

    def check(self, sampling: Sampling) -> None:
        """Refuse a way of sampling before anything waits for it; may take a second, from any thread.

        Raises:
            ConfigurationError: If it makes no sense or is not served.
            ResourceError: If something is missing for it.
        """
        ...

    def submit(self, work: Draw | Score) -> None:
        """Let a request wait for its turn; events are told from another thread.

        Raises:
            Refusal: 429 if too many wait, 503 if the model has stopped.
        """
        ...

    def cancel(self, work: Draw | Score) -> None:
        """Nobody waits for this any more."""
        ...

    def stop(self) -> None:
        """End soon; whoever still waits is refused."""
        ...
