"""Samples a model for some seconds, to learn its pace, how long its answers are and how many are right."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ponder.core.chat import Chat
from ponder.core.protocols import Sampler, Verifier
from ponder.core.types import Completion, Finish, Outcome, Problem, Sampling, Trace
from ponder.engines.local import LocalSampler
from ponder.learn.rollout import Rewards, judge
from ponder.measure.costs.energy import Spending
from ponder.measure.resources import peak_memory_bytes, reset_peak_memory
from ponder.measure.stats import student_mean
from ponder.models.load import LoadedModel
from ponder.stages._estimates.machine import small_model_rate
from ponder.stages._estimates.pace import Pace, Timed, fitted

FIRST = 20
"""Completions that are drawn before anything is known."""
CHARACTERS = 4
"""Of English text in a token of a large vocabulary, where no tokenizer is here."""
UNKNOWN_SHARE = 1.5
"""A mean length that was not seen may be so much larger, and smaller by as large a factor."""


class _Enough(Exception):
    """The time is over."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What would be sampled."""

    problems: Sequence[Problem]
    """As many as are tried at most; they stand for all."""
    samples: int
    sampling: Sampling
    together: int
    """Completions of one call."""
    verifiers: Mapping[str, Verifier]
    lengths: tuple[int, ...] = ()
    """Of its answers, where the model is not here and another of its shape stands in."""
    rewards: Rewards | None = None


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was learnt."""

    pace: Pace
    lengths: tuple[int, ...]
    """Tokens of completions, all counted that were begun in the largest run."""
    prompt_tokens: float
    """Of a mean prompt."""
    traces: tuple[Trace, ...] = ()
    """Judged; none when another model stood in."""
    cut: bool = False
    """The time was over before the answers were: their lengths are guessed."""
    judging: float = 0.0
    """Seconds for a completion."""
    memory_bytes: int = 0
    watts: float | None = None

    @property
    def correct(self) -> float | None:
        """Share that is right of those judged."""
        outcomes = [trace.verdict.outcome for trace in self.traces if trace.verdict.outcome is not Outcome.UNKNOWN]
        return outcomes.count(Outcome.CORRECT) / len(outcomes) if outcomes else None

    @property
    def learnable(self) -> tuple[Trace, ...]:
        """Right, and ended by themselves."""
        right = (t for t in self.traces if t.verdict.outcome is Outcome.CORRECT)
        return tuple(trace for trace in right if trace.completion.finish is Finish.STOP)

    @property
    def length_share(self) -> float:
        """Half the width of the interval around the mean length, as a share of it."""
        if self.cut:
            return UNKNOWN_SHARE
        if len(self.lengths) < 2:
            return 0.5
        mean = student_mean(self.lengths)
        return min(1.0, (mean.high - mean.estimate) / mean.estimate) if mean.estimate else 0.0


class _Unending:
    """A chat format in which no turn ends: every completion becomes as long as is asked."""

    stop_ids: frozenset[int] = frozenset()

    def __init__(self, chat: Chat) -> None:
        self._chat = chat

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chat, name)


def draw(loaded: LoadedModel, wanted: Wanted, seconds: float, *, rounded: bool = False) -> Drawn:
    """Draw about twenty completions, then as many as one call of the run has if there is time.

    Args:
        loaded: A model that nobody else uses.
        wanted: What to draw.
        seconds: To be spent, about.
        rounded: Matrix products in bfloat16, as a policy has them under `autocast`.
    """
    over = time.monotonic() + seconds
    standing_in = bool(wanted.lengths)
    chat: Any = _Unending(loaded.chat) if standing_in else loaded.chat
    sampler = LocalSampler(loaded.model, chat, name="probe", rounded=rounded)
    prompts = [len(loaded.chat.prompt(problem.messages)) for problem in wanted.problems]
    sampling = wanted.sampling
    if standing_in:
        typical = max(1, min(sampling.max_new_tokens, round(float(np.mean(wanted.lengths)))))
        sampling = sampling.model_copy(update={"max_new_tokens": typical, "max_thinking_tokens": None})
    reset_peak_memory()
    with Spending() as used:
        runs, groups, cut = _runs(sampler, wanted, sampling, prompts, over, _affordable(loaded, prompts, seconds))
    memory = peak_memory_bytes()
    traces, judging = ((), 0.0) if standing_in else _judged(wanted, groups)
    lengths = wanted.lengths or _lengths(wanted, traces, cut, runs[-1], loaded.chat)
    joules = used.fields["joules"]
    watts = None if joules is None or used.seconds <= 0 else joules / used.seconds
    mean = float(np.mean(prompts))
    return Drawn(fitted(runs), lengths, mean, traces, cut, judging, memory, watts)


def text_tokens(text: str, chat: Chat | None) -> int:
    """Tokens of a response; a guess from its letters where no tokenizer is here."""
    return len(chat.response(text)) if chat is not None else 1 + len(text) // CHARACTERS


def solution_lengths(problems: Sequence[Problem], chat: Chat | None, most: int) -> tuple[int, ...]:
    """Tokens of the worked solutions that problems carry; empty when one carries none."""
    texts = [problem.meta.get("solution") for problem in problems]
    known = [min(most, text_tokens(text, chat)) for text in texts if isinstance(text, str)]
    return tuple(known) if len(known) == len(texts) else ()


def _affordable(loaded: LoadedModel, prompts: Sequence[int], seconds: float) -> int:
    """Prompts that are read in a quarter of the time, at least one."""
    parameters = sum(p.numel() for p in loaded.model.parameters())
    each = 2 * parameters * max(prompts) / small_model_rate()
    return max(1, int(seconds / 4 / each))


def _runs(
    sampler: Sampler, wanted: Wanted, sampling: Sampling, prompts: Sequence[int], over: float, most: int
) -> tuple[list[Timed], list[tuple[Problem, list[Completion]]], bool]:
    """Timed runs, the completions of the largest, and whether it was cut short."""
    asked = wanted.problems[: max(1, min(most, FIRST // wanted.samples or 1))]
    start = sampling.model_copy(update={"max_new_tokens": 1})
    _timed(sampler, asked[:1], 1, start, prompts, over)  # what is built on first use is no part of the pace
    reading, _, _ = _timed(sampler, asked, wanted.samples, start, prompts, over)
    first, groups, cut = _timed(sampler, asked, wanted.samples, sampling, prompts, over)
    runs = [reading, first]
    whole = wanted.problems[: max(1, wanted.together // wanted.samples)]
    left = over - time.monotonic()
    if not cut and len(whole) > len(asked) and 0.6 * first.seconds * len(whole) / len(asked) < left:
        again, more, stopped = _timed(sampler, whole, wanted.samples, sampling, prompts, over)
        runs.append(again)
        groups, cut = (groups, False) if stopped else (more, False)
    return runs, groups, cut


def _timed(
    sampler: Sampler, problems: Sequence[Problem], samples: int, sampling: Sampling, prompts: Sequence[int], over: float
) -> tuple[Timed, list[tuple[Problem, list[Completion]]], bool]:
    """One call that ends when the time is over, whatever it has done by then."""
    seen = [0]

    def watch(finished: int, tokens: int) -> None:
        seen[0] = tokens
        if time.monotonic() > over:
            raise _Enough

    read = sum(prompts[: len(problems)])
    began = time.perf_counter()
    try:
        drawn = sampler.generate([problem.messages for problem in problems], samples, sampling, watch)
    except _Enough:
        rows = len(problems) * samples
        return Timed(read, -(-seen[0] // rows), seen[0], time.perf_counter() - began), [], True
    lengths = [each.usage.completion_tokens for group in drawn for each in group]
    timed = Timed(read, max(lengths), sum(lengths), time.perf_counter() - began)
    return timed, list(zip(problems, drawn, strict=True)), False


def _judged(wanted: Wanted, groups: Sequence[tuple[Problem, list[Completion]]]) -> tuple[tuple[Trace, ...], float]:
    began = time.perf_counter()
    traces = tuple(
        judge(problem, completion, wanted.verifiers[problem.task], wanted.rewards or {})
        for problem, group in groups
        for completion in group
    )
    return traces, (time.perf_counter() - began) / max(1, len(traces))


def _lengths(wanted: Wanted, traces: Sequence[Trace], cut: bool, run: Timed, chat: Chat) -> tuple[int, ...]:
    """Lengths as they were drawn; as long as the worked solutions, or half of what is allowed, when time was short."""
    if not cut:
        return tuple(trace.completion.usage.completion_tokens for trace in traces)
    most = wanted.sampling.max_new_tokens
    known = solution_lengths(wanted.problems, chat, most) or (max(1, most // 2),)
    return tuple(max(run.steps, length) for length in known)
