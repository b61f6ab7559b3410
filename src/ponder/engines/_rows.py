"""Completions while they grow, for engines that compute logits and leave the choice of tokens to Ponder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from ponder.core.errors import ConfigurationError, PonderError
from ponder.core.types import Completion, Finish, Sampling, TopK, Usage
from ponder.engines._drawing import Drawn, draw
from ponder.engines._steering import Manners, Steering, is_steered, refuse_without_tags


class Reader(Protocol):
    """What is asked of an engine's tokenizer."""

    stop_ids: frozenset[int]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of drawn tokens."""
        ...

    def manners(self, commit: str) -> Manners | None:
        """For steering; None where the thinking tags are no single tokens."""
        ...

    def thinking_tokens(self, ids: Sequence[int]) -> int:
        """Drawn tokens inside the thinking tags, tags included."""
        ...


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


def rows_of(prompts: Sequence[tuple[int, ...]], samples: int, sampling: Sampling, words: Reader) -> list[Row]:
    """Completions that are not begun, each prompt's together.

    Raises:
        ConfigurationError: If a thought is to be steered and the model has no thinking tags.
    """
    manners = words.manners(sampling.commit)
    if manners is None:
        refuse_without_tags(sampling)
    followed = manners is not None and is_steered(sampling)
    return [
        Row(ids, sample, Steering(sampling, manners) if followed and manners is not None else None)
        for ids in prompts
        for sample in range(samples)
    ]


def completion_of(row: Row, words: Reader, sampling: Sampling, began: float) -> Completion:
    """A row as a record.

    Args:
        row: Finished.
        words: Of the model.
        sampling: As it was asked for.
        began: `time.monotonic()` when its batch was begun.
    """
    return Completion(
        text=cut(words.decode(row.tokens), sampling.stop),
        finish=row.finish or Finish.LENGTH,
        prompt_tokens=row.ids,
        tokens=tuple(row.tokens),
        logprobs=tuple(row.logprobs),
        forced=tuple(row.forced),
        usage=Usage(
            prompt_tokens=len(row.ids),
            completion_tokens=len(row.tokens),
            thinking_tokens=words.thinking_tokens(row.tokens),
        ),
        seconds=time.monotonic() - began,
    )


def cut(text: str, stop: Sequence[str]) -> str:
    """Before the first stop string."""
    found = [at for word in stop if word and (at := text.find(word)) >= 0]
    return text[: min(found)] if found else text


def settled(text: str, stop: Sequence[str]) -> str:
    """The part of an unfinished text that nothing drawn later can take back."""
    text = cut(text.rstrip("\ufffd"), stop)
    for length in range(max(map(len, stop), default=1) - 1, 0, -1):
        if len(text) >= length and any(word.startswith(text[-length:]) for word in stop):
            return text[:-length]
    return text


def drawn_tokens(logits: torch.Tensor, sampling: Sampling, uniform: torch.Tensor) -> Drawn:
    """Tokens by the same numbers as the local engine draws.

    Raises:
        PonderError: If the model computes something that is no number.
    """
    drawn = draw(logits.clone(), sampling, uniform)
    if not bool(drawn.logprobs.isfinite().all()):
        raise PonderError("the artefact computes logits that are not finite", fix="export it again, with more bits")
    return drawn


def finish_of(row: Row, words: Reader, sampling: Sampling) -> Finish | None:
    """Why a row ends here, if it does."""
    if row.tokens[-1] in words.stop_ids:
        return Finish.STOP
    if sampling.stop:
        opening = len(words.decode([]))  # a thought that the prompt opened was not drawn
        text = words.decode(row.tokens)[opening:]
        if any(word in text for word in sampling.stop if word):
            return Finish.STOP
    return Finish.LENGTH if len(row.tokens) >= sampling.max_new_tokens else None


def top_of(logits: torch.Tensor, k: int) -> TopK:
    """The likeliest tokens of every row of logits (T, V), at temperature 1."""
    found = logits.double().log_softmax(-1).topk(k)
    tail = torch.log((1 - found.values.exp().sum(-1)).clamp(min=0.0))
    if k == logits.shape[-1]:
        tail = torch.full_like(tail, -torch.inf)
    return TopK(found.indices.numpy().astype(np.int32), found.values.float().numpy(), tail.float().numpy())


def check_room(ids: Sequence[int], sampling: Sampling, context: int, where: str) -> None:
    """Refuse a prompt that cannot be completed as it is asked.

    Raises:
        ConfigurationError: If it is empty or too long, or the answer is to be held to a schema.
    """
    if not ids:
        raise ConfigurationError("the prompt has no tokens", where=where)
    if sampling.json_schema is not None:
        raise ConfigurationError(
            "this engine holds no answer to a JSON schema", where="json_schema", fix="export the model as GGUF"
        )
    room = context - len(ids)
    if sampling.max_new_tokens > room:
        raise ConfigurationError(
            f"{len(ids)} prompt tokens and {sampling.max_new_tokens} new ones do not fit the {context} positions",
            where=where,
            fix=f"lower max_new_tokens (to {room})" if room > 0 else "shorten the prompt",
        )
