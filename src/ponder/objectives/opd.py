"""On-policy distillation: the student writes, and the teacher says of every token whether it would have written it.

The advantage of a token is the teacher's log-probability minus the student's (Thinking Machines 2025, "On-Policy
Distillation"; the sampled estimate of the reverse KL of arXiv:2306.13649). It is a number, never differentiated: the
gradient of the log-ratio itself has mean zero. Each token is paid for itself alone (discount 0), so what follows from
a token is left out.

Differences from the source: the task's reward can be added, and tokens of which the teacher cannot speak are no
members of the loss.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from ponder.core.errors import ConfigurationError
from ponder.core.protocols import Objective, Reference, Teacher
from ponder.core.types import Example, FloatArray, Group, Record, Surrogate, Trace
from ponder.objectives._policy import policy_example


class OPD(Record):
    """Advantage log p_teacher - log p_student, a mean over all of the step's members."""

    asks_teacher: ClassVar[bool] = True

    weight: float = Field(default=1.0, ge=0.0)
    """Of the teacher's part of the advantage."""
    reward_weight: float = Field(default=0.0, ge=0.0)
    """Of the task's reward, centred in its group, that is added to every token's advantage."""
    max_gap: float = Field(default=10.0, gt=0.0)
    """A token's gap to the teacher is clamped to this size (nats), so that one token cannot decide a step."""
    clip_low: float = Field(default=0.2, ge=0.0)
    clip_high: float = Field(default=0.2, ge=0.0)

    @property
    def surrogate(self) -> Surrogate:
        """The clipped surrogate; on fresh samples its ratio is 1."""
        return Surrogate(clip_low=self.clip_low, clip_high=self.clip_high)

    def __call__(
        self, group: Group, reference: Reference | None = None, teacher: Teacher | None = None
    ) -> list[Example]:
        """One example per completion.

        Raises:
            ConfigurationError: If there is no teacher, or a completion was not sampled by the policy.
        """
        if teacher is None:
            raise ConfigurationError("opd has no teacher to ask", fix="name a `teacher`")
        traces = [trace for trace in group.traces if trace.completion.tokens]
        paid = self._paid(traces)
        examples: list[Example] = []
        for trace, score, reward in zip(traces, teacher.logprobs(traces), paid, strict=True):
            example = policy_example(trace, self._advantage(trace, score) + reward, known=np.isfinite(score))
            examples.append(example)
        return examples

    def _advantage(self, trace: Trace, score: FloatArray) -> FloatArray:
        """(T,) the teacher's part; 0 where it says nothing."""
        own = np.zeros(len(score), np.float32)
        logprobs = trace.completion.logprobs or ()
        own[len(own) - len(logprobs) :] = logprobs
        gap = np.where(np.isfinite(score), score - own, 0.0)
        return (self.weight * np.clip(gap, -self.max_gap, self.max_gap)).astype(np.float32)

    def _paid(self, traces: list[Trace]) -> list[float]:
        """What the task's reward adds to each trace; an unknown verdict is in no mean and adds nothing."""
        rewards = [trace.reward for trace in traces]
        known = [reward for reward in rewards if reward is not None]
        if not self.reward_weight or len(known) < 2:
            return [0.0] * len(traces)
        mean = sum(known) / len(known)
        return [0.0 if reward is None else self.reward_weight * (reward - mean) for reward in rewards]


plugin: type[Objective] = OPD
