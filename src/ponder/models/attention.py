"""Ponder's attention function: the one hook through which it owns batching.

A Hugging Face causal LM is loaded with `attn_implementation="ponder"` and called with a `layout` keyword argument.
The model passes the argument through to this function at every layer, and the layout does the attention: it knows how
the packed tokens belong together (training) or where each sequence's keys and values are kept (sampling).
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "ponder"


class Layout(Protocol):
    """How the tokens of one forward pass attend to each other."""

    def attend(
        self,
        layer: int,
        query: Tensor,  # (1, query heads, T, head_dim), rotated
        key: Tensor,  # (1, key-value heads, T, head_dim), rotated, not repeated
        value: Tensor,  # (1, key-value heads, T, head_dim)
        *,
        scaling: float,
        sliding_window: int | None,
        softcap: float | None,
    ) -> Tensor:
        """Attention output, (1, T, query heads, head_dim)."""
        ...


def ponder_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    layout: Layout | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The function that transformers calls at every attention layer."""
    if layout is None:
        raise ValueError("a model loaded with Ponder's attention is called with a `layout`")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    output = layout.attend(layer, query, key, value, scaling=scale, sliding_window=sliding_window, softcap=softcap)
    return output, None


def _no_mask(*_: Any, **__: Any) -> None:
    """Layouts mask for themselves; transformers builds nothing."""
    return None


def register() -> None:
    """Make `attn_implementation="ponder"` known to transformers; calling it again changes nothing."""
    AttentionInterface.register(NAME, ponder_attention)
    AttentionMaskInterface.register(NAME, _no_mask)
