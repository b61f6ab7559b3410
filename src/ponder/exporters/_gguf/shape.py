"""Which architecture a model folder holds, and its sizes as llama.cpp wants them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ponder.core.errors import ConfigurationError
from ponder.core.types import FloatArray
from ponder.exporters._shape import Config, read_config, refuse_variants, rope_of, scaling_of, shape_of
from ponder.exporters._shape import Shape as CommonShape

FAMILIES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "smollm3": "smollm3"}
"""llama.cpp's name of an architecture by its `model_type`."""
PAIRED = ("llama", "smollm3")
"""Architectures whose rotation turns neighbours, and not halves of a head."""
UNROTATED_EVERY = 4
"""Layers of SmolLM3 of which the last has no positions; llama.cpp knows no other number."""
SCALINGS = ("default", "linear", "yarn", "llama3")


class Shape(CommonShape):
    """What llama.cpp wants to know besides, about how a rotation is stretched."""

    scaling: str
    scaling_factor: float
    original_context: int
    """Positions before the rotation was stretched."""
    low_freq_factor: float
    high_freq_factor: float

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
    config, where = read_config(model), str(model / "config.json")
    family = config.get("model_type")
    if family not in FAMILIES:
        raise ConfigurationError(
            f"GGUF files are written for {', '.join(FAMILIES)}, not for {family!r}",
            where=where,
            fix="use llama.cpp's own convert_hf_to_gguf.py for other architectures",
        )
    odd = family == "smollm3" and not _rotates_as_known(config)
    refuse_variants(config, where, "cannot be expressed in the GGUF written here", no_rope_layers=odd)
    rope, scaling = rope_of(config), scaling_of(config)
    if scaling not in SCALINGS or (scaling == "yarn" and (rope.get("mscale") or rope.get("attention_factor"))):
        raise ConfigurationError(f"rotations of kind {scaling!r} with these settings are not supported", where=where)
    return shape_of(
        Shape,
        config,
        where,
        family=FAMILIES[family],
        scaling=scaling,
        scaling_factor=rope.get("factor", 1.0),
        original_context=rope.get("original_max_position_embeddings") or config.get("max_position_embeddings"),
        low_freq_factor=rope.get("low_freq_factor", 1.0),
        high_freq_factor=rope.get("high_freq_factor", 4.0),
    )


def _rotates_as_known(config: Config) -> bool:
    """Whether every fourth layer, and no other, is without positions (0 in `no_rope_layers`)."""
    layers = config.get("num_hidden_layers", 0)
    told = config.get("no_rope_layers")
    if told is None:
        return config.get("no_rope_layer_interval", UNROTATED_EVERY) == UNROTATED_EVERY
    return list(told) == [int((layer + 1) % UNROTATED_EVERY != 0) for layer in range(layers)]
