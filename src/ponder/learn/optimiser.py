"""How weights move: optimiser, learning-rate schedule, and which weights decay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from ponder.core.types import Record
from ponder.learn.muon import Muon
from ponder.models.lora import Lora


class Optimisation(Record):
    """Settings of the optimiser."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """`muon` moves the 2-D matrices of the layers; embeddings, head, norms and biases stay with AdamW."""
    lr: float = Field(default=1e-4, ge=0.0)
    """Peak learning rate. Muon's is about a hundred times AdamW's: its steps have unit spectral norm."""
    outer_lr: float | None = Field(default=None, ge=0.0)
    """Under `muon`, the peak learning rate of what stays with AdamW; None is a tenth of `lr`."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(default=0.0, ge=0.0)
    """Decoupled; on the matrices of the layers alone, never on embeddings, head, norms or biases."""
    warmup_steps: int = Field(default=0, ge=0)
    decay: Literal["constant", "linear", "cosine"] = "constant"
    """Shape between the end of the warm-up and the last step."""
    final_lr_share: float = Field(default=0.0, ge=0.0, le=1.0)
    """Learning rate at the end of the decay, as a share of the peak."""
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    """The gradient is scaled down to this norm."""
    micro_batch_tokens: int = Field(default=4096, ge=1)
    """Packed tokens per forward pass; changes memory and speed, never the gradient."""
    autocast: bool | Literal["auto"] = False
    """Matrix products in bfloat16, weights, sums and logits in float32; a policy then also samples in
    bfloat16. `auto` does so where the processor has instructions for it: there it is about twice as fast."""

    def lr_share(self, step: int, total_steps: int) -> float:
        """Share of the peak learning rate at a step.

        Args:
            step: 0-based.
            total_steps: Where the decay ends.
        """
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.decay == "constant":
            return 1.0
        progress = min(1.0, (step - self.warmup_steps) / max(1, total_steps - 1 - self.warmup_steps))
        shape = 1 - progress if self.decay == "linear" else (1 + math.cos(math.pi * progress)) / 2
        return self.final_lr_share + (1 - self.final_lr_share) * shape


def trainable(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """Parameters that learn, by name; tied ones once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def make_optimizers(model: PreTrainedModel, settings: Optimisation) -> list[Optimizer]:
    """Optimizers whose groups carry their peak learning rate as `peak_lr`."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    outer = {id(p) for module in ends if module is not None for p in module.parameters()}
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for parameter in trainable(model).values():
        (matrices if parameter.ndim == 2 and id(parameter) not in outer else others).append(parameter)
    if settings.optimizer == "adamw":
        groups = [_group(matrices, settings.lr, settings.weight_decay), _group(others, settings.lr, 0.0)]
        return [_adamw(groups, settings)]
    muon = Muon([_group(matrices, settings.lr, settings.weight_decay)])
    return [muon, _adamw([_group(others, _outer_lr(settings), 0.0)], settings)]


def factor_optimizer(lora: Lora, settings: Optimisation) -> Optimizer:
    """AdamW for the factors of an adapter.

    Muon is not for them: it would give A and B each a spectral norm of its own, and what counts is that of B A. Under
    `muon` they move at `outer_lr`, as everything does there that stays with AdamW.
    """
    peak_lr = settings.lr if settings.optimizer == "adamw" else _outer_lr(settings)
    return _adamw([_group(list(lora.parameters.values()), peak_lr, settings.weight_decay)], settings)


def _outer_lr(settings: Optimisation) -> float:
    return settings.lr / 10 if settings.outer_lr is None else settings.outer_lr


def _group(parameters: Sequence[Tensor], peak_lr: float, weight_decay: float) -> dict[str, Any]:
    return {"params": parameters, "lr": peak_lr, "peak_lr": peak_lr, "weight_decay": weight_decay}


def _adamw(groups: list[dict[str, Any]], settings: Optimisation) -> Optimizer:
    return torch.optim.AdamW(groups, betas=settings.betas, fused=True)
