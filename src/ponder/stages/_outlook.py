"""What a plan knows while it looks ahead: what earlier stages would leave, and what a run would be refused for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ponder.core.errors import ConfigurationError, PonderError, ResourceError
from ponder.measure.costs.prices import PriceSheet

PROBE_SECONDS = 20.0
"""About how long one stage is tried out."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something for which the run would stop."""

    what: str
    where: str = ""
    fix: str = ""
    exit_code: int = ConfigurationError.exit_code

    @classmethod
    def of(cls, error: PonderError) -> Refusal:
        """What a run would be told."""
        return cls(error.what, error.where, error.fix, error.exit_code)

    @classmethod
    def missing(cls, what: str, where: str = "", fix: str = "") -> Refusal:
        """Something that this machine lacks."""
        return cls(what, where, fix, ResourceError.exit_code)


@dataclass(frozen=True, slots=True)
class Bounds:
    """An expected figure between two that it will hardly leave."""

    low: float
    expected: float
    high: float

    @classmethod
    def around(cls, expected: float, share: float) -> Bounds:
        """Within a share below and above; a share over 1 counts as a factor."""
        low = expected * (1 - share) if share < 1 else expected / (1 + share)
        return cls(max(0.0, low), expected, expected * (1 + share))

    def times(self, factor: float) -> Bounds:
        """Of so many."""
        return Bounds(self.low * factor, self.expected * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Leaves:
    """What a stage would leave for the ones behind it."""

    model: str = ""
    """A model of the same shape as the one it makes: a name or folder."""
    config: Any = None
    """Configuration of its model, when no model of that shape is here."""
    traces: Bounds | None = None
    """Traces that can be learnt from: correct and ended by themselves."""
    problems: int = 0
    """That its traces are about."""
    texts: tuple[Any, ...] = ()
    """Traces of the kind that it writes, drawn while it was tried out."""
    prompt: float = 0.0
    """Tokens of a mean prompt of its traces."""
    lengths: tuple[int, ...] = ()
    """Tokens of responses of the kind that it writes, or teaches."""
    correct: float | None = None
    """Share of its model's answers that is right."""


NOTHING = Leaves()


@dataclass(frozen=True, slots=True)
class Outlook:
    """How a plan is made."""

    probe: bool = False
    """Try stages out for some seconds; otherwise everything is computed from shapes."""
    seconds: float = PROBE_SECONDS
    """For each stage."""
    sheet: PriceSheet = field(default_factory=lambda: PriceSheet(()))
    leaves: Mapping[str, Leaves] = field(default_factory=dict)
    """Of stages before this one that are not done, by name."""


BLIND = Outlook()
"""Shapes alone, and no stage before."""
