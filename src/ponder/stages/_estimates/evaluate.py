"""What measuring models would take: `evaluate`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ponder.core.protocols import Task
from ponder.core.types import Problem
from ponder.sandbox.probe import require
from ponder.stages._estimates.account import Account
from ponder.stages._estimates.answering import answered
from ponder.stages._estimates.drawing import Wanted
from ponder.stages._estimates.generate import add_answers
from ponder.stages._estimates.sources import sampled_source
from ponder.stages._outlook import Bounds
from ponder.stages._stage import Context, Estimate
from ponder.stages._tasks import dialogues_of, open_tasks, verifiers_of

if TYPE_CHECKING:
    from ponder.stages.evaluate import Evaluate

TURNS_SHARE = 4.0
"""A conversation takes an unknown number of turns: the duration may be so many times longer, or shorter."""
BLIND_SAMPLE = 8
"""Problems of each task and split that are looked at when nothing may be tried."""
COUNTED_SECONDS = 2.0
"""When all problems are drawn in this time they are, to be counted."""
LEAST_SECONDS = 3.0
"""That each model is tried for."""
COUNTING_SECONDS = 0.5
COUNTING_EACH = 6e-4
"""Counting an answer from the journal and sealing it."""


def estimate_evaluate(
    stage: Evaluate, context: Context, problems_of: Callable[[dict[str, Task], int], list[Problem]]
) -> Estimate:
    """Every model on the same problems.

    Args:
        stage: The settings.
        context: Of the stage.
        problems_of: Draws the stage's problems from its tasks, at most so many of each task and split.
    """
    account = Account()
    with account.refusals.collecting():
        require(stage.require_isolation)
    tasks: dict[str, Task] = {}
    problems: list[Problem] = []
    count = len(stage.tasks) * len(stage.splits) * stage.limit
    with account.refusals.collecting():
        tasks = open_tasks(stage.tasks)
        problems, count = _drawn(stage, context, account, tasks, problems_of)
    each = count * stage.samples
    account.rows = each * len(stage.sides)
    account.seconds.append(Bounds.around(COUNTING_SECONDS + COUNTING_EACH * account.rows, 0.7))
    together = min(each, stage.problems_per_chunk * stage.samples)
    sample = spaced(problems, stage.problems_per_chunk)
    wanted = Wanted(sample, stage.samples, stage.sampling, together, verifiers_of(tasks))
    seconds = max(LEAST_SECONDS, context.outlook.seconds / len(stage.sides))
    for name in (stage.models[side.model] for side in stage.sides):
        with account.refusals.collecting():
            found = answered(context, sampled_source(context, name), wanted, each, account.refusals, seconds)
            add_answers(account, found, sample)
    if dialogues_of(tasks):
        account.seconds.append(Bounds.around(sum(part.expected for part in account.seconds), TURNS_SHARE))
        account.notes.append("conversations: the number of turns is not known")
    return account.estimate(context)


def _drawn(
    stage: Evaluate,
    context: Context,
    account: Account,
    tasks: dict[str, Task],
    problems_of: Callable[[dict[str, Task], int], list[Problem]],
) -> tuple[list[Problem], int]:
    """Problems that stand for all, and how many all are; what drawing all takes is put on the account."""
    places = len(tasks) * len(stage.splits)
    few = min(stage.limit, max(BLIND_SAMPLE, -(-stage.problems_per_chunk // places) if context.outlook.probe else 0))
    began = time.monotonic()
    problems = problems_of(tasks, few)
    seconds = time.monotonic() - began
    whole = stage.limit / few
    found = Counter((problem.task, problem.meta["split"]) for problem in problems)
    count = sum(stage.limit if number == few else number for number in found.values())
    if few < stage.limit and seconds * whole < COUNTED_SECONDS:
        problems = problems_of(tasks, stage.limit)
        count = len(problems)
    account.seconds.append(Bounds.around(seconds * whole, 0.3))
    return problems, count


def spaced(problems: Sequence[Problem], count: int) -> list[Problem]:
    """Every so-manieth problem, so that all tasks and splits are among them."""
    if len(problems) <= count:
        return list(problems)
    return [problems[i * len(problems) // count] for i in range(count)]
