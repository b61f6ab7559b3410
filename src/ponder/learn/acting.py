"""The policy as it acts: where training rounds to bfloat16, samples come from a rounded copy of the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from transformers import PreTrainedModel

from ponder.core.protocols import Sampler, Watch
from ponder.core.types import Completion, Messages, Sampling


class RoundedSampler:
    """Samples from a bfloat16 copy of weights that are trained in float32; the copy is renewed before every call.

    Sampled log-probabilities then differ from the trainer's by rounding. The objective takes them as the old
    policy's, so the ratio corrects for it; the gap is a metric of every step.

    Args:
        source: The model that is trained.
        make: An engine over a model.
    """

    def __init__(self, source: PreTrainedModel, make: Callable[[PreTrainedModel], Sampler]) -> None:
        """Copy the weights once, for their places in memory."""
        self._source = source
        self._copy: PreTrainedModel = deepcopy(source).to(torch.bfloat16)  # type: ignore[arg-type]
        self._sampler = make(self._copy)
        self.name = self._sampler.name

    def generate(
        self, prompts: Sequence[Messages], samples: int, sampling: Sampling, watch: Watch | None = None
    ) -> list[list[Completion]]:
        """See `ponder.core.protocols.Sampler`."""
        with torch.no_grad():
            for ours, theirs in zip(self._copy.parameters(), self._source.parameters(), strict=True):
                ours.copy_(theirs)
        return self._sampler.generate(prompts, samples, sampling, watch)
