"""The loss of one micro-batch (cross-entropy, clipped surrogate, k3 KL, divergence) and its backward pass.

Every term is a sum over tokens divided by a denominator of the whole step. So the tokens can be cut into
chunks at the vocabulary product as well: a chunk's logits are made, differentiated and forgotten before the
next chunk's.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ponder.core.errors import ConfigurationError
from ponder.core.types import Metrics, Surrogate
from ponder.learn.batch import Denominators, MicroBatch
from ponder.learn.divergence import divergence
from ponder.models.head import forward_of
from ponder.models.scoring import Scorer, TokenLogprobs, scorer_of

CHUNK_ENTRIES = 1 << 21
"""Logits held at a time (targets x vocabulary), but never fewer than `MIN_CHUNK` targets."""
MIN_CHUNK = 256
MAX_LOG_RATIO = 20.0
"""Log-probability gaps are clamped here (nats), so that one wild token cannot make the loss infinite."""


@dataclass(frozen=True, slots=True)
class LossSettings:
    """What stays the same for all micro-batches of a step."""

    denominators: Denominators
    surrogate: Surrogate
    temperature: float
    """Divides the trainer's logits, as it divided the sampler's."""
    autocast: bool = False
    """Matrix products in bfloat16."""


@dataclass(slots=True)
class Totals:
    """Sums over the targets of a step, from which its metrics are made."""

    sums: dict[str, Tensor] = field(default_factory=lambda: defaultdict(lambda: torch.zeros((), dtype=torch.float64)))
    gap_max: Tensor = field(default_factory=lambda: torch.zeros(()))

    def add(self, **sums: Tensor) -> None:
        """Add one chunk's sums."""
        for name, value in sums.items():
            self.sums[name] = self.sums[name] + value.detach().double().cpu()

    @property
    def loss(self) -> float:
        """The loss of the step."""
        return float(sum(self.sums[name] for name in ("loss_ce", "loss_policy", "loss_kl", "loss_kd")))

    def metrics(self) -> Metrics:
        """Means by name; policy metrics only when the step had a policy loss."""
        total = {name: float(value) for name, value in self.sums.items()}
        result = {
            "loss": self.loss,
            "loss_ce": total["loss_ce"],
            "entropy": total["entropy"] / total["targets"],
            "targets": total["targets"],
        }
        if taught := total.get("taught", 0.0):
            result |= {"loss_kd": total["loss_kd"], "divergence": total["divergence"] / taught}
        members = total.get("members", 0.0)
        if not members:
            return result
        means = ("ratio", "clip_low", "clip_high", "logprob_gap", "kl_sampler", "kl_reference")
        return (
            result
            | {name: total[name] for name in ("loss_policy", "loss_kl", "members")}
            | {name: total[name] / members for name in means}
            | {"logprob_gap_max": float(self.gap_max)}
        )


def backward(model: PreTrainedModel, batch: MicroBatch, settings: LossSettings, totals: Totals) -> None:
    """Add the gradient of a micro-batch's share of the step's loss to the model's parameters.

    Args:
        model: Loaded with Ponder's attention.
        batch: Packed sequences with at least one target.
        settings: Of the step.
        totals: Receives the sums that metrics are made from.
    """
    hidden = forward_of(model, settings.autocast)(batch.tokens, batch.positions, batch.layout)
    scorer = scorer_of(model, settings.autocast)
    rows, grad = hidden.detach(), torch.zeros_like(hidden)
    chunk = max(MIN_CHUNK, CHUNK_ENTRIES // model.config.get_text_config().vocab_size)
    for start in range(0, len(batch.source), chunk):
        part = slice(start, start + chunk)
        leaf = rows[batch.source[part]].requires_grad_()
        logprob, entropy, taught = _scored(scorer, leaf, batch, part, settings, totals)
        totals.add(entropy=entropy.sum(), targets=torch.tensor(float(len(entropy))))
        (_loss(logprob, batch, part, settings, totals) + taught).backward()
        assert leaf.grad is not None
        grad.index_add_(0, batch.source[part], leaf.grad.to(grad.dtype))
    if hidden.requires_grad:  # not when the head alone is trained
        hidden.backward(grad)


def _scored(
    scorer: Scorer, rows: Tensor, batch: MicroBatch, part: slice, settings: LossSettings, totals: Totals
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probability and entropy of the chunk's targets, and its share of the divergence from the teacher."""
    nothing, target = torch.zeros((), device=rows.device), batch.target[part]
    taught = batch.kd_weight[part].nonzero()[:, 0]
    if batch.expected is None or not len(taught):
        return *scorer.logprobs(rows, target, settings.temperature), nothing
    scores = scorer.scores(rows)
    heated = scores if settings.temperature == 1.0 else scores / settings.temperature
    logprob, entropy = TokenLogprobs.apply(heated, target)  # type: ignore[misc]
    shape, weight = settings.surrogate.divergence, batch.kd_weight[part][taught]
    gaps = divergence(scores[taught].log_softmax(-1), batch.expected.part(part).part(taught), shape)
    loss = shape.weight * (weight * gaps).sum() / settings.denominators.divergence
    totals.add(loss_kd=loss, divergence=gaps.sum(), taught=torch.tensor(float(len(taught))))
    return logprob, entropy, loss


def _loss(logprob: Tensor, batch: MicroBatch, part: slice, settings: LossSettings, totals: Totals) -> Tensor:
    """The chunk's share of the loss."""
    denominators = settings.denominators
    loss = torch.zeros((), device=logprob.device)
    ce_weight = batch.ce_weight[part]
    if denominators.cross_entropy:
        loss = -(ce_weight * logprob).sum() / denominators.cross_entropy
    totals.add(loss_ce=loss)
    if denominators.policy and bool((batch.pg_weight[part] != 0).any()):
        loss = loss + _policy_loss(logprob, batch, part, settings, totals)
    return loss


def _policy_loss(logprob: Tensor, batch: MicroBatch, part: slice, settings: LossSettings, totals: Totals) -> Tensor:
    """Clipped surrogate (PPO, arXiv:1707.06347, eq. 7) and k3 KL (arXiv:2402.03300, eq. 4) of the members."""
    surrogate = settings.surrogate
    member = batch.pg_weight[part].nonzero()[:, 0]
    weight = batch.pg_weight[part][member] / settings.denominators.policy
    advantage = batch.advantage[part][member]
    gap = logprob[member] - batch.logprob[part][member]
    ratio = gap.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    clipped = ratio.clamp(1 - surrogate.clip_low, 1 + surrogate.clip_high)
    policy = -(weight * torch.minimum(ratio * advantage, clipped * advantage)).sum()
    k3, kl = torch.zeros_like(gap), torch.zeros_like(policy)
    if surrogate.kl_coef:
        k3 = k3_divergence(logprob[member], batch.ref_logprob[part][member])
        kl = surrogate.kl_coef * (weight * k3).sum()
    with torch.no_grad():
        totals.gap_max = torch.maximum(totals.gap_max, gap.detach().abs().max().cpu())
        totals.add(
            loss_policy=policy,
            loss_kl=kl,
            members=torch.tensor(float(len(member))),
            ratio=ratio.sum(),
            clip_low=((ratio < 1 - surrogate.clip_low) & (advantage < 0)).sum(),
            clip_high=((ratio > 1 + surrogate.clip_high) & (advantage > 0)).sum(),
            logprob_gap=gap.abs().sum(),
            kl_sampler=(ratio - 1 - gap.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)).sum(),
            kl_reference=k3.sum(),
        )
    return policy + kl


def k3_divergence(logprob: Tensor, ref_logprob: Tensor) -> Tensor:
    """Per-token estimate exp(d) - d - 1 of KL(policy || reference), d = log reference - log policy, nats.

    Raises:
        ConfigurationError: If a token has no reference log-probability.
    """
    if bool(ref_logprob.isnan().any()):
        raise ConfigurationError(
            "kl_coef is above zero but some examples carry no reference log-probabilities",
            fix="give the objective a reference model, or set kl_coef to 0",
        )
    distance = (ref_logprob - logprob).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return distance.exp() - distance - 1
