"""What sampling teachers would take: `generate`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ponder.core.errors import PonderError
from ponder.core.protocols import Task
from ponder.core.seeds import derive_seed
from ponder.core.types import Problem, Sampling
from ponder.measure.stats import wilson
from ponder.stages._contamination import clean
from ponder.stages._estimates.account import Account, traces_bytes
from ponder.stages._estimates.answering import Answered, answered
from ponder.stages._estimates.drawing import CHARACTERS, Wanted
from ponder.stages._estimates.machine import PROCESS_BYTES
from ponder.stages._estimates.served import served_refusals
from ponder.stages._estimates.sources import sampled_source
from ponder.stages._outlook import Bounds, Leaves
from ponder.stages._row_texts import problem_texts
from ponder.stages._stage import Context, Estimate
from ponder.stages._tasks import draw_problems, open_tasks, single_turn, verifiers_of

if TYPE_CHECKING:
    from ponder.stages.generate import Generate

SAMPLE, BLIND_SAMPLE = 256, 24
"""Problems that stand for all, when stages are tried out and when not."""
COUNTED_SECONDS = 2.0
"""When all problems are drawn in this time they are, to be counted."""
CLEAN_SECONDS = 1e-4
"""Comparing a problem with the benchmarks."""
UNKNOWN_CORRECT = Bounds(0.2, 0.6, 0.95)
"""Share that is right of a teacher that was not tried."""
TRACE_MEMORY = 6_000
"""Bytes that a stored problem or trace takes while it is held as a record."""


def estimate_generate(stage: Generate, context: Context) -> Estimate:
    """Every teacher on the stage's problems, and what of it can be learnt."""
    account = Account()
    tasks, problems = asked_problems(account, context, stage, total=stage.problems, decontaminate=stage.decontaminate)
    names = named_models(stage.model)
    account.rows = problems * stage.samples * len(names)
    sample, texts, lengths = _sample(stage, context, tasks), [], []
    parts: list[Bounds] = []
    for label, name in names.items():
        found = _teacher(stage, context, account, name, sample, tasks, problems * stage.samples)
        if found is None:
            continue
        add_answers(account, found, sample)
        parts.append(_learnable(found, name))
        texts += [t.model_copy(update={"sampler": label}) for t in found.drawn.learnable] if found.drawn else []
        lengths += found.lengths
    account.needs(max(account.memory_bytes, PROCESS_BYTES) + TRACE_MEMORY * problems)
    if parts:
        learnable = Bounds(*(sum(getattr(part, name) for part in parts) for name in ("low", "expected", "high")))
        share = learnable.expected / max(1, account.rows)
        account.notes.append(f"{share:.0%} of the traces expected to be learnt from")
        read = account.prompt / max(1, account.rows)
        account.leaves = Leaves(
            traces=learnable, problems=problems, texts=tuple(texts), prompt=read, lengths=tuple(lengths)
        )
    return account.estimate(context)


def named_models(model: Any) -> dict[str, str]:
    """Models by label, in each way a recipe can name them."""
    if isinstance(model, Mapping):
        return dict(model)
    return {name: name for name in ([model] if isinstance(model, str) else model)}


def asked_problems(
    account: Account, context: Context, stage: Any, *, total: int, decontaminate: bool
) -> tuple[dict[str, Task], int]:
    """The stage's tasks and how many problems they give; what drawing and cleaning them takes is put on the account."""
    tasks: dict[str, Task] = {}
    with account.refusals.collecting():
        tasks = single_turn(open_tasks(stage.tasks))
        known = _counted(account, context, tasks, stage, total)
        if decontaminate and context.outlook.probe:
            sample = spread(tasks, stage.split, min(BLIND_SAMPLE, known), context.seed)
            began = time.monotonic()
            clean(sample, problem_texts, lambda problem: problem.id, context, stage.benchmarks)
            account.seconds.append(Bounds.around(time.monotonic() - began + CLEAN_SECONDS * known, 0.5))
        return tasks, known
    return tasks, total


def _counted(account: Account, context: Context, tasks: dict[str, Task], stage: Any, total: int) -> int:
    """How many problems there are: counted where that is quick; what drawing them takes is put on the account."""
    few = min(total, SAMPLE if context.outlook.probe else BLIND_SAMPLE)
    seed = derive_seed(context.seed, "problems")
    began = time.monotonic()
    known = len(draw_problems(tasks, stage.split, few, seed))
    seconds = (time.monotonic() - began) * total / few
    if known == few < total and seconds < COUNTED_SECONDS:
        known = len(draw_problems(tasks, stage.split, total, seed))
    elif known == few:
        known = total
    account.seconds.append(Bounds.around(seconds, 0.3))
    if known == 0:
        account.refusals.add("the tasks gave no problems", where=f"split {stage.split}")
    account.notes.append(f"{known:,} of {total:,} problems are there" if known < total else "")
    return known


def spread(tasks: Mapping[str, Task], split: str, count: int, seed: int) -> list[Problem]:
    """Some of a stage's problems, or none when they cannot be drawn; that is reported elsewhere."""
    try:
        return draw_problems(tasks, split, count, derive_seed(seed, "problems")) if tasks else []
    except PonderError:
        return []


def add_answers(account: Account, found: Answered, sample: Sequence[Problem]) -> None:
    """Put the answers of one model on the account."""
    account.seconds.append(found.seconds)
    account.needs(found.memory_bytes)
    account.prompt += found.prompt_tokens.expected
    account.sampled += found.sampled_tokens.expected
    account.notes.append(found.note)
    account.probed |= found.probed
    if found.served:
        account.token_money.append((found.money, found.currency))
    if found.drawn is not None and found.drawn.watts is not None:
        account.watts.append(found.drawn.watts)
    response = CHARACTERS * found.sampled_tokens.expected / max(1, found.rows)
    if found.drawn is not None and found.drawn.traces:
        response = float(np.mean([len(trace.completion.text) for trace in found.drawn.traces]))
    asked = float(np.mean([len(problem.model_dump_json()) for problem in sample])) if sample else 500.0
    size = traces_bytes(found.rows, asked, response)
    account.left_bytes += size
    account.disk_bytes += size


def _sample(stage: Generate, context: Context, tasks: Mapping[str, Task]) -> list[Problem]:
    count = SAMPLE if context.outlook.probe else BLIND_SAMPLE
    return spread(tasks, stage.split, min(count, stage.problems), context.seed)


def _teacher(
    stage: Generate,
    context: Context,
    account: Account,
    name: str,
    sample: list[Problem],
    tasks: Mapping[str, Task],
    rows: int,
) -> Answered | None:
    with account.refusals.collecting():
        source = sampled_source(context, name)
        if source.kind == "served":
            account.refusals += served_refusals(name, context.outlook.sheet, getattr(stage, "cost_limit", None))
        sampling = Sampling(
            temperature=stage.temperature,
            top_p=stage.top_p,
            top_k=stage.top_k,
            max_new_tokens=stage.max_new_tokens,
            max_thinking_tokens=stage.max_thinking_tokens,
            seed=derive_seed(context.seed, "plan"),
        )
        together = min(rows, stage.chunk * stage.samples)
        wanted = Wanted(sample, stage.samples, sampling, together, verifiers_of(tasks))
        return answered(context, source, wanted, rows, account.refusals)
    return None


def _learnable(found: Answered, name: str) -> Bounds:
    """How many of its traces can be learnt from."""
    if name == "solutions":
        return Bounds(float(found.rows), float(found.rows), float(found.rows))
    if found.drawn is None or not found.drawn.traces:
        return UNKNOWN_CORRECT.times(found.rows)
    share = wilson(len(found.drawn.learnable), len(found.drawn.traces))
    return Bounds(share.low, share.estimate, share.high).times(found.rows)
