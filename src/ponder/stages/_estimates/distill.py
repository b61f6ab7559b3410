"""What learning from traces would take: `distill`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ponder.core.chat import Chat
from ponder.core.errors import ResourceError
from ponder.core.plugins import load_plugin
from ponder.core.types import Example, Finish, Group, Outcome, Trace
from ponder.learn.order import steps_for
from ponder.models.load import LoadedModel
from ponder.runs.pack import PACK
from ponder.runs.store import read_rows
from ponder.stages._estimates.account import Account
from ponder.stages._estimates.answering import LOAD_SECONDS, READ_RATE, TYPICAL_TOKENS, model_for_probe
from ponder.stages._estimates.machine import (
    GUESS_SHARE,
    PROCESS_BYTES,
    Held,
    checkpoint_seconds,
    checkpoints_bytes,
    held_by_adapter,
    held_by_weights,
    training_memory,
    training_seconds,
)
from ponder.stages._estimates.sources import Source, source_of
from ponder.stages._estimates.training import Trained, train
from ponder.stages._learnable import encoded, length_of, traces_path
from ponder.stages._outlook import Bounds, Leaves
from ponder.stages._stage import Context, Estimate

if TYPE_CHECKING:
    from ponder.stages.distill import Distill

TRACE_SECONDS = 1.1e-3
"""Reading, cleaning and encoding one trace."""
TRACE_MEMORY = 9_000
"""Bytes of a trace that is held, with its tokens."""
GUESSED_TRACES = Bounds(200.0, 2000.0, 20_000.0)
"""When nothing is known of them."""
MEASURED_SHARE = 0.12
"""How far a duration from measured steps may be off."""
TRAINING_MEMORY_SHARE = 0.25
"""Of the memory a model may take for a probe when it is trained too."""
METRICS_BYTES = 600
"""A step's row of metrics."""


@dataclass(frozen=True, slots=True)
class Found:
    """Traces that would be learnt."""

    traces: Bounds
    sample: tuple[Trace, ...]
    rows: int
    """Read, the others included."""
    note: str = ""
    length: float = float(TYPICAL_TOKENS)
    """Tokens of prompt and response, when there is no sample."""
    responses: tuple[int, ...] = ()
    """Tokens of responses, when there is no sample."""


def estimate_distill(stage: Distill, context: Context) -> Estimate:
    """Steps on the traces that are there, or are expected to be."""
    account = Account()
    found = Found(GUESSED_TRACES, (), 2000, "2,000 traces guessed: they do not exist yet")
    with account.refusals.collecting():
        found = find_traces(context, stage.traces, stage.per_problem, 4 * stage.examples_per_step)
        if found.traces.high < 1:
            account.refusals.add("0 traces can be learnt", where=stage.traces)
    account.notes.append(found.note)
    steps = Bounds(
        *(
            float(stage.steps or steps_for(max(1, round(count)), stage.epochs, stage.examples_per_step))
            for count in (found.traces.low, found.traces.expected, found.traces.high)
        )
    )
    account.rows = round(steps.expected) * stage.examples_per_step
    check_learning(account, stage)
    with account.refusals.collecting():
        source = source_of(context, stage.model)
        loaded = model_for_probe(source, TRAINING_MEMORY_SHARE) if context.outlook.probe and found.sample else None
        measured = _probe(stage, context, loaded, found.sample) if loaded is not None else None
        lengths = _lengths(found.sample, loaded.chat if loaded is not None else None, answers_only=stage.answers_only)
        mean = sum(lengths) / len(lengths) if lengths else found.length
        add_training(account, source, stage, steps, measured, mean * stage.examples_per_step)
        account.seconds.append(Bounds.around(TRACE_SECONDS * found.rows + 0.5, 0.5))
        account.needs(account.memory_bytes + TRACE_MEMORY * found.rows)
        responses = _responses(found.sample, loaded.chat if loaded is not None else None, stage.answers_only)
        account.leaves = Leaves(model=stage.model, lengths=responses or found.responses)
    return account.estimate(context)


def add_training(
    account: Account, source: Source, stage: object, steps: Bounds, measured: Trained | None, step_tokens: float
) -> None:
    """Put a training of so many steps on the account: steps, checkpoints, and the model in the end.

    Args:
        account: Of the stage.
        source: What is trained.
        stage: With `optimisation` and `checkpoint_every`, and perhaps an `adapter`.
        steps: How many.
        measured: Of steps that were tried; None: computed from the shape.
        step_tokens: Of a step, when nothing was tried.
    """
    optimisation, every = stage.optimisation, stage.checkpoint_every  # type: ignore[attr-defined]
    count = round(steps.expected)
    held = _held(source, stage)
    if measured is None:
        each = Bounds.around(training_seconds(step_tokens, source.parameters), GUESS_SHARE)
        state, memory = held.state, 0
        if source.config is not None:
            memory = training_memory(source.config, held.steps, optimisation)
        account.notes.append(f"{source.name}: computed from its shape" + (f" ({source.note})" if source.note else ""))
    else:
        share = MEASURED_SHARE if measured.whole else 0.4
        each = Bounds.around(measured.step_seconds, share)
        state, memory, step_tokens = measured.state_bytes, measured.memory_bytes, measured.step_tokens
        account.watts += [] if measured.watts is None else [measured.watts]
        account.probed = True
        what = "a step was timed" if measured.whole else "a part of a step was timed"
        account.notes.append(f"{what}: {step_tokens:,.0f} tokens" + (f" ({source.note})" if source.note else ""))
    account.seconds.append(Bounds(each.low * steps.low, each.expected * count, each.high * steps.high))
    loading = LOAD_SECONDS + source.disk_bytes / READ_RATE
    account.seconds.append(Bounds.around(checkpoint_seconds(state, count, every) + loading, 0.6))
    account.trained += step_tokens * count
    account.needs(memory)
    if held.end:
        account.needs(PROCESS_BYTES + held.end)
    most, kept = checkpoints_bytes(state, count, every)
    model = 4 * source.parameters + 300_000
    account.disk_bytes += most + model + METRICS_BYTES * count
    account.left_bytes += kept + model + METRICS_BYTES * count


def _held(source: Source, stage: object) -> Held:
    adapter = getattr(stage, "adapter", None)
    if adapter is None or source.config is None:
        return held_by_weights(source.parameters, stage.optimisation)  # type: ignore[attr-defined]
    return held_by_adapter(source.config, adapter)


def check_learning(account: Account, stage: object) -> None:
    """Settings under which nothing would move."""
    optimisation = stage.optimisation  # type: ignore[attr-defined]
    if optimisation.lr == 0 and not (optimisation.optimizer == "muon" and optimisation.outer_lr):
        account.refusals.add("a learning rate of 0 teaches nothing", "set it above 0", "optimisation.lr")


def find_traces(context: Context, name: str, per_problem: int | None, most: int = 0) -> Found:
    """Traces of a file that is there, or of a stage that will run.

    Args:
        context: Of the stage that reads them.
        name: As the recipe names them.
        per_problem: At most so many of one problem.
        most: Traces that are kept as a sample.

    Raises:
        ResourceError: If there are none and no stage will write any.
    """
    leaves = context.outlook.leaves.get(name)
    if leaves is not None and leaves.traces is not None:
        expected = leaves.traces
        if per_problem is not None:
            cap = float(per_problem * leaves.problems)
            expected = Bounds(*(min(cap, count) for count in (expected.low, expected.expected, expected.high)))
        rows = round(leaves.traces.high)
        note = f"{expected.expected:,.0f} traces expected ({expected.low:,.0f} to {expected.high:,.0f})"
        mean = leaves.prompt + sum(leaves.lengths) / len(leaves.lengths) if leaves.lengths else TYPICAL_TOKENS
        return Found(expected, tuple(leaves.texts), rows, note, mean, leaves.lengths)
    try:
        path = traces_path(context, name)
    except ResourceError:
        if context.stage_path(name) is not None:
            return Found(GUESSED_TRACES, (), 2000, "2,000 traces guessed: they do not exist yet")
        raise
    return _counted(path, per_problem, most)


def _counted(path: Path, per_problem: int | None, most: int) -> Found:
    """Traces of a file, counted; those of a pack count as learnt."""
    if path.name == PACK:
        return Found(GUESSED_TRACES, (), 2000, "the pack's traces were not counted")
    problems: Counter[str] = Counter()
    rows, sample = 0, []
    for row in read_rows(path):
        rows += 1
        ended = row["completion"].get("finish", Finish.STOP) == Finish.STOP
        if row["verdict"]["outcome"] == Outcome.CORRECT and ended:
            problems[str(row["problem"]["id"])] += 1
            if len(sample) < most:
                sample.append(Trace.model_validate(row))
    count = sum(min(found, per_problem or found) for found in problems.values())
    exact = Bounds(float(count), float(count), float(count))
    return Found(exact, tuple(sample), rows, f"{count:,} of {rows:,} traces can be learnt, benchmarks not looked at")


def _probe(stage: Distill, context: Context, loaded: LoadedModel | None, sample: tuple[Trace, ...]) -> Trained | None:
    assert loaded is not None
    sft = load_plugin("objectives", "sft")()
    traces = [encoded(trace, loaded.chat, answers_only=stage.answers_only) for trace in sample]
    examples: list[Example] = [
        example
        for trace in islice((t for t in traces if length_of(t) <= stage.max_tokens), 4 * stage.examples_per_step)
        for example in sft(Group(trace.problem, (trace,)))
    ]
    if not examples:
        return None
    seconds = context.outlook.seconds
    return train(loaded, examples, stage.examples_per_step, stage.optimisation, seconds, adapter=stage.adapter)


def _lengths(sample: tuple[Trace, ...], chat: Chat | None, *, answers_only: bool) -> list[int]:
    """Tokens of prompt and response."""
    if chat is None:
        return [40 + (len(str(t.problem.prompt)) + len(t.completion.text)) // 4 for t in sample]
    return [length_of(encoded(trace, chat, answers_only=answers_only)) for trace in sample]


def _responses(sample: tuple[Trace, ...], chat: Chat | None, answers_only: bool) -> tuple[int, ...]:
    """Tokens of the responses that are taught."""
    if chat is None:
        return tuple(1 + len(trace.completion.text) // 4 for trace in sample)
    return tuple(len(encoded(trace, chat, answers_only=answers_only).completion.tokens or ()) for trace in sample)
