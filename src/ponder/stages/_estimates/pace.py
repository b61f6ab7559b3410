"""How fast a model samples: seconds for a prompt's token, for a step of a batch, and for a token that is drawn.

A batch takes as many steps as its longest completion has tokens, and each step costs something whatever it holds. So
the time of a large batch does not follow from a small one by the number of tokens alone; three figures are needed, and
three short runs give them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ponder.engines.local import MAX_BATCH
from ponder.stages._estimates.machine import (
    COPY_RATE,
    SAMPLING_OVERHEAD,
    STEP_SECONDS,
    small_model_rate,
)

DRAWS = 16
"""Batches that are put together by chance, to learn how long the longest completion of one is."""


@dataclass(frozen=True, slots=True)
class Timed:
    """One run of the sampler."""

    prompt_tokens: int
    """Computed: a prompt that several samples share counts once."""
    steps: int
    tokens: int
    seconds: float

    @property
    def counts(self) -> tuple[int, int, int]:
        """What the pace is multiplied with."""
        return self.prompt_tokens, self.steps, self.tokens


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds for each."""

    prompt: float
    step: float
    token: float

    def seconds(self, prompt_tokens: float, steps: float, tokens: float) -> float:
        """Of one batch."""
        return self.prompt * prompt_tokens + self.step * steps + self.token * tokens

    def scaled(self, factor: float) -> Pace:
        """All of it slower by a factor."""
        return Pace(self.prompt * factor, self.step * factor, self.token * factor)


def fitted(runs: Sequence[Timed]) -> Pace:
    """The pace that explains the runs best, with none of its figures below zero; the last run is met exactly.

    Args:
        runs: At least one; the last is most like what is to be predicted.
    """
    matrix = np.array([run.counts for run in runs], float)
    seconds = np.array([max(run.seconds, 1e-9) for run in runs])
    best, error = np.zeros(3), np.inf
    for size in (1, 2, 3):
        for chosen in map(list, combinations(range(3), size)):
            if size > len(runs) or not matrix[:, chosen].any(axis=0).all():
                continue
            scaled = matrix[:, chosen] / seconds[:, None]
            figures = np.linalg.lstsq(scaled, np.ones(len(runs)), rcond=None)[0]
            left = float(((scaled @ figures - 1) ** 2).sum())
            if (figures >= 0).all() and left < error - 1e-9:
                best, error = np.zeros(3), left
                best[chosen] = figures
    pace = Pace(*map(float, best))
    told = pace.seconds(*runs[-1].counts)
    return pace.scaled(runs[-1].seconds / told) if told > 0 else pace


def computed(config: Any, parameters: int) -> Pace:
    """A pace from the shape alone: operations at this machine's rate, and weights that are read at every step."""
    rate = small_model_rate()
    step = STEP_SECONDS * config.get_text_config().num_hidden_layers + 4 * parameters / COPY_RATE
    return Pace(2 * parameters / rate, step, (2 * parameters + SAMPLING_OVERHEAD) / rate)


def longest(lengths: Sequence[int], together: int) -> float:
    """Steps of a batch: the expected length of its longest completion, or more when not all are alive at once."""
    if not lengths or together < 1:
        return 0.0
    known = np.asarray(lengths)
    drawn = np.random.default_rng(0).choice(known, (DRAWS, min(together, 4096)))
    return max(float(drawn.max(axis=1).mean()), float(known.mean()) * together / MAX_BATCH)


def batches_seconds(pace: Pace, prompt_tokens: float, lengths: Sequence[int], rows: int, together: int) -> float:
    """Of sampling `rows` completions in calls of `together`.

    Args:
        pace: Of the model.
        prompt_tokens: That a completion has to have computed; a prompt is shared by its samples.
        lengths: Of completions like these.
        rows: All of them.
        together: Of one call; the last call has what is left.
    """
    if rows < 1 or not lengths:
        return 0.0
    whole, rest = divmod(rows, together)
    steps = whole * longest(lengths, together) + (longest(lengths, rest) if rest else 0.0)
    return pace.seconds(prompt_tokens * rows, steps, float(np.mean(lengths)) * rows)
