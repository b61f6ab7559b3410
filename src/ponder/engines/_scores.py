"""Log-probabilities of given token ids, with the likeliest tokens beside each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ponder.core.errors import PonderError
from ponder.core.types import FloatArray, IntArray
from ponder.engines._expectations import Expectations


@dataclass(frozen=True, slots=True)
class Scores:
    """What a model expected along one sequence: row t is about token t + 1, given those up to t. All in nats."""

    logprobs: FloatArray  # (T - 1,) of the tokens that stand there
    top_ids: IntArray  # (T - 1, k) likeliest first
    top_logprobs: FloatArray  # (T - 1, k)


@torch.inference_mode()
def score(expectations: Expectations, sequences: Sequence[Sequence[int]], k: int) -> list[Scores]:
    """Scores of sequences (T >= 1) at temperature 1 over the whole vocabulary.

    What a sequence gets does not depend on its company beyond rounding.

    Raises:
        PonderError: If logits are not finite.
    """
    k = min(k, expectations.vocabulary)
    found = [_empty(len(tokens) - 1, k) for tokens in sequences]
    pairs = [((int(tokens[0]),), tuple(map(int, tokens[1:]))) for tokens in sequences]
    for place, start, everywhere in expectations.of(pairs):
        following = torch.tensor(pairs[place][1][start : start + len(everywhere)], device=everywhere.device)
        own, top = everywhere.gather(1, following[:, None])[:, 0], everywhere.topk(k)
        if bool(own.isnan().any()):
            raise PonderError("the model's logits are not finite", fix="the weights have diverged: use others")
        rows = slice(start, start + len(everywhere))
        found[place].logprobs[rows] = own.cpu().numpy()
        found[place].top_ids[rows] = top.indices.cpu().numpy()
        found[place].top_logprobs[rows] = top.values.cpu().numpy()
    return found


def _empty(rows: int, k: int) -> Scores:
    return Scores(np.zeros(rows, np.float32), np.zeros((rows, k), np.int32), np.zeros((rows, k), np.float32))
