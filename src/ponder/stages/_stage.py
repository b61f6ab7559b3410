"""What a stage is: an immutable record that can be called in a folder of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ponder.core.types import Json, Record
from ponder.runs.log import Log
from ponder.runs.store import StageFolder
from ponder.stages._outlook import BLIND, NOTHING, Bounds, Leaves, Outlook, Refusal

SNAPSHOTS = "snapshots"
"""Folder of the models that a stage saved on its way."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a stage would do, before it does it."""

    rows: int
    """Problems, traces or documents it goes through."""
    tokens: int
    """Tokens it samples or trains on."""
    memory_bytes: int
    """Peak memory."""
    seconds: float
    """Duration on this machine, as expected."""
    note: str = ""
    """What the figures rest on."""
    low_seconds: float | None = None
    high_seconds: float | None = None
    """Between which the duration will be; None: not told."""
    prompt_tokens: int | None = None
    sampled_tokens: int | None = None
    trained_tokens: int | None = None
    """As the ledger counts them; None: not told."""
    disk_bytes: int = 0
    """Most that its folder holds at a time."""
    left_bytes: int = 0
    """What its folder holds when it is done."""
    joules: float | None = None
    """Idle included; None: not known."""
    money: Bounds | None = None
    """None: not known, which is never nothing."""
    currency: str = ""
    money_covers: str = ""
    """What the money is for."""
    refusals: tuple[Refusal, ...] = ()
    """For what the run would stop here."""
    leaves: Leaves = NOTHING
    probed: bool = False
    """Some of it was measured, not only computed."""


@dataclass(frozen=True, slots=True)
class Context:
    """Where a stage runs and how it finds what came before it."""

    folder: StageFolder
    """This stage's own folder; nothing is written outside it."""
    seed: int
    """The run's seed; derive from it, never carry a generator."""
    log: Log
    stage_path: Callable[[str], Path | None]
    """Folder of an earlier stage of this run by name, or None when there is no such stage."""
    stages: Callable[[], Sequence[Stage]] = tuple
    """Every stage of this run with its settings."""
    outlook: Outlook = BLIND
    """For `estimate`."""

    def artefact(self, name: str, kind: str) -> str:
        """`name` as the path of an earlier stage's artefact (`model`, ...), or unchanged when it is no stage.

        `STAGE@STEP` is the model that a training stage saved after a step; see its `snapshots`.
        """
        stage, _, step = name.partition("@")
        earlier = self.stage_path(stage)
        if earlier is None:
            return name
        return str(earlier / SNAPSHOTS / step) if step else str(earlier / kind)


class Stage(Record, ABC):
    """Base of the records in this folder."""

    inputs: ClassVar[tuple[str, ...]] = ()
    """Fields that may name an earlier stage (a string, a list of strings or the values of a mapping)."""

    observers: ClassVar[tuple[str, ...]] = ()
    """Fields that only watch the work. No key depends on them, so they may change while the work is half done."""

    seed: int | None = None
    """Replaces the run's seed for this stage, so that one run can hold several seeds; found in the context."""

    @abstractmethod
    def __call__(self, context: Context) -> Json:
        """Do the work, resuming what the folder already holds; the returned summary is written last by the runner."""

    @abstractmethod
    def estimate(self, context: Context) -> Estimate:
        """What calling it would cost; reads inputs that exist and guesses the rest, and says so in `note`."""
