"""The loop: examples, a step, a row of metrics, now and then a checkpoint; and the way back into it.

Examples of a step are a function of the step and the weights, so a resumed run walks exactly where the
uninterrupted one walked. The metrics journal is cut back to the checkpoint, and then grows the same rows
again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ponder.core.errors import Alarm, Interrupted, ResourceError
from ponder.core.types import Example, Json, Metrics
from ponder.learn.checkpoint import Checkpoints
from ponder.learn.mask_view import show_mask
from ponder.learn.train import LocalTrainer
from ponder.runs.interrupt import stop_requested
from ponder.runs.journal import Journal
from ponder.runs.ledger import count_tokens
from ponder.runs.log import Log
from ponder.runs.store import StageFolder

METRICS = "metrics"
SHOWN = ("loss", "reward", "correct", "entropy", "grad_norm")
"""Metrics worth a place on the progress line, where a step has them."""
TAIL = 10
"""Steps that the summary averages over at each end."""


@dataclass(frozen=True, slots=True)
class FitBatch:
    """What one step learns from."""

    examples: Sequence[Example]
    metrics: Metrics = field(default_factory=dict)
    """Of how the examples came about; stored beside the trainer's. No durations: rows must repeat exactly."""
    pause: Alarm | None = None
    """Stop with this before learning from the step; the state before it is saved."""


def fit(
    trainer: LocalTrainer,
    examples_at: Callable[[int], FitBatch],
    *,
    steps: int,
    folder: StageFolder,
    log: Log,
    checkpoint_every: int,
    key: str,
    after_step: Callable[[int], None] = lambda step: None,
) -> Json:
    """Train to `steps`, resuming from the folder's newest checkpoint.

    Args:
        trainer: Freshly made; a checkpoint replaces its weights.
        examples_at: The examples of a 0-based step; may sample from the trainer's current weights.
        steps: Where to stop.
        folder: Receives `metrics.jsonl` and `checkpoints/`.
        log: Shows progress.
        checkpoint_every: Steps between checkpoints.
        key: What the run is; its checkpoints resume nothing else.
        after_step: Told how many steps were taken, before the checkpoint that a resumed run would begin from.

    Returns:
        Steps, skipped steps, tokens read, and the means of the first and the last metrics.

    Raises:
        Interrupted: After a checkpoint, when a stop was requested.
        Alarm: After a checkpoint, when a step asks for a pause.
    """
    checkpoints = Checkpoints(folder.path, key, log)
    journal = folder.journal(METRICS)
    _resume(trainer, checkpoints, journal, log)
    checkpoints.require_space(trainer.state())
    with log.progress("training", steps, "steps") as progress:
        while trainer.step_count < steps:
            step = trainer.step_count
            batch = examples_at(step)
            _raise_if_paused(batch, trainer, checkpoints, journal)
            row = _learnt(trainer, batch, log)
            journal.append({"step": step, **row})
            progress.update(step + 1, **{name: row[name] for name in SHOWN if name in row})
            after_step(trainer.step_count)
            done, stopping = trainer.step_count == steps, stop_requested()
            if done or stopping or trainer.step_count % checkpoint_every == 0:
                _save(trainer, checkpoints, journal)
            if stopping and not done:
                raise _stopped(trainer.step_count, steps, folder)
    return _summary(journal, trainer)


def _stopped(step: int, steps: int, folder: StageFolder) -> Interrupted:
    return Interrupted(
        f"stopped after step {step} of {steps}, as asked",
        where=str(folder.path),
        fix="run the same command again: it resumes here",
    )


def _learnt(trainer: LocalTrainer, batch: FitBatch, log: Log) -> Metrics:
    """Metrics of a step; before the first one a person sees what is trained."""
    if trainer.step_count == 0 and trainer.chat is not None:
        show_mask(batch.examples, trainer.chat, log)
    row = {**batch.metrics, **trainer.step(batch.examples)}
    count_tokens(trained=int(row.get("tokens", 0)))
    return row


def _raise_if_paused(batch: FitBatch, trainer: LocalTrainer, checkpoints: Checkpoints, journal: Journal) -> None:
    if batch.pause is not None:
        _save(trainer, checkpoints, journal)
        raise batch.pause


def _save(trainer: LocalTrainer, checkpoints: Checkpoints, journal: Journal) -> None:
    """The metrics first: a checkpoint without the rows before it cannot be resumed."""
    journal.sync()
    checkpoints.save(trainer.step_count, trainer.state())


def _resume(trainer: LocalTrainer, checkpoints: Checkpoints, journal: Journal, log: Log) -> None:
    """Load the newest checkpoint whose metrics are still there, and forget the rows behind it."""
    found = checkpoints.newest()
    if found is None:
        journal.truncate(0)
        return
    step, state = found
    if len(journal) < step:
        raise ResourceError(
            f"the checkpoint is of step {step}, but only {len(journal)} rows of metrics are left",
            where=str(journal.path),
            fix="delete this stage's folder to train it again",
        )
    trainer.restore(state)
    journal.truncate(step)
    log.note(f"resuming at step {step}")


def _summary(journal: Journal, trainer: LocalTrainer) -> Json:
    rows = list(journal.rows())
    return {
        "steps": trainer.step_count,
        "skipped": trainer.skipped,
        "tokens": sum(int(row["tokens"]) for row in rows),
        "first": _means(rows[:TAIL]),
        "last": _means(rows[-TAIL:]),
    }


def _means(rows: Sequence[Json]) -> Metrics:
    """Mean of every metric over the rows that have it."""
    names = sorted({name for row in rows for name in row} - {"step"})
    values = {name: [float(row[name]) for row in rows if row.get(name) is not None] for name in names}
    return {name: sum(column) / len(column) for name, column in values.items() if column}
