"""Tiny random models of several families, with a real tokenizer, for the tests of the sampling engine."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from ponder.core.chat import Chat
from ponder.core.types import Message
from ponder.models import attention
from ponder.models.native.build import Kernels, Unavailable, load
from ponder.models.tokenizer import train_tokenizer

VOCABULARY = 320
WINDOW = 10

_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
    "initializer_range": 0.3,
}
_WIDE = _COMMON | {"hidden_size": 128, "intermediate_size": 96, "initializer_range": 0.15}
_ROTATIONS: dict[str, dict[str, Any]] = {
    "llama3": {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 64, "rope_theta": 1e4},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 1e4},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
}  # fmt: skip

FAMILIES: dict[str, Any] = {
    "qwen2": Qwen2Config(**_COMMON),
    "qwen3": Qwen3Config(**_COMMON, head_dim=16, tie_word_embeddings=True),
    "one_head": Qwen3Config(**(_COMMON | {"num_key_value_heads": 1}), head_dim=16),
    "llama": LlamaConfig(**_COMMON),
    "mistral": MistralConfig(**_COMMON, sliding_window=WINDOW),
    "gemma2": Gemma2Config(**_COMMON, head_dim=16, sliding_window=WINDOW, attn_logit_softcapping=5.0),
    "smollm3": SmolLM3Config(**(_COMMON | {"num_hidden_layers": 4})),
    # Sizes as the native kernels want them.
    "wide_qwen2": Qwen2Config(**_WIDE),
    "wide_qwen3": Qwen3Config(**(_WIDE | {"num_attention_heads": 6}), head_dim=32, tie_word_embeddings=True),
    "wide_llama": LlamaConfig(**_WIDE, mlp_bias=True, attention_bias=True),
    "wide_mistral": MistralConfig(**_WIDE, sliding_window=WINDOW),
    **{f"wide_{kind}": LlamaConfig(**_WIDE, rope_parameters=rope) for kind, rope in _ROTATIONS.items()},
}
NATIVE = [name for name in FAMILIES if name.startswith("wide_")]


@cache
def chat() -> Chat:
    texts = ["Anna has 12 coins. She finds 7: 12 + 7 = 19.\nThe answer is 19. Step by step we go on."] * 20
    return Chat(train_tokenizer(texts, VOCABULARY))


@cache
def model(family: str, implementation: str = "ponder", dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The same weights for every implementation."""
    attention.register()
    torch.manual_seed(7)
    config = deepcopy(FAMILIES[family])  # a model writes its implementation into its configuration
    return AutoModelForCausalLM.from_config(config, attn_implementation=implementation, dtype=dtype).eval()


def user(text: str) -> list[Message]:
    return [Message(role="user", content=text)]


PROMPTS = [
    user("Anna has 12 coins."),
    user("x"),
    user("Step by step: " + "7 + 12, " * 9),
    user("The answer is 19. We go on and find 12 coins."),
]


def need_kernels(rounded: bool = False) -> Kernels:
    """The native kernels; without them the test is skipped, and says why."""
    try:
        return load(rounded)
    except Unavailable as error:
        pytest.skip(f"no native kernels: {error}")
