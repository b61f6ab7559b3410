"""LoRA (arXiv:2106.09685): a low-rank change of a model's linear layers, trained while the model itself stays.

The change is written into the layers themselves: the weight of an adapted layer is W0 + s B A at any time, and its
gradient G is turned into those of the factors, dB = s G A^T and dA = s B^T G, as soon as it is made, and dropped.
So every linear layer stays a plain one: the sampler, the native kernels and packed training run as they do without an
adapter, and a merged model is the trained one by construction. What it costs: G is computed as in full training, so a
step is no faster (modules beside frozen layers trained 25 M parameters 1.3 times as fast, in 1.5 times the memory, and
sampled more slowly: docs/adapters.md), and W0 is kept beside W. What it saves: the optimiser remembers the factors
alone, and of the gradients of the weights those of one attention or one feed-forward part exist at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import PreTrainedModel

from ponder.core.errors import ConfigurationError
from ponder.core.seeds import derive_seed
from ponder.core.types import Json, Record

ALL_LINEAR = "all-linear"
"""Every linear layer but the head."""


class Adapter(Record):
    """Settings of a low-rank change."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32.0, gt=0.0)
    """The change is scaled by alpha / rank."""
    targets: tuple[str, ...] | Literal["all-linear"] = ALL_LINEAR
    """Names of linear layers, or the ends of names (`q_proj`, `mlp.down_proj`)."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) instead (arXiv:2312.03732), so that a high rank learns no slower."""

    @property
    def scale(self) -> float:
        """What B A is multiplied by."""
        return self.alpha / (self.rank**0.5 if self.rslora else self.rank)


@dataclass(frozen=True, slots=True)
class LowRank:
    """The change of one layer."""

    weight: Tensor  # (out, in), of the model
    base: Tensor  # (out, in), the weight without the change
    a: nn.Parameter  # (rank, in)
    b: nn.Parameter  # (out, rank)


class Lora:
    """An adapter on a model: its factors are trained, and the model's weights always carry them.

    Args:
        model: Its parameters are frozen; its adapted weights are written to.
        adapter: Settings.
        seed: Of the factors A; the factors B begin at zero, so that the model begins as it is.

    Raises:
        ConfigurationError: If the targets name nothing, or a head that is tied to the embeddings.
    """

    def __init__(self, model: PreTrainedModel, adapter: Adapter, seed: int = 0) -> None:
        """Freeze the model and put factors beside its layers."""
        self.adapter = adapter
        self.layers: dict[str, LowRank] = {}
        chosen = targeted(model, adapter.targets)
        model.requires_grad_(False)
        for name, module in chosen.items():
            weight = module.weight
            rows, columns = weight.shape
            generator = torch.Generator().manual_seed(derive_seed(seed, "lora", name))
            a = (torch.rand(adapter.rank, columns, generator=generator) * 2 - 1) / columns**0.5
            b = torch.zeros(rows, adapter.rank, device=weight.device)
            layer = LowRank(weight, weight.detach().clone(), nn.Parameter(a.to(weight.device)), nn.Parameter(b))
            self.layers[name] = layer
            weight.requires_grad_(True)
            weight.register_post_accumulate_grad_hook(lambda _, layer=layer: self._take(layer))

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The factors by name, in the order of the layers."""
        factors = {"lora_A": "a", "lora_B": "b"}
        return {
            f"{name}.{key}": getattr(layer, field)
            for name, layer in self.layers.items()
            for key, field in factors.items()
        }

    @torch.no_grad()
    def collect(self) -> None:
        """Turn the gradients that were written to weights without autograd (a head's) into those of the factors."""
        for layer in self.layers.values():
            self._take(layer)

    @torch.no_grad()
    def write(self) -> None:
        """Put the change, as the factors are now, into the model's weights."""
        for layer in self.layers.values():
            change(layer.weight, layer.base, layer.a, layer.b, self.adapter.scale)

    @contextmanager
    def off(self) -> Iterator[None]:
        """The model without its adapter, to the bit; the change comes back afterwards."""
        with torch.no_grad():
            for layer in self.layers.values():
                layer.weight.copy_(layer.base)
        try:
            yield
        finally:
            self.write()

    def memory(self, model: PreTrainedModel) -> Json:
        """Bytes that training keeps besides activations under AdamW, here and if every weight were trained."""
        found = sizes_of(model, self.adapter)
        return {
            "parameters": found.factors,
            "optimiser_bytes": 8 * found.factors,
            "optimiser_bytes_full": 8 * found.whole,
            "training_bytes": found.training_bytes,
            "training_bytes_full": 16 * found.whole,
        }

    @torch.no_grad()
    def _take(self, layer: LowRank) -> None:
        """The gradient of a weight becomes the factors'."""
        grad = layer.weight.grad
        if grad is None:
            return
        layer.weight.grad = None
        scale = self.adapter.scale
        grads = (scale * (layer.b.T @ grad), scale * (grad @ layer.a.T))
        for factor, found in zip((layer.a, layer.b), grads, strict=True):
            factor.grad = found if factor.grad is None else factor.grad + found


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many numbers training an adapter holds; each is a float32."""

    whole: int
    """Of the model."""
    adapted: int
    """Of the weights that carry a change, and of the copies of what they were."""
    factors: int
    at_once: int
    """Of the gradients that exist together, at most: those of the weights of one part of a block."""

    @property
    def training_bytes(self) -> int:
        """Weights, copies, gradients of weights; factors with their gradients and AdamW's two moments."""
        return 4 * (self.whole + self.adapted + self.at_once + 4 * self.factors)


def sizes_of(model: PreTrainedModel, adapter: Adapter) -> Sizes:
    """Counted on shapes alone, so that a model without storage will do.

    Raises:
        ConfigurationError: As for `targeted`.
    """
    parts: dict[str, int] = defaultdict(int)
    factors = 0
    for name, module in targeted(model, adapter.targets).items():
        parts[name.rpartition(".")[0]] += module.weight.numel()
        factors += adapter.rank * sum(module.weight.shape)
    whole = sum({id(p): p.numel() for p in model.parameters()}.values())
    return Sizes(whole, sum(parts.values()), factors, max(parts.values()))


@torch.no_grad()
def change(weight: Tensor, base: Tensor, a: Tensor, b: Tensor, scale: float) -> None:
    """Write base + scale B A to a weight; the one place where an adapter and a model are added."""
    weight.copy_(torch.addmm(base, b.to(base), a.to(base), alpha=scale))


def targeted(model: PreTrainedModel, targets: Iterable[str]) -> dict[str, nn.Linear]:
    """The linear layers that targets name.

    Raises:
        ConfigurationError: If a target names none, or the head is named and tied to the embeddings.
    """
    linear = {name: module for name, module in model.named_modules() if type(module) is nn.Linear}
    head: Any = model.get_output_embeddings()
    if targets == ALL_LINEAR:
        chosen = {name: module for name, module in linear.items() if module is not head}
        targets = ()
    else:
        chosen = {name: m for name, m in linear.items() if any(_ends(name, target) for target in targets)}
    missing = [target for target in targets if not any(_ends(name, target) for name in linear)]
    if missing or not chosen:
        names = ", ".join(sorted({name.rpartition(".")[2] for name in linear})) or "none at all"
        what = f"no linear layer is called {', '.join(map(repr, missing))}" if missing else "nothing to adapt"
        raise ConfigurationError(what, where="adapter.targets", fix=f"the linear layers here: {names}")
    embeddings: Any = model.get_input_embeddings()
    tied = [name for name, module in chosen.items() if module.weight is embeddings.weight]
    if tied:
        raise ConfigurationError(
            f"{tied[0]} shares its weights with the embeddings: a change of one would change the other",
            where="adapter.targets",
            fix="adapt the layers between them, or train the whole model",
        )
    return chosen


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")
