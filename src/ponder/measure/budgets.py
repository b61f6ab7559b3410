"""Accuracy against the length of the thought, and which length answers within a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ponder.core.errors import ConfigurationError
from ponder.core.types import Json, Record


class Side(Record):
    """One model at one thinking budget."""

    label: str
    """Under which its answers are counted."""
    model: str
    """Label of the model."""
    budget: int | None
    """Thinking tokens; None: no limit."""


class Choice(Record):
    """A budget and what is known of it."""

    budget: int | None
    accuracy: float
    seconds: float
    """That nine of ten answers take at most, one at a time on the machine that was measured."""
    n: int
    """Answers that were timed."""


def sides_of(models: Sequence[str], budgets: Sequence[int]) -> list[Side]:
    """Every model without a limit first, then at each budget, the largest first."""
    sides: list[Side] = []
    for model in models:
        sides.append(Side(label=model, model=model, budget=None))
        sides += [
            Side(label=f"{model}:{budget}", model=model, budget=budget) for budget in sorted(set(budgets), reverse=True)
        ]
    return sides


def curve_rows(rows: Sequence[Json], sides: Sequence[Side]) -> list[Json]:
    """Of each split and model, by rising budget: accuracy with its interval and the mean length of the thought.

    Args:
        rows: As `measure.scores.model_rows` gives them.
        sides: Of the evaluation.
    """
    overall = {(row["model"], row["split"]): row for row in rows if row["task"] is None and row["steps"] is None}
    found: list[Json] = []
    for split in dict.fromkeys(split for _, split in overall):
        for side in sorted(sides, key=lambda side: (side.model, side.budget is None, side.budget or 0)):
            row = overall.get((side.label, split))
            if row is not None:
                kept = ("accuracy", "low", "high", "n", "thinking_tokens", "truncated")
                place = {"split": split, "label": side.label, "model": side.model, "budget": side.budget}
                found.append(place | {key: row[key] for key in kept})
    return found


def alone_rows(seconds: Mapping[str, Sequence[float]]) -> list[Json]:
    """Time of answers that were asked for one at a time, by label: what half, and nine of ten, took at most."""
    return [
        {
            "label": label,
            "n": len(times),
            "p50_seconds": float(np.quantile(times, 0.5)),
            "p90_seconds": float(np.quantile(times, 0.9)),
        }
        for label, times in seconds.items()
        if len(times)
    ]


def budget_within(curve: Sequence[Json], alone: Sequence[Json], seconds: float, model: str | None = None) -> Choice:
    """The most accurate budget whose answers come in time; of equally accurate ones the smallest.

    Args:
        curve: As `curve_rows` gives it; its first split counts.
        alone: As `alone_rows` gives it.
        seconds: That nine of ten answers may take.
        model: Label of the model; None: the only one.

    Raises:
        ConfigurationError: If none is in time, or the curve does not speak of the model.
    """
    models = dict.fromkeys(row["model"] for row in curve)
    if model is None and len(models) > 1:
        raise ConfigurationError(
            "the curve has several models", where="--curve", fix=f"evaluate one of them alone: {', '.join(models)}"
        )
    wanted = model if model is not None else next(iter(models), None)
    timed = {row["label"]: row for row in alone}
    first = next((row["split"] for row in curve), None)
    known = [
        Choice(
            budget=row["budget"],
            accuracy=row["accuracy"],
            seconds=timed[row["label"]]["p90_seconds"],
            n=timed[row["label"]]["n"],
        )
        for row in curve
        if row["model"] == wanted and row["split"] == first and row["label"] in timed and row["accuracy"] is not None
    ]
    if not known:
        raise ConfigurationError(
            "there is no curve of accuracy and time here",
            where="--curve",
            fix="measure one: ponder evaluate --model MODEL --task TASK --budgets 0,32,64,128",
        )
    in_time = [choice for choice in known if choice.seconds <= seconds]
    if not in_time:
        fastest = min(choice.seconds for choice in known)
        raise ConfigurationError(
            f"no budget answers within {seconds:g} s: the fastest takes {fastest:.2g} s in nine of ten cases",
            where="--answer-within",
            fix="allow more time, or choose a smaller or a quantised model",
        )
    return max(in_time, key=lambda choice: (choice.accuracy, -(1e18 if choice.budget is None else choice.budget)))
