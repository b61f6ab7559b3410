"""Sampling and judging: prompts become completions, completions become traces with a verdict and rewards.

`judge` is the only place that catches what a plug-in raises: a verifier or a reward that fails makes the
verdict UNKNOWN, and UNKNOWN is in no mean. It never becomes a zero that would be learnt from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ponder.core.protocols import Reward, Sampler, Verifier, Watch
from ponder.core.types import Completion, Finish, Group, Outcome, Problem, Sampling, Trace, Verdict
from ponder.runs.ledger import count_completions

Rewards = Mapping[str, tuple[Reward, float]]
"""Rewards by name, with their weights."""


def judge(problem: Problem, completion: Completion, verifier: Verifier, rewards: Rewards, sampler: str = "") -> Trace:
    """The trace of one completion: its verdict, and every reward with their weighted sum as `reward`.

    A completion that ran out of tokens is wrong with the reason `truncated`, whatever its text contains: a
    model that cannot end must not be paid. Only a verdict of UNKNOWN stands above that, because the problem
    itself is at fault.
    """
    verdict = _verdict(problem, completion, verifier)
    trace = Trace(problem=problem, completion=completion, verdict=verdict, sampler=sampler)
    if verdict.outcome is Outcome.UNKNOWN or not rewards:
        return trace
    parts: dict[str, float] = {}
    for name, (reward, _) in rewards.items():
        value = _paid(reward, trace)
        if isinstance(value, str):
            return trace.model_copy(update={"verdict": Verdict.unknown(f"reward {name}: {value}")})
        parts[name] = value
    parts["reward"] = math.fsum(weight * parts[name] for name, (_, weight) in rewards.items())
    return trace.model_copy(update={"parts": parts})


def rollout(
    sampler: Sampler,
    problems: Sequence[Problem],
    verifiers: Mapping[str, Verifier],
    rewards: Rewards,
    samples: int,
    sampling: Sampling,
    watch: Watch | None = None,
) -> list[Group]:
    """One group of `samples` judged completions per problem, in the order of the problems.

    Args:
        sampler: The policy.
        problems: To be sampled.
        verifiers: By the task that a problem names.
        rewards: By name, with weights; none leaves the verdict's own reward.
        samples: Completions per problem.
        sampling: How they are drawn.
        watch: Told how sampling proceeds.
    """
    completions = sampler.generate([problem.messages for problem in problems], samples, sampling, watch)
    count_completions(completions)
    return [
        Group(
            problem,
            tuple(judge(problem, each, verifiers[problem.task], rewards, sampler.name) for each in drawn),
        )
        for problem, drawn in zip(problems, completions, strict=True)
    ]


def _verdict(problem: Problem, completion: Completion, verifier: Verifier) -> Verdict:
    if completion.finish is Finish.ERROR:
        return Verdict.unknown("the sampler failed")
    try:
        verdict = verifier(problem, completion.text)
    except Exception as error:
        return Verdict.unknown(f"the verifier raised {type(error).__name__}")
    if not isinstance(verdict, Verdict):
        return Verdict.unknown(f"the verifier returned {type(verdict).__name__}")
    if verdict.outcome is Outcome.UNKNOWN:
        return verdict.model_copy(update={"reward": None})
    if completion.finish is Finish.LENGTH:
        return Verdict.wrong(reason="truncated")
    if completion.finish is Finish.REFUSED:
        return Verdict.wrong(reason="refused")
    if _number(verdict.reward) is None:
        return Verdict.unknown("the verifier's reward is not a finite number", verdict.answer)
    return verdict


def _paid(reward: Reward, trace: Trace) -> float | str:
    """What a reward pays, or why it could not."""
    try:
        value = reward(trace)
    except Exception as error:
        return f"raised {type(error).__name__}"
    number = _number(value)
    return "not a finite number" if number is None else number


def _number(value: object) -> float | None:
    """A finite number, or None; numpy's scalars are numbers too, booleans and text are not."""
    if isinstance(value, bool | str | bytes) or not hasattr(value, "__float__"):
        return None
    number = float(value)  # type: ignore[arg-type]
    return number if math.isfinite(number) else None
