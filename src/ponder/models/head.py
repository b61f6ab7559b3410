"""A causal LM in two halves, so that logits are made only where they are needed, a few rows at a time."""

from __future__ import annotations

import sys
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ponder.core.errors import ConfigurationError
from ponder.models.attention import Layout
from ponder.models.dense import Dense, is_dense
from ponder.models.packed import MATERIALISE_UP_TO, PackedLayout, native_attention

TOLERANCE = {True: 0.002, False: 0.05}
"""Largest gap between two ways to the same logits, as a share of the largest logit: in float32, or in less."""


def hidden_states(model: PreTrainedModel, tokens: Tensor, positions: Tensor, layout: Layout) -> Tensor:
    """Last hidden states (T, width) of packed tokens (T,) at their positions (T,)."""
    return forward_of(model)(tokens, positions, layout)


class HiddenStates(Protocol):
    """Computes a model's last hidden states."""

    def __call__(self, tokens: Tensor, positions: Tensor, layout: Layout, wanted: Tensor | None = None) -> Tensor:
        """Hidden states (T, width) of tokens (T,) at positions (T,), or of those that are wanted, (n, width)."""
        ...


def forward_of(model: PreTrainedModel, rounded: bool = False) -> HiddenStates:
    """What computes hidden states with the weights as they are now, the short way where the model allows it.

    Args:
        model: Loaded with Ponder's attention.
        rounded: Matrix products in bfloat16, whatever the weights are kept in.
    """
    if is_dense(model):
        return Dense(model, torch.bfloat16 if rounded else None)
    return partial(_own_forward, model, rounded)


def longest_shared(model: PreTrainedModel, rounded: bool) -> int:
    """Tokens of the longest sequence whose beginning others may share: the kernels never materialise all scores."""
    if is_dense(model):
        head_dim = int(model.model.layers[0].self_attn.head_dim)
        if native_attention(head_dim, torch.bfloat16 if rounded else model.dtype, model.device) is not None:
            return sys.maxsize
    return MATERIALISE_UP_TO


def _own_forward(
    model: PreTrainedModel,
    rounded: bool,
    tokens: Tensor,
    positions: Tensor,
    layout: Layout,
    wanted: Tensor | None = None,
) -> Tensor:
    """The same by the model's own code."""
    with torch.autocast(tokens.device.type, torch.bfloat16, enabled=rounded):
        output = model.base_model(input_ids=tokens[None], position_ids=positions[None], layout=layout, use_cache=False)
    hidden = output.last_hidden_state[0]
    return hidden if wanted is None else hidden[wanted]


def logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Logits (N, V) in float32 of hidden states (N, width), scaled and capped as the family does."""
    config = model.config.get_text_config()
    head = model.get_output_embeddings()
    assert head is not None, "checked by check_head"
    scores = head(hidden).float()
    if (divisor := getattr(config, "logits_scaling", None)) is not None:  # Granite
        scores = scores / divisor
    if (factor := getattr(config, "logit_scale", None)) is not None:  # Cohere
        scores = scores * factor
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:  # Gemma
        scores = cap * torch.tanh(scores / cap)
    return scores


@torch.no_grad()
def check_head(model: PreTrainedModel) -> None:
    """Make sure that the two halves are the whole, on a few tokens.

    Raises:
        ConfigurationError: If this architecture keeps state that packing would mix, or makes its logits
            in a way that is not known here.
    """
    tokens = torch.arange(6, device=model.device) % model.config.get_text_config().vocab_size
    positions = torch.tensor([0, 1, 2, 3, 0, 1], device=model.device)
    packed = logits(model, hidden_states(model, tokens, positions, PackedLayout([4, 2], model.device)))
    for part in (slice(0, 4), slice(4, 6)):
        layout = PackedLayout([part.stop - part.start], model.device)
        whole = model(input_ids=tokens[None, part], position_ids=positions[None, part], layout=layout, use_cache=False)
        gap = (whole.logits[0].float() - packed[part]).abs().max()
        if not bool(gap <= TOLERANCE[model.dtype == torch.float32] * packed[part].abs().max() + 1e-3):
            raise ConfigurationError(
                f"{type(model).__name__} cannot be trained on packed sequences: its logits change",
                fix="use a model whose layers are attention and feed-forward only",
            )
