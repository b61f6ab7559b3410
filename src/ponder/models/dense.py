"""The forward pass of Llama-shaped models in fewer operations.

A small model spends much of its time between matrix products, in small operations that each read and write
everything. Here it takes three quarters of those of transformers, and two thirds with the backward pass, over the very
same parameters, so that training, sampling and scoring all gain (docs/performance.md). Which models this covers is
decided by their exact classes; everything else (other families, LoRA, hooks, gradient checkpointing) goes through
transformers as before, and both ways are compared when a model is first used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    LlamaForCausalLM,
    MistralForCausalLM,
    MistralModel,
    PreTrainedModel,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
)

from ponder.models.attention import Layout

FAMILIES = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
PROJECTIONS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
               "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")  # fmt: skip


def is_dense(model: PreTrainedModel) -> bool:
    """Whether `Dense` computes what the model's own code would."""
    if type(model) not in FAMILIES or model.config.hidden_act != "silu":
        return False
    if model.training and getattr(model.config, "attention_dropout", 0.0):
        return False
    core: Any = model.model
    if core.gradient_checkpointing or any(_hooked(module) for module in (core, core.embed_tokens, core.norm)):
        return False
    return all(
        not _hooked(layer)
        and not _hooked(layer.self_attn)
        and not _hooked(layer.mlp)
        and all(_is_plain(layer.get_submodule(name)) for name in PROJECTIONS)
        for layer in core.layers
    )


def _is_plain(module: nn.Module) -> bool:
    return type(module) is nn.Linear and not _hooked(module)


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


@dataclass(frozen=True, slots=True)
class DenseLayer:
    """One layer's weights, matrices in the dtype of the products; query, key and value projections joined."""

    place: int
    entry_norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    head_norm: Tensor | None
    """(query + key heads, head_dim) of models that normalise heads."""
    query_heads: int
    turning_heads: int
    """Query and key heads, which are rotated."""
    scaling: float
    window: int | None
    output: Tensor
    output_bias: Tensor | None
    middle_norm: Tensor
    gate: Tensor
    gate_bias: Tensor | None
    up: Tensor
    up_bias: Tensor | None
    down: Tensor
    down_bias: Tensor | None
    eps: float


class Dense:
    """Last hidden states of packed tokens, for a model that `is_dense`.

    Args:
        model: Its weights are read now; gradients flow to them.
        dtype: Of the matrix products; what lies between layers keeps the dtype of the embedding.
    """

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype | None = None) -> None:
        """Join and convert the matrices of every layer."""
        self.core: Any = model.model
        self.dtype = dtype or model.dtype
        self.head_dim = int(self.core.layers[0].self_attn.head_dim)
        self.layers = [self._joined(place, layer) for place, layer in enumerate(self.core.layers)]

    def _joined(self, place: int, layer: Any) -> DenseLayer:
        attention, mlp = layer.self_attn, layer.mlp
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        queries, keys = (part.weight.shape[0] // self.head_dim for part in parts[:2])
        norms = getattr(attention, "q_norm", None), getattr(attention, "k_norm", None)
        everywhere = self.core.config.sliding_window if isinstance(self.core, MistralModel) else None
        return DenseLayer(
            place=place,
            entry_norm=layer.input_layernorm.weight,
            qkv=torch.cat([part.weight for part in parts]).to(self.dtype),
            qkv_bias=None if parts[0].bias is None else torch.cat([part.bias for part in parts]).to(self.dtype),
            head_norm=None
            if norms[0] is None or norms[1] is None
            else torch.cat([norms[0].weight.expand(queries, -1), norms[1].weight.expand(keys, -1)]),
            query_heads=queries,
            turning_heads=queries + keys,
            scaling=attention.scaling,
            window=getattr(attention, "sliding_window", everywhere),
            output=attention.o_proj.weight.to(self.dtype),
            output_bias=self._bias(attention.o_proj),
            middle_norm=layer.post_attention_layernorm.weight,
            gate=mlp.gate_proj.weight.to(self.dtype),
            gate_bias=self._bias(mlp.gate_proj),
            up=mlp.up_proj.weight.to(self.dtype),
            up_bias=self._bias(mlp.up_proj),
            down=mlp.down_proj.weight.to(self.dtype),
            down_bias=self._bias(mlp.down_proj),
            eps=layer.input_layernorm.variance_epsilon,
        )

    def _bias(self, projection: nn.Linear) -> Tensor | None:
        return None if projection.bias is None else projection.bias.to(self.dtype)

    def __call__(self, tokens: Tensor, positions: Tensor, layout: Layout) -> Tensor:
        """Hidden states (T, width) of tokens (T,) at positions (T,)."""
        states = self.embedded(tokens)
        cos, sin = self.angles(positions)
        turn = cos[:, None], sin[:, None]
        for layer in self.layers:
            states = _sum(states, self._attention(layer, states, turn, layout))
            states = _sum(states, self._feed_forward(layer, states))
        return _normed(states, self.core.norm.weight, self.core.norm.variance_epsilon, states.dtype)

    def embedded(self, tokens: Tensor) -> Tensor:
        """Embeddings (T, width) of tokens (T,)."""
        return F.embedding(tokens, self.core.embed_tokens.weight)

    def angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine (T, head_dim) of each position (T,), the sine negative in its first half."""
        cos, sin = self.core.rotary_emb(torch.empty(0, device=positions.device), positions[None])
        half = self.head_dim // 2
        return cos[0], torch.cat((-sin[0, :, :half], sin[0, :, half:]), dim=-1)

    def _attention(self, layer: DenseLayer, states: Tensor, turn: tuple[Tensor, Tensor], layout: Layout) -> Tensor:
        normed = _normed(states, layer.entry_norm, layer.eps, self.dtype)
        heads = F.linear(normed, layer.qkv, layer.qkv_bias).unflatten(-1, (-1, self.head_dim))
        turned, value = heads.split((layer.turning_heads, heads.shape[1] - layer.turning_heads), dim=1)
        if layer.head_norm is not None:
            turned = _normed(turned, layer.head_norm, layer.eps, torch.float32)
        turned = _rotated(turned, *turn, dtype=self.dtype)
        query, key = turned.split((layer.query_heads, layer.turning_heads - layer.query_heads), dim=1)
        query, key, value = (part.transpose(0, 1)[None] for part in (query, key, value))
        output = layout.attend(
            layer.place, query, key, value, scaling=layer.scaling, sliding_window=layer.window, softcap=None
        )
        return F.linear(output.flatten(2)[0], layer.output, layer.output_bias)

    def _feed_forward(self, layer: DenseLayer, states: Tensor) -> Tensor:
        normed = _normed(states, layer.middle_norm, layer.eps, self.dtype)
        gate = F.linear(normed, layer.gate, layer.gate_bias)
        up = F.linear(normed, layer.up, layer.up_bias)
        return F.linear(F.silu(gate) * up, layer.down, layer.down_bias)


# Everything below computes in float32 and converts at its ends.


def _sum(states: Tensor, change: Tensor) -> Tensor:
    change = change.to(states.dtype)
    return states + change if torch.is_grad_enabled() else change.add_(states)


def _normed(states: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    if torch.is_grad_enabled():
        return _RootMeanSquare.apply(states, weight, eps, dtype)  # type: ignore[no-any-return]
    states = states.float()
    return (states * _inverse_size(states, eps)).mul_(weight.float()).to(dtype)


def _inverse_size(states: Tensor, eps: float) -> Tensor:
    """(..., 1): 1 over the root mean square of the last axis."""
    size = torch.linalg.vector_norm(states, dim=-1, keepdim=True)
    return torch.addcmul(size.new_tensor(eps), size, size, value=1 / states.shape[-1]).rsqrt_()


class _RootMeanSquare(torch.autograd.Function):
    """RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4), computed in float32, with its gradient in one piece.

    The weight is (width,) or has the last two axes of the states.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:  # type: ignore[override]
        """States (..., width) to the same shape, in `dtype`."""
        exact = states.float()
        inverse = _inverse_size(exact, eps)
        ctx.save_for_backward(states, weight, inverse)
        return (exact * inverse).mul_(weight.float()).to(dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        """With n = x / rms(x): dx = (g w - n mean(g w n)) / rms(x), dw = sum of g n."""
        states, weight, inverse = ctx.saved_tensors
        unit, grad = states.float() * inverse, grad.float()
        inner = grad * weight.float()
        along = torch.linalg.vecdot(inner, unit).mul_(-1 / unit.shape[-1])[..., None]
        down = torch.addcmul(inner, unit, along).mul_(inverse)
        rows = unit.mul_(grad).flatten(0, unit.ndim - weight.ndim - 1)
        return down.to(states.dtype), rows.sum(0).to(weight.dtype), None, None


def _rotated(heads: Tensor, cos: Tensor, sin: Tensor, dtype: torch.dtype) -> Tensor:
    if torch.is_grad_enabled():
        return _Rotation.apply(heads, cos, sin, dtype)  # type: ignore[no-any-return]
    return _turned(heads.float(), cos, sin, 1).to(dtype)


class _Rotation(torch.autograd.Function):
    """Rotary positions (Su et al. 2021, arXiv:2104.09864, eq. 34), halves paired; its gradient turns back."""

    @staticmethod
    def forward(ctx: Any, heads: Tensor, cos: Tensor, sin: Tensor, dtype: torch.dtype) -> Tensor:  # type: ignore[override]
        """(T, heads, dim) by angles (T, 1, dim), the sine negative in its first half, to `dtype`."""
        ctx.save_for_backward(cos, sin)
        ctx.given = heads.dtype
        return _turned(heads.float(), cos, sin, 1).to(dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        """The inverse rotation."""
        cos, sin = ctx.saved_tensors
        return _turned(grad.float(), cos, sin, -1).to(ctx.given), None, None, None


def _turned(heads: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    return (heads * cos).addcmul_(heads.roll(heads.shape[-1] // 2, -1), sin, value=sign)
