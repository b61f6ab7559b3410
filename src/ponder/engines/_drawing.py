"""Draws tokens: temperature, top-k, top-p and the uniform number that belongs to one token of one sample.

The kept set is found by a threshold, not by rank, and the draw walks the vocabulary in its own order. So
neither ties nor the way in which the threshold was found can change a draw, and no row feels its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ponder.core.seeds import derive_seed
from ponder.core.types import Sampling
from ponder.models.native.build import Kernels
from ponder.models.native.calling import call

GOLDEN = -7046029254386353131  # 2**64 / golden ratio, as a signed word
MIX = (-4658895280553007687, -7723592293110705685)
UNIT = 2.0**-53
BELOW_ONE = 1 - UNIT
"""Keeps a target strictly under the end of a running sum against rounding: a chance of 0 is never drawn."""
CHUNK = 256
"""Tokens of one coarse step of the inverse CDF."""
NUCLEUS_GUESS = 64
"""Tokens that usually hold a nucleus; the whole vocabulary is sorted only when they do not."""


class Drawn(NamedTuple):
    """One token for every row."""

    tokens: Tensor  # (n,) int64
    logprobs: Tensor  # (n,) nats; NaN or inf where the logits were not finite


def sequence_key(seed: int, prompt: Sequence[int], sample: int) -> int:
    """What makes the random numbers of one sample its own, as a signed 64-bit word."""
    return derive_seed(seed, "sample", sample, ",".join(map(str, prompt)))


def uniforms(keys: Tensor, positions: Tensor) -> Tensor:
    """Uniform numbers in [0, 1), float64, of sequences at positions (shapes that broadcast): splitmix64 as a hash.

    Source:
        Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", figure 15.
    """
    words = keys + (positions + 1) * GOLDEN
    words = (words ^ _shift(words, 30)) * MIX[0]
    words = (words ^ _shift(words, 27)) * MIX[1]
    words = words ^ _shift(words, 31)
    return _shift(words, 11).double() * UNIT


def draw(logits: Tensor, sampling: Sampling, uniform: Tensor, kernels: Kernels | None = None) -> Drawn:
    """A token for every row of logits (n, V), float32, at its uniform number (n,); logits may be overwritten.

    The log-probability is that of the distribution drawn from (after temperature, top-k and top-p). A greedy
    token has no such distribution, so it gets its log-probability at temperature 1. Kernels draw where nothing is
    cut away.
    """
    if kernels is not None and (sampling.temperature == 0.0 or (sampling.top_k == 0 and sampling.top_p == 1.0)):
        return _native_draw(kernels, logits.contiguous(), sampling.temperature, uniform.contiguous())
    if sampling.temperature == 0.0:
        best, tokens = logits.max(-1)
        return Drawn(tokens, best - logits.logsumexp(-1))
    if sampling.temperature != 1.0:  # the maximum goes first, so that a tiny temperature cannot overflow
        logits = logits.sub_(logits.amax(-1, keepdim=True)).div_(sampling.temperature)
    chances = logits.softmax(-1)
    vocabulary = chances.shape[-1]
    if 0 < sampling.top_k < vocabulary:
        threshold = chances.topk(sampling.top_k, sorted=False).values.amin(-1, keepdim=True)
        chances = chances.where(chances >= threshold, 0.0)
    if sampling.top_p < 1.0:
        chances = chances.where(chances >= _nucleus_threshold(chances, sampling.top_p), 0.0)
    return _inverse_cdf(chances, uniform)


def _native_draw(kernels: Kernels, logits: Tensor, temperature: float, uniform: Tensor) -> Drawn:
    """The same by the kernel, which makes the chances, their sum and the draw in one go."""
    rows, vocabulary = logits.shape
    threads = torch.get_num_threads()
    drawn = Drawn(torch.empty(rows, dtype=torch.int64), torch.empty(rows))
    room = torch.empty(threads, vocabulary)
    call(kernels, "draw", logits, rows, vocabulary, float(temperature or 1.0), int(temperature == 0.0), uniform, room,
         drawn.tokens, drawn.logprobs, threads)  # fmt: skip
    return drawn


def _inverse_cdf(chances: Tensor, uniform: Tensor) -> Drawn:
    """The token at which the running sum of (n, V) unnormalised chances passes u times their total."""
    padding = -chances.shape[-1] % CHUNK
    if padding:
        chances = torch.nn.functional.pad(chances, (0, padding))
    chunks = chances.view(len(chances), -1, CHUNK)
    coarse = chunks.sum(-1).double().cumsum(-1)
    total = coarse[:, -1:]
    target = torch.minimum(uniform[:, None] * total, total * BELOW_ONE)
    chunk = torch.searchsorted(coarse, target, right=True).clamp_(max=chunks.shape[1] - 1)
    inside = chunks.gather(1, chunk[..., None].expand(-1, -1, CHUNK))[:, 0]
    fine = inside.double().cumsum(-1)
    end = fine[:, -1:]
    before = coarse.gather(-1, chunk) - end
    place = torch.searchsorted(fine, torch.minimum(target - before, end * BELOW_ONE).clamp_(min=0.0), right=True)
    place.clamp_(max=CHUNK - 1)
    chance = inside.gather(-1, place).double() / total
    return Drawn((chunk * CHUNK + place)[:, 0], chance.log()[:, 0].float())


def _nucleus_threshold(chances: Tensor, top_p: float) -> Tensor:
    """(n, 1): the chance of the last token of the smallest set that holds `top_p` of the row's mass."""
    total = chances.sum(-1, keepdim=True, dtype=torch.float64)
    size = min(NUCLEUS_GUESS, chances.shape[-1])
    ordered = chances.topk(size).values
    if bool((ordered.sum(-1, keepdim=True, dtype=torch.float64) < top_p * total).any()):
        ordered = chances.sort(-1, descending=True).values
    before = ordered.double().cumsum(-1) - ordered
    count = (before < top_p * total).sum(-1, keepdim=True).clamp_(min=1)
    return ordered.gather(-1, count - 1)


def _shift(words: Tensor, bits: int) -> Tensor:
    """Logical right shift of signed words."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)
