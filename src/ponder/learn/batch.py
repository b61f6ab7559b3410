"""Examples become micro-batches: longest first, no padding, no token that teaches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ponder.core.errors import ConfigurationError
from ponder.core.types import Example
from ponder.learn.divergence import Expected
from ponder.models.packed import MATERIALISE_UP_TO, PackedLayout


@dataclass(frozen=True, slots=True)
class Denominators:
    """What the loss terms of a whole step are divided by, however it is cut into micro-batches."""

    cross_entropy: float
    """Sum of `ce_weight`."""
    policy: float
    """Sum of `pg_share`."""
    divergence: float = 0.0
    """Sum of `kd_weight`."""

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Denominators:
        """Token 0 has nothing before it and is never a target, whatever its weight.

        Raises:
            ConfigurationError: If there are members of the policy loss but no share of its denominator.
        """
        policy = float(sum(e.pg_share for e in examples))
        if not policy > 0 and any(e.pg_weight.any() for e in examples):
            raise ConfigurationError(
                "examples have members of the policy loss (pg_weight) but their pg_share sums to nothing",
                fix="let the objective give each example its part of the denominator",
            )
        cross_entropy = float(sum(e.ce_weight[1:].sum(dtype=np.float64) for e in examples))
        divergence = sum(e.kd_weight[1:].sum(dtype=np.float64) for e in examples if e.kd_weight is not None)
        return cls(cross_entropy, policy, float(divergence))


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
    kd_weight: Tensor  # (N,)
    expected: Expected | None
    """Of the teacher, for all N; None when no target has a `kd_weight`."""


@dataclass(slots=True)
class Family:
    """Examples of one micro-batch that begin with the same prompt, which is then computed once."""

    members: list[Example]

    @property
    def trunk(self) -> int:
        """Packed tokens that all members read: the prompt, or everything when there is one member."""
        shared = self.members[0].prompt_length if len(self.members) > 1 else inputs_of(self.members[0])
        return min(shared, *map(inputs_of, self.members))


def inputs_of(example: Example) -> int:
    """Leading tokens the model must read: all before the last target; 0 when nothing is weighted."""
    targets = targets_of(example)
    return int(targets[-1]) if len(targets) else 0


def micro_batches(
    examples: Sequence[Example], max_tokens: int, share_up_to: int = MATERIALISE_UP_TO
) -> list[list[Family]]:
    """Cut a step into micro-batches of at most `max_tokens` packed tokens (or one example), longest first.

    Examples of at most `share_up_to` tokens that share their prompt stay together as far as they fit. Those without a
    weighted token are left out.
    """
    lengths = [inputs_of(example) for example in examples]
    families = _families(examples, lengths, share_up_to)
    longest: dict[int, int] = {}
    for family, length in zip(families, lengths, strict=True):
        longest[family] = max(length, longest.get(family, 0))
    taught = [i for i, length in enumerate(lengths) if length]
    batches: list[dict[int, Family]] = []
    room = 0
    for i in sorted(taught, key=lambda i: (-longest[families[i]], families[i], -lengths[i], i)):
        known = bool(batches) and families[i] in batches[-1]
        cost = lengths[i] - (examples[i].prompt_length if known else 0)
        if cost > room:
            batches.append({})
            known, cost, room = False, lengths[i], max_tokens
        if known:
            batches[-1][families[i]].members.append(examples[i])
        else:
            batches[-1][families[i]] = Family([examples[i]])
        room -= cost
    return [sorted(batch.values(), key=lambda f: (-len(f.members), -f.trunk)) for batch in batches]


def pack(families: Sequence[Family], device: torch.device | str) -> MicroBatch:
    """Lay out a micro-batch: every trunk, then the rest of every member."""
    trunks = [family.trunk for family in families]
    branches = [[n for e in f.members if (n := inputs_of(e) - f.trunk)] for f in families]
    starts = np.cumsum([0, *trunks])
    tokens = [f.members[0].tokens[: f.trunk] for f in families]
    positions = [np.arange(n) for n in trunks]
    sources: list[np.ndarray] = []
    row = int(starts[-1])
    for family, start in zip(families, starts, strict=False):
        for example in family.members:
            end, trunk = inputs_of(example), family.trunk
            rows = np.concatenate((start + np.arange(trunk), row + np.arange(end - trunk)))
            sources.append(rows[targets_of(example) - 1])
            tokens.append(example.tokens[trunk:end])
            positions.append(np.arange(trunk, end))
            row += end - trunk
    members = [example for family in families for example in family.members]
    return MicroBatch(
        tokens=_joined(tokens, device, torch.long),
        positions=_joined(positions, device, torch.long),
        layout=PackedLayout(trunks, device, branches),
        source=_joined(sources, device, torch.long),
        target=_joined([e.tokens[targets_of(e)] for e in members], device, torch.long),
        ce_weight=_joined([e.ce_weight[targets_of(e)] for e in members], device),
        pg_weight=_joined([e.pg_weight[targets_of(e)] for e in members], device),
        advantage=_joined([e.advantage[targets_of(e)] for e in members], device),
        logprob=_joined([e.logprob[targets_of(e)] for e in members], device),
        ref_logprob=_joined([_reference(e)[targets_of(e)] for e in members], device),
        kd_weight=_joined([_kd_weight(e)[targets_of(e)] for e in members], device),
        expected=_expected(members, device),
    )


def targets_of(example: Example) -> np.ndarray:
    """Positions of the tokens that carry a weight and can be predicted."""
    chosen = (example.ce_weight != 0) | (example.pg_weight != 0) | (_kd_weight(example) != 0)
    chosen[:1] = False
    return chosen.nonzero()[0]


def _reference(example: Example) -> np.ndarray:
    return np.full(len(example.tokens), np.nan) if example.ref_logprob is None else example.ref_logprob


def _kd_weight(example: Example) -> np.ndarray:
    return np.zeros(len(example.tokens), np.float32) if example.kd_weight is None else example.kd_weight


def _expected(members: Sequence[Example], device: torch.device | str) -> Expected | None:
    """What teachers expected at every target, as wide as the widest; rows without a teacher have no ids."""
    width = max((e.topk.ids.shape[1] for e in members if e.topk is not None), default=0)
    if not width:
        return None
    ids, logprobs, tails = [], [], []
    for example in members:
        targets, found = targets_of(example), example.topk
        rows = np.full((len(targets), width), -1, np.int32)
        values = np.full((len(targets), width), -np.inf, np.float32)
        tail = np.zeros(len(targets), np.float32)
        if found is not None:
            known = found.ids.shape[1]
            rows[:, :known], values[:, :known] = found.ids[targets], found.logprobs[targets]
            tail = found.tail[targets]
        ids.append(rows)
        logprobs.append(values)
        tails.append(tail)
    return Expected(_joined(ids, device, torch.long), _joined(logprobs, device), _joined(tails, device))


def _families(examples: Sequence[Example], lengths: Sequence[int], share_up_to: int) -> list[int]:
    """Per example, the first one that begins with the same prompt."""
    first: dict[bytes, int] = {}
    numbers: list[int] = []
    for i, (example, length) in enumerate(zip(examples, lengths, strict=True)):
        shareable = 0 < example.prompt_length <= length <= share_up_to
        prompt = example.tokens[: example.prompt_length].tobytes()
        numbers.append(first.setdefault(prompt, i) if shareable else i)
    return numbers


def _joined(rows: list[np.ndarray], device: torch.device | str, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.from_numpy(np.concatenate(rows)).to(device, dtype)
