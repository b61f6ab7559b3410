"""Grows a trained model into a larger one that computes the same function, so that training goes on and not again.

New layers begin as the identity, because what they write back is zero; new units of a layer begin unheard, because
their outgoing weights are zero (Chen et al. 2016, Net2Net, arXiv:1511.05641, adapted to residual blocks). Key-value
heads that were shared by several query heads are copied, so that each copy can go its own way.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from ponder.core.errors import ConfigurationError

KEPT = ("hidden_size", "num_attention_heads", "head_dim", "vocab_size")
"""What must not change: everything that the residual stream and the heads are made of."""
WRITERS = ("self_attn.o_proj.weight", "mlp.down_proj.weight")
"""Weights by which a layer writes into the residual stream."""
SHARED = ("k_proj.weight", "v_proj.weight", "k_proj.bias", "v_proj.bias")
"""Weights whose rows are those of the key-value heads."""


@torch.no_grad()
def grow(small: PreTrainedModel, large: PreTrainedModel) -> PreTrainedModel:
    """Fill a freshly initialised larger model so that it computes what the small one computes.

    Args:
        small: A trained Qwen3-, Llama- or Mistral-shaped model.
        large: Changed in place: at least as many layers, at least as wide between them, and a multiple of the
            key-value heads.

    Raises:
        ConfigurationError: If the shapes differ in anything else, or shrink.
    """
    _check(small, large)
    copies = large.config.num_key_value_heads // small.config.num_key_value_heads
    trained = dict(small.named_parameters())
    for name, parameter in large.named_parameters():
        known = trained.get(name)
        if known is not None:
            if name.endswith(WRITERS):
                parameter.zero_()
            if name.endswith(SHARED):
                known = known.unflatten(0, (-1, small.config.head_dim)).repeat_interleave(copies, 0).flatten(0, 1)
            parameter[tuple(slice(size) for size in known.shape)] = known
        elif name.endswith(WRITERS):
            parameter.zero_()
    return large


def _check(small: PreTrainedModel, large: PreTrainedModel) -> None:
    for key in KEPT:
        before, after = getattr(small.config, key, None), getattr(large.config, key, None)
        if before != after:
            raise ConfigurationError(f"a model cannot grow from {key} {before} to {after}", where=f"shape.{key}")
    for key in ("num_hidden_layers", "intermediate_size"):
        before, after = getattr(small.config, key), getattr(large.config, key)
        if after < before:
            raise ConfigurationError(f"a model cannot shrink from {key} {before} to {after}", where=f"shape.{key}")
    before, after = small.config.num_key_value_heads, large.config.num_key_value_heads
    if after % before:
        raise ConfigurationError(
            f"{before} key-value heads cannot become {after}", where="shape.kv_heads", fix=f"a multiple of {before}"
        )
