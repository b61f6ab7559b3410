"""How far one model's expectations are from another's, token by token, from the likeliest tokens of both."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ponder.core.types import FloatArray, TopK

FLOOR = -60.0
"""Stands for the logarithm of what was said to be impossible (nats); 1e-26, so that a divergence stays finite."""


@dataclass(frozen=True, slots=True)
class Fidelity:
    """A model's expectations beside those of the model that it should equal."""

    tokens: int
    """Places that were compared."""
    mean: float
    """Kullback-Leibler divergence from the original to the copy, nats per token."""
    p99: float
    """Of single places, nats: what the worst hundredth exceeds."""
    worst: float
    """Of a single place, nats."""
    agreement: float
    """Share of places whose likeliest token is the same."""


def divergences(original: TopK, copy: TopK) -> FloatArray:
    """(T,) Kullback-Leibler divergence, nats, from the original's distribution to the copy's at each place.

    Tokens that only one of the two lists belong to the rest of the other, and all such tokens are one atom here: by
    the data processing inequality the figure is a lower bound, and exact where both list the whole vocabulary.

    Raises:
        ValueError: If the two speak about different numbers of places.
    """
    if len(original.ids) != len(copy.ids):
        raise ValueError(f"{len(original.ids)} places beside {len(copy.ids)}")
    return np.array([_divergence(original, copy, place) for place in range(len(original.ids))], np.float32)


def fidelity(pairs: Iterable[tuple[TopK, TopK]]) -> Fidelity | None:
    """Of several sequences together, original first; None without a single place."""
    values: list[FloatArray] = []
    agreed = 0
    for original, copy in pairs:
        values.append(divergences(original, copy))
        agreed += int((_likeliest(original) == _likeliest(copy)).sum())
    found = np.concatenate(values) if values else np.zeros(0, np.float32)
    if not len(found):
        return None
    worst, p99 = float(found.max()), float(np.quantile(found, 0.99))
    return Fidelity(len(found), float(found.mean()), p99, worst, agreed / len(found))


def _divergence(original: TopK, copy: TopK, place: int) -> float:
    theirs = {int(i): float(p) for i, p in zip(copy.ids[place], copy.logprobs[place], strict=True) if i >= 0}
    total, here, there = 0.0, [], [float(copy.tail[place])]
    for token, logprob in zip(original.ids[place].tolist(), original.logprobs[place].tolist(), strict=True):
        if token < 0:
            continue
        if token in theirs:
            total += np.exp(logprob) * (logprob - max(FLOOR, theirs.pop(token)))
        else:
            here.append(logprob)
    here.append(float(original.tail[place]))
    there += theirs.values()
    rest, other = _log_sum(here), _log_sum(there)
    if rest > FLOOR:
        total += np.exp(rest) * (rest - max(FLOOR, other))
    return max(0.0, float(total))


def _log_sum(logs: list[float]) -> float:
    finite = [value for value in logs if value > -np.inf]
    return float(np.logaddexp.reduce(finite)) if finite else -np.inf


def _likeliest(expected: TopK) -> np.ndarray:
    return expected.ids[np.arange(len(expected.ids)), expected.logprobs.argmax(1)]
