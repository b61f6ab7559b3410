"""What the six procedural skills share: splits, seeds, difficulty and the form of a worked response.

A skill draws a problem together with its proof. Whether a problem may be trained on is a property of what
it says: the hash of its canonical form (sorted facts and question, free of wording and layout) puts it in
the training partition or the held-out one. Train and test are therefore disjoint by construction, for any
seed and any number of problems.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

from pydantic import Field, JsonValue

from ponder.core.errors import ConfigurationError
from ponder.core.protocols import Verifier
from ponder.core.seeds import derive_seed, python_rng
from ponder.core.types import Problem, Record
from ponder.tasks._words import HELD_OUT, SEEN, WordBank

SPLITS = ("train", "test", "longer", "renamed", "distracted")
HELD_OUT_SHARE = 5
"""One canonical form in this many is held out of training."""
MAX_STEPS = 16


@dataclass(frozen=True, slots=True)
class Style:
    """How a problem is told."""

    words: WordBank
    distractors: int = 0
    """Irrelevant statements to mix in."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A drawn problem before it is given an id."""

    prompt: str
    answer: JsonValue
    """Gold answer in the form the skill's verifier reads."""
    steps: Sequence[str]
    """Worked solution, one reasoning step a line."""
    final: str
    """Closing sentence of the response; it states the answer."""
    canonical: str
    """What the problem says, whatever its wording: equal problems have equal canonical forms."""
    extra: dict[str, JsonValue] = field(default_factory=dict)
    """Anything the verifiers need besides the answer; goes into `meta`."""


def worked_response(steps: Sequence[str], final: str) -> str:
    """A response that reasons aloud, one step a line, and then answers."""
    return "<think>\n" + "\n".join(steps) + f"\n</think>\n\n{final}"


def is_held_out(canonical: str) -> bool:
    """Whether a canonical form is kept out of training."""
    digest = hashlib.blake2b(canonical.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_SHARE == 0


class Skill(Record, ABC):
    """A procedural task. A subclass draws problems and judges responses."""

    name: ClassVar[str]
    splits: ClassVar[tuple[str, ...]] = SPLITS

    min_steps: int = Field(default=1, ge=1, le=MAX_STEPS)
    """Fewest reasoning steps in every split but `longer`."""
    max_steps: int = Field(default=6, ge=1, le=MAX_STEPS)
    """Most reasoning steps in every split but `longer`, which goes from one more to 16."""

    @abstractmethod
    def draw(self, rng: Random, steps: int, style: Style) -> Draft:
        """A problem of exactly that many reasoning steps, with its proof."""

    @property
    @abstractmethod
    def verifier(self) -> Verifier:
        """Judges responses, and their steps."""

    def problems(self, split: str, limit: int, seed: int) -> Iterator[Problem]:
        """Problems of a split; difficulty cycles through the range so that every length is equally frequent.

        Raises:
            ConfigurationError: If the split does not exist, or the range of steps is empty.
        """
        return self._drawn(split, limit, seed, self._range(split))

    def _drawn(self, split: str, limit: int, seed: int, steps: range) -> Iterator[Problem]:
        """Draws until enough are new and of the right partition, or there seem to be no more."""
        style = self._style(split)
        seen: set[int] = set()
        produced = 0
        for index in range(50 * (limit + 100)):
            if produced == limit:
                return
            length = steps[produced % len(steps)]
            draft = self.draw(python_rng(seed, "task", self.name, split, index), length, style)
            if is_held_out(draft.canonical) == (split == "train"):
                continue
            key = derive_seed(draft.canonical)
            if key in seen and not _is_small(length):
                continue
            seen.add(key)
            yield self._problem(split, seed, produced, draft, length)
            produced += 1

    def _range(self, split: str) -> range:
        if split not in SPLITS:
            raise ConfigurationError(
                f"task {self.name!r} has no split {split!r}", fix=f"choose one of: {', '.join(SPLITS)}"
            )
        low, high = (self.max_steps + 1, MAX_STEPS) if split == "longer" else (self.min_steps, self.max_steps)
        if low > high:
            raise ConfigurationError(
                f"task {self.name!r} has no problems of {low} to {high} steps",
                where=f"split {split}",
                fix="set min_steps <= max_steps, and max_steps < 16 to use `longer`",
            )
        return range(low, high + 1)

    def _style(self, split: str) -> Style:
        return Style(words=HELD_OUT if split == "renamed" else SEEN, distractors=3 if split == "distracted" else 0)

    def _problem(self, split: str, seed: int, index: int, draft: Draft, steps: int) -> Problem:
        return Problem(
            id=f"{self.name}-{split}-{seed}-{index}",
            task=self.name,
            prompt=draft.prompt,
            answer=draft.answer,
            meta={
                "skill": self.name,
                "steps": steps,
                "split": split,
                "solution": worked_response(draft.steps, draft.final),
                "canonical": draft.canonical,
                **draft.extra,
            },
        )


def _is_small(steps: int) -> bool:
    """One- and two-step problems have few distinct forms; they may repeat within a split."""
    return steps <= 2
