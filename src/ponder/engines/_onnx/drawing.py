"""Draws completions in a batch: ONNX Runtime GenAI computes the logits, and Ponder chooses the tokens."""

# A compiled package without types.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import onnxruntime_genai as genai
import torch

from ponder.core.errors import PonderError
from ponder.core.types import FloatArray, Sampling
from ponder.engines._drawing import sequence_key, uniforms
from ponder.engines._rows import Row, drawn_tokens, finish_of
from ponder.engines._stops import Texts

PAD = -1
"""Stands for no token: the library drops the last tokens of a prompt where they are its padding token."""
NEVER = -1e9
"""Logit of a token that was not chosen."""


def grow(model: genai.Model, texts: Texts, rows: Sequence[Row], sampling: Sampling, ending: int) -> Iterator[int]:
    """Draw all rows to their ends; yields the number of unfinished ones after every token.

    Prompts of different lengths are filled up on the right: filled up on the left the library computes other logits
    (0.18.0, seen on the CPU).

    Args:
        model: As it is loaded.
        texts: Of the model and the stop strings.
        rows: Not begun.
        sampling: Of all.
        ending: Token that rows are given that have ended before others.
    """
    keys = torch.tensor([sequence_key(sampling.seed, row.ids, row.sample) for row in rows])
    with native("ONNX Runtime cannot run this model"):
        generator = _begun(model, rows, sampling.max_new_tokens)
        for place in range(sampling.max_new_tokens):
            logits = torch.from_numpy(generator.get_logits().reshape(len(rows), -1))
            drawn = drawn_tokens(logits, sampling, uniforms(keys, torch.tensor(place)))
            for row, token, logprob in zip(rows, drawn.tokens.tolist(), drawn.logprobs.tolist(), strict=True):
                if row.finish is None:
                    row.take(token, logprob)
                    row.finish = finish_of(row, texts, sampling)
            unfinished = sum(row.finish is None for row in rows)
            yield unfinished
            if not unfinished:
                break
            chosen = [row.tokens[-1] if row.finish is None else ending for row in rows]
            generator.set_logits(_only(chosen, logits.shape[-1]))
            generator.generate_next_token()


def expectations(model: genai.Model, tokens: Sequence[int]) -> FloatArray:
    """(T, V) logits behind every token of a sequence."""
    with native("ONNX Runtime cannot run this model"):
        generator = _begun(model, [Row(tuple(tokens), 0)], 1)
        return generator.get_output("logits")[0]


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


def _only(tokens: Sequence[int], vocabulary: int) -> FloatArray:
    """(B, 1, V) logits that leave the library one choice."""
    logits = np.full((len(tokens), 1, vocabulary), NEVER, np.float32)
    logits[np.arange(len(tokens)), 0, list(tokens)] = 0.0
    return logits
