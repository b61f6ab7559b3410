"""Supervised fine-tuning: imitate the completion, every token alike.

Rejection sampling, cold starts and sequence distillation are this objective on traces that were filtered
before.
"""

from __future__ import annotations

import numpy as np

from ponder.core.errors import ConfigurationError
from ponder.core.protocols import Objective, Reference, Teacher
from ponder.core.types import Example, Group, Record, Surrogate


class SFT(Record):
    """Cross-entropy on completion tokens, a mean over all of the step's."""

    @property
    def surrogate(self) -> Surrogate:
        """There is no policy loss."""
        return Surrogate()

    def __call__(
        self, group: Group, reference: Reference | None = None, teacher: Teacher | None = None
    ) -> list[Example]:
        """One example per completion that is not empty.

        Raises:
            ConfigurationError: If a completion is text alone.
        """
        examples: list[Example] = []
        for trace in group.traces:
            completion = trace.completion
            if completion.tokens is None or completion.prompt_tokens is None:
                raise ConfigurationError(
                    "a completion carries text but no tokens of this model",
                    where=f"problem {trace.problem.id}, sampler {trace.sampler or 'unnamed'}",
                    fix="encode it with the student's chat format first, as the stage distill does",
                )
            if completion.tokens:
                examples.append(imitation(completion.prompt_tokens, completion.tokens))
        return examples


def imitation(prompt: tuple[int, ...], completion: tuple[int, ...]) -> Example:
    """An example whose completion tokens all carry a cross-entropy weight of 1."""
    tokens = np.array([*prompt, *completion], dtype=np.int32)
    weight = (np.arange(len(tokens)) >= len(prompt)).astype(np.float32)
    zeros = np.zeros(len(tokens), dtype=np.float32)
    return Example(tokens, len(prompt), weight, zeros, zeros, zeros)


plugin: type[Objective] = SFT
