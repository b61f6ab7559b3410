"""Takes a few real training steps on a copy of a model, to learn what a step takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ponder.backends.local import trainer_for
from ponder.core.types import Example, Surrogate
from ponder.learn.train import LocalTrainer, Optimisation
from ponder.measure.costs.energy import Spending
from ponder.measure.resources import peak_memory_bytes, reset_peak_memory
from ponder.models.load import LoadedModel
from ponder.models.lora import Adapter

FEW = 8
"""Examples of the first step, from which it is seen whether a whole one is affordable."""
STEPS = 4
"""Whole steps that are timed at most."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What was learnt."""

    step_seconds: float
    step_tokens: float
    """Packed tokens that a step reads."""
    memory_bytes: int
    state_bytes: int
    """Of a checkpoint."""
    whole: bool
    """Whole steps were taken; otherwise a part of one was, and the rest computed from it."""
    watts: float | None = None


def train(
    loaded: LoadedModel,
    examples: Sequence[Example],
    per_step: int,
    optimisation: Optimisation,
    seconds: float,
    surrogate: Surrogate | None = None,
    temperature: float = 1.0,
    adapter: Adapter | None = None,
) -> Trained:
    """Step on examples that stand for all.

    Args:
        loaded: A model that nobody else uses; it is changed.
        examples: At least one; repeated where a step needs more.
        per_step: Examples of a step of the run.
        optimisation: As the run has it.
        seconds: To be spent, about.
        surrogate: Shape of the policy loss.
        temperature: Of the sampler.
        adapter: What is trained instead of the weights.

    Raises:
        PonderError: If the run's first step would.
    """
    over = time.monotonic() + seconds
    reset_peak_memory()
    trainer = trainer_for(loaded, optimisation, STEPS, surrogate, temperature, adapter)
    few = min(FEW, per_step)
    with Spending() as used:
        _step(trainer, examples, 0, few)  # what is built on first use is no part of a step
        part, tokens = _step(trainer, examples, 0, few)
        timed = [(part, tokens)]
        whole = few == per_step or part * per_step / few < (over - time.monotonic()) / 2
        if whole:
            _step(trainer, examples, 0, per_step)
            timed = [_step(trainer, examples, 0, per_step)]
            while len(timed) < STEPS and time.monotonic() + timed[-1][0] < over:
                timed.append(_step(trainer, examples, len(timed) * per_step, per_step))
    state = sum(tensor.nbytes for tensor in trainer.state().tensors.values())  # held for a moment, as at a checkpoint
    factor = 1.0 if whole else per_step / few
    joules = used.fields["joules"]
    return Trained(
        median(seconds for seconds, _ in timed) * factor,
        sum(count for _, count in timed) / len(timed) * factor,
        peak_memory_bytes(),
        state,
        whole,
        None if joules is None or used.seconds <= 0 else joules / used.seconds,
    )


def _step(trainer: LocalTrainer, examples: Sequence[Example], start: int, count: int) -> tuple[float, float]:
    """(seconds, packed tokens) of one step."""
    chosen = [examples[(start + i) % len(examples)] for i in range(count)]
    began = time.perf_counter()
    metrics = trainer.step(chosen)
    return time.perf_counter() - began, metrics["tokens"]
