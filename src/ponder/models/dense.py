"""The forward pass of Llama-shaped models in fewer operations.

A small model spends much of its time between matrix products, in small operations that each read and write
everything. Here they are few, and native where the machine allows it, over the very same parameters, so that training,
sampling and scoring all gain (docs/performance.md). Which models this covers is
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
from ponder.models.native.operations import native_operations
from ponder.models.operations import Operations, TorchOperations
from ponder.models.projection import Projection

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
        and all(is_plain(layer.get_submodule(name)) for name in PROJECTIONS)
        for layer in core.layers
    )


def is_plain(module: nn.Module | None) -> bool:
    """Whether a module is a linear map and nothing else."""
    return type(module) is nn.Linear and not _hooked(module)


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


@dataclass(frozen=True, slots=True)
class DenseLayer:
    """One layer's weights and what it does with them."""

    place: int
    entry_norm: Tensor
    qkv: Projection
    head_norm: Tensor | None
    """(query + key heads, head_dim) of models that normalise heads."""
    query_heads: int
    key_heads: int
    scaling: float
    window: int | None
    output: Projection
    middle_norm: Tensor
    gate_up: Projection
    """Gates in front."""
    down: Projection
    eps: float


class Dense:
    """Last hidden states of packed tokens, for a model that `is_dense`.

    Args:
        model: Its weights are read now; gradients flow to them.
        dtype: Of the matrix products; what lies between layers keeps the dtype of the embedding, or is float32 where
            the kernels do it.
    """

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype | None = None) -> None:
        """Collect the weights of every layer."""
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
            qkv=Projection(parts, self.dtype),
            head_norm=None
            if norms[0] is None or norms[1] is None
            else torch.cat([norms[0].weight.expand(queries, -1), norms[1].weight.expand(keys, -1)]),
            query_heads=queries,
            key_heads=keys,
            scaling=attention.scaling,
            window=getattr(attention, "sliding_window", everywhere),
            output=Projection([attention.o_proj], self.dtype),
            middle_norm=layer.post_attention_layernorm.weight,
            gate_up=Projection([mlp.gate_proj, mlp.up_proj], self.dtype),
            down=Projection([mlp.down_proj], self.dtype),
            eps=layer.input_layernorm.variance_epsilon,
        )

    def __call__(self, tokens: Tensor, positions: Tensor, layout: Layout, wanted: Tensor | None = None) -> Tensor:
        """Hidden states (T, width) of tokens (T,) at positions (T,), or of those that are wanted, (n, width)."""
        states, angles, change = self.embedded(tokens), self.angles(positions), None
        dtype = states.dtype
        between = self._operations(states)
        for layer in self.layers:
            states, entry = between.norm(states, change, layer.entry_norm, layer.eps, self.dtype)
            change = self._attention(layer, entry, angles, layout, between)
            if wanted is not None and layer is self.layers[-1]:  # nobody attends to what follows
                states, change = states[wanted], change[wanted]
            states, entry = between.norm(states, change, layer.middle_norm, layer.eps, self.dtype)
            inner = between.gated(between.linear(entry, layer.gate_up))
            change = between.linear(inner, layer.down)
        norm = self.core.norm
        return TorchOperations().norm(states, change, norm.weight, norm.variance_epsilon, dtype)[1]

    def _operations(self, states: Tensor) -> Operations:
        """The native operations where this machine has them for these shapes, else torch's."""
        widths = states.shape[1], self.layers[0].down.inputs
        return native_operations(states, self.dtype, widths, self.head_dim) or TorchOperations()

    def embedded(self, tokens: Tensor) -> Tensor:
        """Embeddings (T, width) of tokens (T,)."""
        return F.embedding(tokens, self.core.embed_tokens.weight)

    def angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine (T, head_dim) of each position (T,), the sine negative in its first half."""
        cos, sin = self.core.rotary_emb(torch.empty(0, device=positions.device), positions[None])
        half = self.head_dim // 2
        return cos[0], torch.cat((-sin[0, :, :half], sin[0, :, half:]), dim=-1)

    def _attention(
        self,
        layer: DenseLayer,
        entry: Tensor,
        angles: tuple[Tensor, Tensor],
        layout: Layout,
        between: Operations,
    ) -> Tensor:
        joined = between.linear(entry, layer.qkv).unflatten(-1, (-1, self.head_dim))
        parts = between.heads(joined, layer.head_norm, angles, layer.query_heads, layer.key_heads, layer.eps)
        query, key, value = (part.transpose(0, 1)[None] for part in parts)
        output = layout.attend(
            layer.place, query, key, value, scaling=layer.scaling, sliding_window=layer.window, softcap=None
        )
        return between.linear(output.flatten(2)[0], layer.output)
