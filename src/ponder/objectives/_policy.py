"""What the policy-gradient objectives share: who is a member, what is excluded, and how streams are built.

An objective adds two things: how rewards become advantages, and how a completion's tokens are averaged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from ponder.core.errors import ConfigurationError
from ponder.core.protocols import Reference, Teacher
from ponder.core.types import Example, Finish, FloatArray, Group, Record, Surrogate, Trace

Rewards = npt.NDArray[np.float64]


class PolicyGradient(Record, ABC):
    """Base of the objectives that pay completions by comparing them within their group."""

    compares_group: ClassVar[bool] = True

    clip_low: float = Field(default=0.2, ge=0.0)
    clip_high: float = Field(default=0.2, ge=0.0)
    kl_coef: float = Field(default=0.0, ge=0.0)
    """Weight of the k3 estimate of KL(policy || reference); above 0 it needs a reference."""
    truncated: Literal["penalise", "mask"] = "penalise"
    """`penalise`: a truncated completion is a member with the reward it got, which is that of a wrong answer.
    `mask`: it is left out of baseline, loss and denominators, as if it had not been sampled."""

    @property
    def surrogate(self) -> Surrogate:
        """The shape of the loss asked of the trainer."""
        return Surrogate(clip_low=self.clip_low, clip_high=self.clip_high, kl_coef=self.kl_coef)

    @abstractmethod
    def advantages(self, rewards: Rewards) -> Rewards:
        """Advantage of each of at least two completions of one problem, whose rewards are not all equal."""

    @abstractmethod
    def averaging(self, members: int) -> tuple[float, float]:
        """Weight of each of a completion's `members` tokens, and its share of the step's denominator."""

    def __call__(
        self, group: Group, reference: Reference | None = None, teacher: Teacher | None = None
    ) -> list[Example]:
        """One example per judged completion.

        When all rewards are equal the advantages are exactly 0 and the members stay: they count in the step's
        denominator and in the KL term.

        Raises:
            ConfigurationError: If the group is a single completion, tokens or log-probabilities are
                missing, or a reference is.
        """
        if len(group.traces) < 2:
            raise ConfigurationError(
                f"a group of {len(group.traces)} has no baseline to be compared with",
                where=f"problem {group.problem.id}",
                fix="set group_size to 2 or more",
            )
        traces = [trace for trace in group.traces if self._counts(trace)]
        rewards = np.array([trace.reward for trace in traces], dtype=np.float64)
        if len(traces) < 2:  # what is left has nothing to be compared with
            return []
        equal = bool((rewards == rewards[0]).all())
        advantages = np.zeros(len(rewards)) if equal else self.advantages(rewards)
        scores = self._reference_logprobs(traces, reference)
        return [
            policy_example(trace, float(advantage), self.averaging, score)
            for trace, advantage, score in zip(traces, advantages, scores, strict=True)
        ]

    def _counts(self, trace: Trace) -> bool:
        """Whether a trace takes part at all: judged, with a finite reward, and not masked."""
        masked = self.truncated == "mask" and trace.completion.finish is Finish.LENGTH
        return trace.reward is not None and bool(np.isfinite(trace.reward)) and not masked

    def _reference_logprobs(
        self, traces: list[Trace], reference: Reference | None
    ) -> list[npt.NDArray[np.float32]] | list[None]:
        if not self.kl_coef:
            return [None] * len(traces)
        if reference is None:
            raise ConfigurationError(
                "kl_coef is above zero but there is no reference model",
                fix="name a reference, or set kl_coef to 0",
            )
        return reference.logprobs([_sequence(trace) for trace in traces])


def policy_example(
    trace: Trace,
    advantage: float | FloatArray,
    averaging: Callable[[int], tuple[float, float]] | None = None,
    score: FloatArray | None = None,
    known: npt.NDArray[np.bool_] | None = None,
) -> Example:
    """The streams of a completion that the policy itself sampled.

    Args:
        trace: With the tokens and log-probabilities it was sampled with.
        advantage: Of all its tokens, or (T,) of each.
        averaging: Weight of each of its n members, and its share of the step's denominator; a mean over all tokens of
            the step by default.
        score: (T,) log-probabilities under the reference policy, nats.
        known: (T,) which tokens may be members; all by default. Forced tokens never are.

    Raises:
        ConfigurationError: If tokens or log-probabilities are missing.
    """
    completion = trace.completion
    sequence = _sequence(trace)
    if completion.logprobs is None:
        raise _incomplete(trace, "the log-probabilities it was sampled with")
    start = len(sequence) - len(completion.logprobs)
    member = np.arange(len(sequence)) >= start
    member[[start + position for position in completion.forced]] = False
    if known is not None:
        member &= known
    weight, share = (1.0, float(member.sum())) if averaging is None else averaging(int(member.sum()))
    logprob = np.zeros(len(sequence), dtype=np.float32)
    logprob[start:] = completion.logprobs
    return Example(
        tokens=np.array(sequence, dtype=np.int32),
        prompt_length=start,
        ce_weight=np.zeros(len(sequence), dtype=np.float32),
        pg_weight=np.where(member, weight, 0.0).astype(np.float32),
        advantage=np.where(member, advantage, 0.0).astype(np.float32),
        logprob=logprob,
        pg_share=share,
        ref_logprob=score,
    )


def _sequence(trace: Trace) -> tuple[int, ...]:
    """Prompt and completion as they were sampled; never re-tokenised text."""
    completion = trace.completion
    if completion.prompt_tokens is None or completion.tokens is None:
        raise _incomplete(trace, "tokens")
    return completion.prompt_tokens + completion.tokens


def _incomplete(trace: Trace, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"a completion carries no {what}, so it cannot train a policy",
        where=f"problem {trace.problem.id}, sampler {trace.sampler or 'unnamed'}",
        fix="sample with the local engine, or learn from these traces with the objective sft",
    )
