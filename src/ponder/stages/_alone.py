"""How long answers take that are asked for one at a time, as a user waits for them."""

from __future__ import annotations

from collections.abc import Sequence

from ponder.backends.local import open_sampler
from ponder.core.types import Problem, Sampling
from ponder.measure.resources import Stopwatch
from ponder.runs.interrupt import raise_if_stopped
from ponder.runs.store import Journal

PROBLEMS = 20
"""That are timed; spread over all of them."""


def time_alone(label: str, name: str, problems: Sequence[Problem], sampling: Sampling, journal: Journal) -> None:
    """Time one model, unless the journal has it already.

    Args:
        label: Under which it is journalled.
        name: Of the model.
        problems: Of which some are asked.
        sampling: Of every answer.
        journal: Of all labels.
    """
    if any(row["label"] == label for row in journal.rows()):
        return
    sampler = open_sampler(name)
    asked = problems[:: max(1, len(problems) // PROBLEMS)][:PROBLEMS]
    sampler.generate([asked[0].messages], 1, sampling)  # what is made at first use
    seconds = []
    for problem in asked:
        raise_if_stopped()
        with Stopwatch() as watch:
            sampler.generate([problem.messages], 1, sampling)
        seconds.append(watch.seconds)
    getattr(sampler, "close", lambda: None)()
    journal.append({"label": label, "seconds": seconds})


def times_alone(journal: Journal) -> dict[str, list[float]]:
    """Seconds of each answer by label."""
    return {row["label"]: row["seconds"] for row in journal.rows()}
