"""Log-probabilities of given token ids, with the likeliest tokens beside each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ponder.core.errors import PonderError
from ponder.core.types import FloatArray, IntArray
from ponder.models.head import hidden_states
from ponder.models.packed import PackedLayout
from ponder.models.scoring import scorer_of

PACKED_TOKENS = 4096
"""Of one pass through the model, unless one sequence is longer."""
LOGIT_ROWS = 512
"""Places whose logits exist at once."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What a model expected along one sequence: row t is about token t + 1, given those up to t. All in nats."""

    logprobs: FloatArray  # (T - 1,) of the tokens that stand there
    top_ids: IntArray  # (T - 1, k) likeliest first
    top_logprobs: FloatArray  # (T - 1, k)


@torch.inference_mode()
def score(model: PreTrainedModel, sequences: Sequence[Sequence[int]], k: int) -> list[Scores]:
    """Scores of sequences (T >= 1) at temperature 1 over the whole vocabulary; the model is in evaluation mode.

    The sequences go through the model packed, longest first; what a sequence gets does not depend on its company
    beyond rounding.

    Raises:
        PonderError: If logits are not finite.
    """
    found: dict[int, Scores] = {}
    for batch in _batches(sequences):
        found |= zip(batch, _score([sequences[place] for place in batch], model, k), strict=True)
    return [found[place] for place in range(len(sequences))]


def _batches(sequences: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Places of sequences that go through the model together."""
    batch: list[int] = []
    total = 0
    for place in sorted(range(len(sequences)), key=lambda place: -len(sequences[place])):
        if batch and total + len(sequences[place]) > PACKED_TOKENS:
            yield batch
            batch, total = [], 0
        batch.append(place)
        total += len(sequences[place])
    if batch:
        yield batch


def _score(sequences: list[Sequence[int]], model: PreTrainedModel, k: int) -> list[Scores]:
    device, lengths = model.device, [len(tokens) for tokens in sequences]
    ids = torch.tensor([token for tokens in sequences for token in tokens], device=device)
    positions = torch.cat([torch.arange(length) for length in lengths]).to(device)
    hidden = hidden_states(model, ids, positions, PackedLayout(lengths, device))
    scorer = scorer_of(model, rounded=False)
    parts = [
        _top(scorer.logits(rows).float(), after, k)
        for rows, after in zip(hidden.split(LOGIT_ROWS), ids.roll(-1).split(LOGIT_ROWS), strict=True)
    ]
    whole = [torch.cat(column).cpu() for column in zip(*parts, strict=True)]
    if bool(whole[0].isnan().any()):
        raise PonderError("the model's logits are not finite", fix="the weights have diverged: serve an earlier model")
    logprobs, top_ids, top = (column.split(lengths) for column in whole)
    return [
        Scores(a[:-1].numpy(), b[:-1].int().numpy(), c[:-1].numpy())
        for a, b, c in zip(logprobs, top_ids, top, strict=True)
    ]


def _top(logits: Tensor, following: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities (n,) of the following tokens (n,), and the k likeliest (n, k) with theirs."""
    logprobs = logits.log_softmax(-1)
    top = logprobs.topk(min(k, logprobs.shape[-1]), dim=-1)
    return logprobs.gather(-1, following[:, None])[:, 0], top.indices, top.values
