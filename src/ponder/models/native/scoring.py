"""Logits and log-probabilities of tokens by the native kernels; see `head.c`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ponder.models.native.build import Kernels, kernels
from ponder.models.native.calling import call
from ponder.models.native.linear import Panels, add_outer


def native_scorer(weight: Tensor, rounded: bool) -> NativeScorer | None:
    """The scorer for a head's weights (V, width), where the machine and their shape allow one."""
    found = kernels(rounded) if weight.device.type == "cpu" else None
    if found is None or any(size % found.panel for size in weight.shape):
        return None
    return NativeScorer(weight, found)


class NativeScorer:
    """`ponder.models.scoring.Scorer`.

    Args:
        weight: (V, width), of which whole panels can be made.
        kernels: Which use them.
    """

    def __init__(self, weight: Tensor, kernels: Kernels) -> None:
        """Remember the weights; they are packed when they are first used."""
        self.panels = Panels(kernels, [weight])

    def logits(self, hidden: Tensor) -> Tensor:
        """See `Scorer.logits`."""
        return self.panels.map(hidden, torch.float32)

    def scores(self, hidden: Tensor) -> Tensor:
        """See `Scorer.scores`; the gradient of the weights is added to them at once, never stored apart."""
        return _Scores.apply(self.panels, hidden)  # type: ignore[no-any-return]

    def logprobs(self, hidden: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """See `Scorer.logprobs`; the gradient of the weights is added to them at once, never stored apart."""
        return _TokenLogprobs.apply(self.panels, hidden, targets, temperature)  # type: ignore[no-any-return]


class _Scores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, panels: Panels, hidden: Tensor) -> Tensor:  # type: ignore[override]
        ctx.panels = panels
        ctx.save_for_backward(hidden)
        return panels.map(hidden, torch.float32)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        panels, (hidden,) = ctx.panels, ctx.saved_tensors
        (weight,) = panels.weights
        slopes = grad.to(panels.dtype).contiguous()
        down = panels.map(slopes, torch.float32, back=True).to(hidden.dtype)
        if weight.requires_grad:
            _add(panels.kernels, slopes, hidden.to(panels.dtype).contiguous(), weight)
        return None, down


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, panels: Panels, hidden: Tensor, targets: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < panels.outputs:
            raise IndexError(f"a target is outside of the vocabulary of {panels.outputs}")  # C would read beyond
        scores = panels.map(hidden, torch.float32)
        inverses, logprobs, entropies = (torch.empty(len(hidden)) for _ in range(3))
        call(panels.kernels, "token_logprobs", scores, targets, len(hidden), panels.outputs, float(temperature),
             inverses, logprobs, entropies, torch.get_num_threads())  # fmt: skip
        ctx.given = panels, temperature, scores
        ctx.save_for_backward(hidden, targets, inverses)
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        (panels, temperature, chances), (hidden, targets, inverses) = ctx.given, ctx.saved_tensors
        (weight,) = panels.weights
        slopes = torch.empty(len(hidden), panels.outputs, dtype=panels.dtype)
        call(panels.kernels, "token_slopes", chances, targets, inverses, grad.contiguous(), len(hidden), panels.outputs,
             float(temperature), slopes, torch.get_num_threads())  # fmt: skip
        down = panels.map(slopes, torch.float32, back=True).to(hidden.dtype)
        if weight.requires_grad:
            _add(panels.kernels, slopes, hidden.to(panels.dtype).contiguous(), weight)
        return None, down, None, None


def _add(kernels: Kernels, slopes: Tensor, rows: Tensor, weight: Tensor) -> None:
    """Add slopes^T times rows to the gradient of the weights."""
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight)
    if weight.grad.dtype == torch.float32 and weight.grad.is_contiguous():
        add_outer(kernels, slopes, rows, weight.grad)
        return
    result = torch.zeros(weight.shape)
    add_outer(kernels, slopes, rows, result)
    weight.grad += result.to(weight.grad.dtype)
