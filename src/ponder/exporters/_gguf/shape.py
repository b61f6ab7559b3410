"""Which architecture a model folder holds, and its sizes as llama.cpp wants them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from ponder.core.errors import ConfigurationError
from ponder.core.types import FloatArray, Record

FAMILIES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "smollm3": "smollm3"}
"""llama.cpp's name of an architecture by its `model_type`."""
PAIRED = ("llama", "smollm3")
"""Architectures whose rotation turns neighbours, and not halves of a head."""
UNROTATED_EVERY = 4
"""Layers of SmolLM3 of which the last has no positions; llama.cpp knows no other number."""
SCALINGS = ("default", "linear", "yarn", "llama3")


class Shape(Record):
    """What `config.json` says, checked; sizes are numbers of elements."""

    family: str
    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    """Positions."""
    norm_eps: float
    rope_theta: float
    scaling: str
    scaling_factor: float
    original_context: int
    """Positions before the rotation was stretched."""
    low_freq_factor: float
    high_freq_factor: float
    tied: bool
    """Whether the output layer is the embedding."""

    def frequency_factors(self) -> FloatArray | None:
        """(head_dim / 2,) what llama3's scaling divides each frequency by; None for the other kinds.

        Source:
            transformers, `_compute_llama3_parameters`; llama.cpp reads them from the tensor `rope_freqs.weight`.
        """
        if self.scaling != "llama3":
            return None
        frequency = self.rope_theta ** (-np.arange(0, self.head_dim, 2, dtype=np.float64) / self.head_dim)
        turns = self.original_context * frequency / (2 * math.pi)  # of a wave within the original context
        smooth = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        between = 1 / ((1 - smooth) / self.scaling_factor + smooth)
        factors = np.where(turns > self.high_freq_factor, 1.0, between)
        return np.where(turns < self.low_freq_factor, self.scaling_factor, factors).astype(np.float32)


def read_shape(model: Path) -> Shape:
    """The shape of a model folder whose `config.json` is known to be JSON.

    Raises:
        ConfigurationError: If llama.cpp would compute something else than this model does, or a size is missing.
    """
    config: dict[str, Any] = json.loads((model / "config.json").read_text(encoding="utf-8"))
    where = str(model / "config.json")
    family = config.get("model_type")
    if family not in FAMILIES:
        raise ConfigurationError(
            f"GGUF files are written for {', '.join(FAMILIES)}, not for {family!r}",
            where=where,
            fix="use llama.cpp's own convert_hf_to_gguf.py for other architectures",
        )
    _refuse_variants(config, where)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    scaling = rope.get("rope_type", rope.get("type", "default"))
    if scaling not in SCALINGS or (scaling == "yarn" and (rope.get("mscale") or rope.get("attention_factor"))):
        raise ConfigurationError(f"rotations of kind {scaling!r} with these settings are not supported", where=where)
    try:
        width, heads, context = config["hidden_size"], config["num_attention_heads"], config["max_position_embeddings"]
        return Shape(
            family=FAMILIES[family],
            layers=config["num_hidden_layers"],
            width=width,
            inner=config["intermediate_size"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or width // heads,
            vocabulary=config["vocab_size"],
            context=context,
            norm_eps=config["rms_norm_eps"],
            rope_theta=rope.get("rope_theta") or config.get("rope_theta", 10_000.0),
            scaling=scaling,
            scaling_factor=rope.get("factor", 1.0),
            original_context=rope.get("original_max_position_embeddings") or context,
            low_freq_factor=rope.get("low_freq_factor", 1.0),
            high_freq_factor=rope.get("high_freq_factor", 4.0),
            tied=config.get("tie_word_embeddings", False),
        )
    except KeyError as error:
        raise ConfigurationError(f"config.json does not say {error.args[0]}", where=where) from error
    except ValueError as error:
        raise ConfigurationError("config.json gives a size of the wrong kind", where=where) from error


def _rotates_as_known(config: dict[str, Any]) -> bool:
    """Whether every fourth layer, and no other, is without positions (0 in `no_rope_layers`)."""
    layers = config.get("num_hidden_layers", 0)
    told = config.get("no_rope_layers")
    if told is None:
        return config.get("no_rope_layer_interval", UNROTATED_EVERY) == UNROTATED_EVERY
    return list(told) == [int((layer + 1) % UNROTATED_EVERY != 0) for layer in range(layers)]


def _refuse_variants(config: dict[str, Any], where: str) -> None:
    """Settings of these families that the tensors written here would not express."""
    wrong = {
        "hidden_act": config.get("hidden_act", "silu") != "silu",
        "use_sliding_window": bool(config.get("use_sliding_window")),
        "sliding_window": config["model_type"] == "mistral" and config.get("sliding_window") is not None,
        "no_rope_layers": config["model_type"] == "smollm3" and not _rotates_as_known(config),
        "attention_bias": bool(config.get("attention_bias")) and config["model_type"] != "qwen2",
        "mlp_bias": bool(config.get("mlp_bias")),
        "layer_types": any(kind != "full_attention" for kind in config.get("layer_types") or ()),
        "quantization_config": "quantization_config" in config,
        "partial_rotary_factor": config.get("partial_rotary_factor", 1.0) != 1.0,
    }
    for name, refused in wrong.items():
        if refused:
            raise ConfigurationError(
                f"{name} = {config.get(name)!r} cannot be expressed in the GGUF written here", where=where
            )
