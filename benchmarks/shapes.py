"""The models that benchmarks run: random weights in known shapes, with the pocket models' tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from ponder.core.chat import Chat
from ponder.models import attention
from ponder.models.load import load_tokenizer, resolve_model, save_model
from ponder.stages.pretrain import Shape

QWEN = {
    "1m": Shape(hidden_size=128, intermediate_size=512, layers=3, heads=4, kv_heads=2, head_dim=32),
    "3m": Shape(hidden_size=256, intermediate_size=704, layers=4, heads=4, kv_heads=2, head_dim=64),
    "8m": Shape(hidden_size=384, intermediate_size=1024, layers=5, heads=6, kv_heads=2, head_dim=64),
    "25m": Shape(hidden_size=512, intermediate_size=1536, layers=8, heads=8, kv_heads=4, head_dim=64),
}
"""Qwen3 shapes by their number of parameters; 4,096 positions."""
SMOLLM2 = "smollm2-135m"
NAMES = (*QWEN, SMOLLM2)
PARAMETERS = {"1m": 0.87e6, "3m": 3.2e6, "8m": 8.2e6, "25m": 25.7e6, SMOLLM2: 134.5e6}


def make(name: str, folder: Path) -> Path:
    """The folder of a model by shape name, made in `folder` when it is not there; other names are resolved as usual."""
    if name not in NAMES:
        return resolve_model(name)
    path = folder / name
    if not path.exists():
        chat = Chat(load_tokenizer(resolve_model("pocket-base")))
        save_model(_build(name), chat, path)
    return path


def _build(name: str) -> Any:
    if name in QWEN:
        return QWEN[name].model_copy(update={"max_positions": 4096}).build(seed=0)
    attention.register()
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention.NAME, dtype=torch.float32)
