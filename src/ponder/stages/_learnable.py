"""Stored traces that a student can learn from: read, filtered by verdict and contamination, and put into its tokens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ponder.core.answers import split_thinking
from ponder.core.chat import Chat
from ponder.core.errors import ConfigurationError, PonderError
from ponder.core.types import Completion, Json, Trace
from ponder.runs.pack import PACK
from ponder.stages._contamination import clean
from ponder.stages._row_texts import trace_texts
from ponder.stages._stage import Context
from ponder.stages._traces.choosing import RANK, by_rank, refusal
from ponder.stages._traces.files import traces_file


@dataclass(frozen=True, slots=True)
class Choice:
    """Which traces are learnt."""

    per_problem: int | None = None
    """At most this many of one problem, the shortest first."""
    answers_only: bool = False
    max_tokens: int = 2048
    decontaminate: bool = True
    benchmarks: str | None = None
    wrong_too: bool = False
    """Keep traces whose verdict is wrong as well: a teacher's opinion of them is worth hearing."""


@dataclass(frozen=True, slots=True)
class Learnable:
    """What was kept, with tokens of the student, and the table of what was dropped."""

    traces: list[Trace]
    kept: Json


def traces_path(context: Context, name: str) -> Path:
    """The file of traces, or the pack, that a stage, folder or file holds; a pack when there are both.

    Raises:
        ResourceError: If there is neither.
    """
    path = Path(context.artefact(name, "")).expanduser()
    return path / PACK if (path / PACK).exists() else traces_file(path)


def learnable(found: Iterable[Trace], chat: Chat, choice: Choice, context: Context, path: Path) -> Learnable:
    """The traces that can be learnt, problem by problem; those that carry tokens keep them.

    Raises:
        PonderError: If none is left.
    """
    counts: dict[str, int] = dict.fromkeys(
        ("kept", "wrong", "unknown", "truncated", "refused", "contaminated", "surplus", "too_long", "empty"), 0
    )
    traces: list[Trace] = []
    for trace in found:
        reason = refusal(trace)
        if reason is None or (reason == "wrong" and choice.wrong_too):
            traces.append(trace)
        else:
            counts[reason] = counts.get(reason, 0) + 1
    overlap: Json | None = None
    if choice.decontaminate:
        before = len(traces)
        traces, overlap = clean(traces, trace_texts, lambda trace: trace.problem.id, context, choice.benchmarks)
        counts["contaminated"] = before - len(traces)
    groups: dict[str, list[Trace]] = defaultdict(list)
    for trace in traces:
        groups[trace.problem.id].append(trace)
    kept: list[Trace] = []
    for group in groups.values():
        chosen = sorted(group, key=lambda t: len(t.completion.text))[: choice.per_problem]
        counts["surplus"] += len(group) - len(chosen)
        made = [encoded(trace, chat, answers_only=choice.answers_only) for trace in chosen]
        short = [trace for trace in made if length_of(trace) <= choice.max_tokens]
        counts["too_long"] += len(made) - len(short)
        taught = [trace for trace in short if trace.completion.tokens]
        counts["empty"] += len(short) - len(taught)
        kept += taught
    counts["kept"] = len(kept)
    if not kept:
        table = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
        raise PonderError(f"0 traces can be learnt: {table or 'the file is empty'}", where=str(path))
    return Learnable(kept, {"traces": counts, "contamination": overlap})


def encoded(trace: Trace, chat: Chat, *, answers_only: bool = False) -> Trace:
    """A trace in the student's tokens, with its end of turn; without the thinking when only the answer is wanted.

    Raises:
        ConfigurationError: If the thinking is to be dropped from a trace of a pack.
    """
    text = trace.completion.text
    if trace.completion.tokens is not None:
        if answers_only:
            raise ConfigurationError(
                "a pack speaks of whole responses, so their thinking cannot be dropped", where="answers_only"
            )
        return trace
    if answers_only:
        text = split_thinking(text).answer
    completion = Completion(
        text=text,
        finish=trace.completion.finish,
        prompt_tokens=tuple(chat.prompt(trace.problem.messages)),
        tokens=tuple(chat.response(text)),
    )
    return trace.model_copy(update={"completion": completion})


def in_curriculum(traces: list[Trace]) -> list[Trace]:
    """Traces in the order that `select` gave them.

    Raises:
        ConfigurationError: If one has no place in it.
    """
    if any(RANK not in trace.parts for trace in traces):
        raise ConfigurationError(
            "these traces have no order to be learnt in",
            where="order",
            fix="choose them by the stage `select` with `order: curriculum`",
        )
    return by_rank(traces)


def length_of(trace: Trace) -> int:
    """Tokens of prompt and completion."""
    return len(trace.completion.prompt_tokens or ()) + len(trace.completion.tokens or ())
