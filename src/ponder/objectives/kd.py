"""Distillation of a teacher's distributions: every token learns what the teacher expected, not only what was said.

On stored traces this is word-level distillation (Hinton et al. 2015, arXiv:1503.02531) from a teacher or its pack; on
the policy's own completions it is GKD (arXiv:2306.13649). Differences from the paper: a teacher is known by its top k
and the mass of the rest, and the mixture with stored traces is a setting of the stage.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from ponder.core.errors import ConfigurationError
from ponder.core.protocols import Objective, Reference, Teacher
from ponder.core.types import Divergence, Example, Group, Outcome, Record, Surrogate, TopK, Trace


class KD(Record):
    """Generalised Jensen-Shannon divergence from the teacher, a mean over all of the step's completion tokens."""

    asks_teacher: ClassVar[bool] = True
    learns_stored: ClassVar[bool] = True

    beta: float = Field(default=0.0, ge=0.0, le=1.0)
    """0: KL(teacher || student), which covers all that the teacher does; 1: KL(student || teacher), which avoids what
    the teacher would not do; between them their mixture."""
    temperature: float = Field(default=1.0, gt=0.0, le=100.0)
    """Softens both distributions; the loss is multiplied by its square."""
    top_k: int = Field(default=32, ge=1)
    """Tokens of the teacher's distribution that are kept apart; the rest is one tail."""
    weight: float = Field(default=1.0, ge=0.0)
    """Of the divergence, beside 1 for the cross-entropy."""
    imitate: bool = False
    """Learn the tokens of correct traces by cross-entropy as well."""

    @property
    def surrogate(self) -> Surrogate:
        """No policy loss, and the divergence."""
        return Surrogate(divergence=Divergence(beta=self.beta, temperature=self.temperature, weight=self.weight))

    def __call__(
        self, group: Group, reference: Reference | None = None, teacher: Teacher | None = None
    ) -> list[Example]:
        """One example per completion that is not empty; where the teacher says nothing, nothing is learnt.

        Raises:
            ConfigurationError: If there is no teacher, or a completion is text alone.
        """
        if teacher is None:
            raise ConfigurationError("kd has no teacher to learn from", fix="name a `teacher`, or a pack as `traces`")
        traces = [trace for trace in group.traces if _complete(trace)]
        return [
            self._example(trace, found) for trace, found in zip(traces, teacher.top(traces, self.top_k), strict=True)
        ]

    def _example(self, trace: Trace, found: TopK) -> Example:
        prompt, completion = trace.completion.prompt_tokens or (), trace.completion.tokens or ()
        tokens = np.array([*prompt, *completion], dtype=np.int32)
        member = np.arange(len(tokens)) >= len(prompt)
        imitated = self.imitate and trace.verdict.outcome is Outcome.CORRECT
        zeros = np.zeros(len(tokens), dtype=np.float32)
        return Example(
            tokens=tokens,
            prompt_length=len(prompt),
            ce_weight=member.astype(np.float32) if imitated else zeros,
            pg_weight=zeros,
            advantage=zeros,
            logprob=zeros,
            kd_weight=(member & (found.ids >= 0).any(1)).astype(np.float32),
            topk=found,
        )


def _complete(trace: Trace) -> bool:
    """Whether a trace has tokens to learn.

    Raises:
        ConfigurationError: If it has none of this model at all.
    """
    if trace.completion.tokens is None or trace.completion.prompt_tokens is None:
        raise ConfigurationError(
            "a completion carries text but no tokens of this model",
            where=f"problem {trace.problem.id}, sampler {trace.sampler or 'unnamed'}",
            fix="encode it with the student's chat format first, as the stage distill does",
        )
    return bool(trace.completion.tokens)


plugin: type[Objective] = KD
