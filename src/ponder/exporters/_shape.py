"""Sizes of a model folder, and the settings by which models of one family compute differently."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ponder.core.errors import ConfigurationError
from ponder.core.types import Record

Config = Mapping[str, Any]
"""Content of a `config.json`."""


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
    tied: bool
    """Whether the output layer is the embedding."""


S = TypeVar("S", bound=Shape)


def read_config(model: Path) -> Config:
    """`config.json` of a folder in which it is known to be JSON."""
    return json.loads((model / "config.json").read_text(encoding="utf-8"))


def rope_of(config: Config) -> Config:
    """Settings of the rotation, under its newer or its older name."""
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def scaling_of(config: Config) -> str:
    """The kind of the rotation."""
    rope = rope_of(config)
    return rope.get("rope_type", rope.get("type", "default"))


def shape_of(kind: type[S], config: Config, where: str, **more: Any) -> S:
    """The sizes, with what a form wants to know besides.

    Raises:
        ConfigurationError: If one is missing, or is no number.
    """
    try:
        width, heads = config["hidden_size"], config["num_attention_heads"]
        sizes = {
            "family": config["model_type"],
            "layers": config["num_hidden_layers"],
            "width": width,
            "inner": config["intermediate_size"],
            "heads": heads,
            "kv_heads": config.get("num_key_value_heads") or heads,
            "head_dim": config.get("head_dim") or width // heads,
            "vocabulary": config["vocab_size"],
            "context": config["max_position_embeddings"],
            "norm_eps": config["rms_norm_eps"],
            "rope_theta": rope_of(config).get("rope_theta") or config.get("rope_theta", 10_000.0),
            "tied": config.get("tie_word_embeddings", False),
        }
        return kind(**(sizes | more))
    except KeyError as error:
        raise ConfigurationError(f"config.json does not say {error.args[0]}", where=where) from error
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise ConfigurationError("config.json gives a size of the wrong kind", where=where) from error


def refuse_variants(config: Config, where: str, why: str, **more: bool) -> None:
    """Refuse settings that change what is computed and that a form does not carry.

    Args:
        config: With a known `model_type`.
        where: It lies.
        why: Said behind the name of the setting.
        more: What else is refused, by name.

    Raises:
        ConfigurationError: If there is one.
    """
    family = config["model_type"]
    wrong = {
        "hidden_act": config.get("hidden_act", "silu") != "silu",
        "use_sliding_window": bool(config.get("use_sliding_window")),
        "sliding_window": family == "mistral" and config.get("sliding_window") is not None,
        "attention_bias": bool(config.get("attention_bias")) and family != "qwen2",
        "mlp_bias": bool(config.get("mlp_bias")),
        "layer_types": any(kind != "full_attention" for kind in config.get("layer_types") or ()),
        "quantization_config": "quantization_config" in config,
        "partial_rotary_factor": config.get("partial_rotary_factor", 1.0) != 1.0,
        **more,
    }
    for name, refused in wrong.items():
        if refused:
            raise ConfigurationError(f"{name} = {config.get(name)!r} {why}", where=where)
