"""What engines of exported files refuse before they draw, and how they tell what is likely; without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ponder.core.errors import ConfigurationError
from ponder.core.types import Sampling, TopK


def top_of_rows(rows: Sequence[Sequence[tuple[int, float]]], k: int, vocabulary: int) -> TopK:
    """The (token, log-probability) pairs that an engine tells of the likeliest tokens at every place."""
    ids, logprobs = np.full((len(rows), k), -1, np.int32), np.full((len(rows), k), -np.inf, np.float32)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = [token for token, _ in row]
        logprobs[place, : len(row)] = [value for _, value in row]
    mass = np.exp(logprobs.astype(np.float64)).sum(1)
    with np.errstate(divide="ignore"):
        tail = np.full(len(rows), -np.inf) if k >= vocabulary else np.log(np.clip(1 - mass, 0.0, 1.0))
    return TopK(ids, logprobs, tail.astype(np.float32))


def check_room(ids: Sequence[int], sampling: Sampling, context: int, where: str) -> None:
    """Refuse a prompt that cannot be completed as it is asked.

    Raises:
        ConfigurationError: If it is empty or too long.
    """
    if not ids:
        raise ConfigurationError("the prompt has no tokens", where=where)
    room = context - len(ids)
    if sampling.max_new_tokens > room:
        raise ConfigurationError(
            f"{len(ids)} prompt tokens and {sampling.max_new_tokens} new ones do not fit the {context} positions",
            where=where,
            fix=f"lower max_new_tokens (to {room})" if room > 0 else "shorten the prompt",
        )


def refuse_schema(sampling: Sampling) -> None:
    """What an engine says that holds no answer to a JSON schema.

    Raises:
        ConfigurationError: If the sampling asks for it.
    """
    if sampling.json_schema is not None:
        raise ConfigurationError(
            "this engine holds no answer to a JSON schema", where="json_schema", fix="export the model as GGUF"
        )
