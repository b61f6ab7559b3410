"""Logits of prompts and of new tokens: by the native step where there is one, else by torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ponder.engines._cohort import Cohort
from ponder.engines._layouts import DecodeLayout, PrefillLayout
from ponder.engines._native_step import native_step
from ponder.models.head import forward_of
from ponder.models.native.build import Kernels
from ponder.models.precision import rounds
from ponder.models.scoring import scorer_of


class Forward:
    """A model with the weights that it has now.

    Args:
        model: In evaluation mode, loaded with Ponder's attention.
        rounded: Matrix products in bfloat16.
    """

    def __init__(self, model: PreTrainedModel, rounded: bool) -> None:
        """Read the weights."""
        self._model = model
        self._hidden, self._scorer = forward_of(model, rounded), scorer_of(model, rounded)
        low = rounded or model.dtype == torch.bfloat16
        self._native = native_step(model, self._hidden, low and rounds("auto", model.device))

    @property
    def kernels(self) -> Kernels | None:
        """What cohorts keep their caches for; None is torch."""
        return None if self._native is None else self._native.kernels

    def prompts(self, prompts: Sequence[tuple[int, ...]], cohort: Cohort, first: int) -> Tensor:
        """Logits (prompts, V), float32, behind some prompts of a cohort, whose keys and values are stored.

        Args:
            prompts: Tokens of each.
            cohort: Where they belong.
            first: Place of the first of them in it.
        """
        device = self._model.device
        lengths = [len(ids) for ids in prompts]
        layout = PrefillLayout(lengths, cohort, first, int(cohort.prompts.max()), device)
        ids = torch.tensor([token for prompt in prompts for token in prompt], device=device)
        positions = torch.cat([torch.arange(length) for length in lengths]).to(device)
        ends = torch.tensor(lengths, device=device).cumsum(0) - 1
        return self._scorer.logits(self._hidden(ids, positions, layout, ends))

    def step(self, cohorts: Sequence[Cohort]) -> Tensor:
        """Logits (rows, V), float32, behind the newest tokens of all rows, cohort after cohort."""
        ids, positions = (torch.cat(parts) for parts in zip(*(cohort.inputs for cohort in cohorts), strict=True))
        if self._native is not None:
            return self._scorer.logits(self._native(ids, positions, cohorts))
        return self._scorer.logits(self._hidden(ids, positions, DecodeLayout(cohorts)))
