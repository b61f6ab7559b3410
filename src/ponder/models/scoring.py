"""From last hidden states to logits, and to the log-probabilities of tokens: natively where possible, else by torch."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ponder.models.dense import is_dense, is_plain
from ponder.models.head import logits
from ponder.models.native.scoring import native_scorer
from ponder.models.precision import rounds


class Scorer(Protocol):
    """A model's last product, with the weights that it has now."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (N, V), float32, of hidden states (N, width)."""
        ...

    def scores(self, hidden: Tensor) -> Tensor:
        """The same logits (N, V), whose gradient flows to hidden states and weights."""
        ...

    def logprobs(self, hidden: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Log-probability of each target (N,), whose gradient flows to hidden states and weights, and entropy (N,).

        Both in nats, of the logits over the temperature.
        """
        ...


def scorer_of(model: PreTrainedModel, rounded: bool) -> Scorer:
    """The scorer of a model.

    Args:
        model: Loaded with Ponder's attention.
        rounded: Factors of the native product in bfloat16; its sums, and torch's product, are float32.
    """
    head: Any = model.get_output_embeddings()
    if is_dense(model) and is_plain(head) and head.bias is None:
        low = rounded or model.dtype == torch.bfloat16
        found = native_scorer(head.weight, low and rounds("auto", model.device))
        if found is not None:
            return found
    return TorchScorer(model)


class TorchScorer:
    """`Scorer` for any model and device."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Remember the model."""
        self._model = model

    def logits(self, hidden: Tensor) -> Tensor:
        """See `Scorer.logits`."""
        return logits(self._model, hidden)

    def scores(self, hidden: Tensor) -> Tensor:
        """See `Scorer.scores`."""
        return logits(self._model, hidden)

    def logprobs(self, hidden: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """See `Scorer.logprobs`."""
        scores = logits(self._model, hidden)
        if temperature != 1.0:
            scores = scores / temperature
        return TokenLogprobs.apply(scores, targets)  # type: ignore[no-any-return]


class TokenLogprobs(torch.autograd.Function):
    """Log-probability of each target and entropy of each row, with the softmax kept once for both.

    The entropy (nats) is a metric and carries no gradient.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """(N, V) logits and (N,) ids to (N,) and (N,)."""
        everywhere = scores.log_softmax(-1)
        probability = everywhere.exp()
        entropy = -torch.linalg.vecdot(probability, everywhere)
        ctx.save_for_backward(probability, target)
        ctx.mark_non_differentiable(entropy)
        return everywhere.gather(1, target[:, None])[:, 0], entropy

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        """The gradient of log p(target) with respect to the scores is onehot(target) - p."""
        probability, target = ctx.saved_tensors
        result = probability * -grad[:, None]
        return result.scatter_add_(1, target[:, None], grad[:, None]), None
