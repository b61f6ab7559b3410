"""Completions while they grow, for engines that compute logits and leave the choice of tokens to Ponder."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from ponder.core.errors import PonderError
from ponder.core.types import Completion, Finish, Sampling, TopK, Usage
from ponder.engines._drawing import Drawn, draw
from ponder.engines._reader import Reader
from ponder.engines._steering import Manners, Steering, is_steered
from ponder.engines._stops import Texts, pieces_of


@dataclass(slots=True)
class Row:
    """One completion while it grows."""

    ids: tuple[int, ...]
    """The prompt."""
    sample: int
    steering: Steering | None = None
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    forced: list[int] = field(default_factory=list)
    finish: Finish | None = None

    def take(self, drawn: int, logprob: float) -> None:
        """Append what was drawn, or what has to stand in its place."""
        token, forced = (drawn, False) if self.steering is None else self.steering.take(drawn)
        if forced:
            self.forced.append(len(self.tokens))
        self.tokens.append(token)
        self.logprobs.append(0.0 if forced else logprob)


def rows_of(prompts: Sequence[tuple[int, ...]], samples: int, sampling: Sampling, reader: Reader) -> list[Row]:
    """Completions that are not begun, each prompt's together.

    Raises:
        ConfigurationError: If a thought is to be steered and the model has no thinking tags.
    """
    manners = Manners.of(reader, sampling) if is_steered(sampling) else None
    return [
        Row(ids, sample, Steering(sampling, manners) if manners is not None else None)
        for ids in prompts
        for sample in range(samples)
    ]


def streamed(row: Row, steps: Iterable[object], texts: Texts) -> Iterator[str]:
    """The text of a row in pieces while steps draw it, which add up to its text."""
    return pieces_of(texts.settled(row.tokens) if row.finish is None else texts.text(row.tokens) for _ in steps)


def completion_of(row: Row, texts: Texts, began: float) -> Completion:
    """A row as a record.

    Args:
        row: Finished.
        texts: Of the model and the stop strings.
        began: `time.monotonic()` when its batch was begun.
    """
    return Completion(
        text=texts.text(row.tokens),
        finish=row.finish or Finish.LENGTH,
        prompt_tokens=row.ids,
        tokens=tuple(row.tokens),
        logprobs=tuple(row.logprobs),
        forced=tuple(row.forced),
        usage=Usage(
            prompt_tokens=len(row.ids),
            completion_tokens=len(row.tokens),
            thinking_tokens=texts.thinking_tokens(row.tokens),
        ),
        seconds=time.monotonic() - began,
    )


def drawn_tokens(logits: torch.Tensor, sampling: Sampling, uniform: torch.Tensor) -> Drawn:
    """Tokens by the same numbers as the local engine draws.

    Raises:
        PonderError: If the model computes something that is no number.
    """
    drawn = draw(logits.clone(), sampling, uniform)
    if not bool(drawn.logprobs.isfinite().all()):
        raise PonderError("the artefact computes logits that are not finite", fix="export it again, with more bits")
    return drawn


def finish_of(row: Row, texts: Texts, sampling: Sampling) -> Finish | None:
    """Why a row ends here, if it does."""
    if texts.ended(row.tokens):
        return Finish.STOP
    return Finish.LENGTH if len(row.tokens) >= sampling.max_new_tokens else None


def top_of(logits: torch.Tensor, k: int) -> TopK:
    """The likeliest tokens of every row of logits (T, V), at temperature 1."""
    found = logits.double().log_softmax(-1).topk(k)
    tail = torch.log((1 - found.values.exp().sum(-1)).clamp(min=0.0))
    if k == logits.shape[-1]:
        tail = torch.full_like(tail, -torch.inf)
    return TopK(found.indices.numpy().astype(np.int32), found.values.float().numpy(), tail.float().numpy())
