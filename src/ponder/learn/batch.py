"""Examples become micro-batches: longest first, no padding, no token that teaches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ponder.core.types import Example
from ponder.models.packed import PackedLayout


@dataclass(frozen=True, slots=True)
class Denominators:
    """What the loss terms of a whole step are divided by, however it is cut into micro-batches."""

    cross_entropy: float
    """Sum of `ce_weight`."""
    policy: float
    """Sum of `pg_share`."""

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Denominators:
        """Token 0 has nothing before it and is never a target, whatever its weight."""
        return cls(
            float(sum(e.ce_weight[1:].sum(dtype=np.float64) for e in examples)),
            float(sum(e.pg_share for e in examples)),
        )


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """T packed tokens, and the N targets that carry a weight."""

    tokens: Tensor  # (T,)
    positions: Tensor  # (T,) within the sequence
    layout: PackedLayout
    source: Tensor  # (N,) packed row that predicts the target
    target: Tensor  # (N,) token id
    ce_weight: Tensor  # (N,)
    pg_weight: Tensor  # (N,)
    advantage: Tensor  # (N,)
    logprob: Tensor  # (N,)
    ref_logprob: Tensor  # (N,) NaN where there is none


def inputs_of(example: Example) -> int:
    """Leading tokens the model must read: all before the last target; 0 when nothing is weighted."""
    targets = _targets(example)
    return int(targets[-1]) if len(targets) else 0


def micro_batches(examples: Sequence[Example], max_tokens: int) -> list[list[Example]]:
    """Cut a step into micro-batches of at most `max_tokens` packed tokens (or one example), longest first.

    Examples without a weighted token are left out.
    """
    batches: list[list[Example]] = []
    room = 0
    for length, _, example in sorted(
        ((inputs_of(e), -i, e) for i, e in enumerate(examples)), reverse=True, key=_order
    ):
        if length == 0:
            break
        if length > room:
            batches.append([])
            room = max_tokens
        batches[-1].append(example)
        room -= length
    return batches


def pack(examples: Sequence[Example], device: torch.device | str) -> MicroBatch:
    """Lay the sequences of a micro-batch one after another."""
    lengths = [inputs_of(e) for e in examples]
    starts = np.cumsum([0, *lengths[:-1]])
    targets = [_targets(e) for e in examples]

    def joined(rows: list[np.ndarray], dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.concatenate(rows)).to(device, dtype)

    def at_targets(name: str) -> Tensor:
        return joined([getattr(e, name)[t] for e, t in zip(examples, targets, strict=True)], torch.float32)

    absent = [np.full(len(e.tokens), np.nan) if e.ref_logprob is None else e.ref_logprob for e in examples]
    return MicroBatch(
        tokens=joined([e.tokens[:n] for e, n in zip(examples, lengths, strict=True)], torch.long),
        positions=joined([np.arange(n) for n in lengths], torch.long),
        layout=PackedLayout(lengths, device),
        source=joined([t - 1 + s for t, s in zip(targets, starts, strict=True)], torch.long),
        target=joined([e.tokens[t] for e, t in zip(examples, targets, strict=True)], torch.long),
        ce_weight=at_targets("ce_weight"),
        pg_weight=at_targets("pg_weight"),
        advantage=at_targets("advantage"),
        logprob=at_targets("logprob"),
        ref_logprob=joined([r[t] for r, t in zip(absent, targets, strict=True)], torch.float32),
    )


def _targets(example: Example) -> np.ndarray:
    """Positions of the tokens that carry a weight and can be predicted."""
    chosen = (example.ce_weight != 0) | (example.pg_weight != 0)
    chosen[:1] = False
    return chosen.nonzero()[0]


def _order(row: tuple[int, int, Example]) -> tuple[int, int]:
    return row[:2]
