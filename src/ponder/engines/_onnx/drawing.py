"""Draws completions in a batch: ONNX Runtime GenAI computes the logits, and Ponder chooses the tokens."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import onnxruntime_genai as genai
import torch

from ponder.core.errors import PonderError
from ponder.core.types import Completion, Finish, FloatArray, Sampling, Usage
from ponder.engines._drawing import Drawn, draw, sequence_key, uniforms
from ponder.engines._onnx.words import Words
from ponder.engines._steering import Steering, is_steered, refuse_without_tags

PAD = -1
"""Stands for no token: the library drops the last tokens of a prompt where they are its padding token."""
NEVER = -1e9
"""Logit of a token that was not chosen."""


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


def rows_of(prompts: Sequence[tuple[int, ...]], samples: int, sampling: Sampling, words: Words) -> list[Row]:
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


def grow(model: genai.Model, words: Words, rows: Sequence[Row], sampling: Sampling) -> Iterator[int]:
    """Draw all rows to their ends; yields the number of unfinished ones after every token.

    Prompts of different lengths are filled up on the right: filled up on the left the library computes other logits
    (0.18.0, seen on the CPU).
    """
    keys = torch.tensor([sequence_key(sampling.seed, row.ids, row.sample) for row in rows])
    ending = min(words.stop_ids)
    with native("ONNX Runtime cannot run this model"):
        generator = _begun(model, rows, sampling.max_new_tokens)
        for place in range(sampling.max_new_tokens):
            logits = torch.from_numpy(generator.get_logits().reshape(len(rows), -1))
            drawn = _drawn(logits, sampling, uniforms(keys, torch.tensor(place)))
            for row, token, logprob in zip(rows, drawn.tokens.tolist(), drawn.logprobs.tolist(), strict=True):
                if row.finish is None:
                    row.take(token, logprob)
                    row.finish = _finish(row, words, sampling)
            unfinished = sum(row.finish is None for row in rows)
            yield unfinished
            if not unfinished:
                break
            chosen = [row.tokens[-1] if row.finish is None else ending for row in rows]
            generator.set_logits(_only(chosen, logits.shape[-1]))
            generator.generate_next_token()


def completion_of(row: Row, words: Words, sampling: Sampling, began: float) -> Completion:
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


def expectations(model: genai.Model, tokens: Sequence[int]) -> FloatArray:
    """(T, V) logits behind every token of a sequence."""
    with native("ONNX Runtime cannot run this model"):
        generator = _begun(model, [Row(tuple(tokens), 0)], 1)
        return generator.get_output("logits")[0]


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


@contextmanager
def native(what: str) -> Iterator[None]:
    """The library's errors as Ponder's.

    Raises:
        PonderError: Instead of `RuntimeError`.
    """
    try:
        yield
    except RuntimeError as error:
        raise PonderError(f"{what}: {error}") from error


def _begun(model: genai.Model, rows: Sequence[Row], new: int) -> genai.Generator:
    """Prompts are computed, and the first logits are there."""
    width = max(len(row.ids) for row in rows)
    ids = np.full((len(rows), width), PAD, np.int32)
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)] = row.ids
    params = genai.GeneratorParams(model)
    params.set_search_options(batch_size=len(rows), max_length=width + new, do_sample=False)
    generator = genai.Generator(model, params)
    generator.append_tokens(ids if len(rows) > 1 else ids[0])
    return generator


def _drawn(logits: torch.Tensor, sampling: Sampling, uniform: torch.Tensor) -> Drawn:
    """Tokens by the same numbers as the local engine draws.

    Raises:
        PonderError: If the model computes something that is no number.
    """
    drawn = draw(logits.clone(), sampling, uniform)
    if not bool(drawn.logprobs.isfinite().all()):
        raise PonderError("the artefact computes logits that are not finite", fix="export it again, with more bits")
    return drawn


def _only(tokens: Sequence[int], vocabulary: int) -> FloatArray:
    """(B, 1, V) logits that leave the library one choice."""
    logits = np.full((len(tokens), 1, vocabulary), NEVER, np.float32)
    logits[np.arange(len(tokens)), 0, list(tokens)] = 0.0
    return logits


def _finish(row: Row, words: Words, sampling: Sampling) -> Finish | None:
    """Why a row ends here, if it does."""
    if row.tokens[-1] in words.stop_ids:
        return Finish.STOP
    if sampling.stop:
        opening = len(words.decode([]))  # a thought that the prompt opened was not drawn
        text = words.decode(row.tokens)[opening:]
        if any(word in text for word in sampling.stop if word):
            return Finish.STOP
    return Finish.LENGTH if len(row.tokens) >= sampling.max_new_tokens else None
