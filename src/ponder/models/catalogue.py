"""Published shapes of models whose weights need not be here: enough to count, to plan and to check a recipe.

The fields are those of each model's `config.json` on its hub page. Parameters are never taken from a table: they are
counted on a model without storage, and the published count stands beside them as a check.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

HUB = "https://huggingface.co"


@dataclass(frozen=True, slots=True)
class Published:
    """One model as its authors describe it."""

    name: str
    """Hub id."""
    kind: str
    """`model_type` of its configuration."""
    fields: Mapping[str, Any]
    """What decides shapes: the rest of the configuration is transformers' default."""
    parameters: int
    """As the hub counts its safetensors; embeddings that are tied count once."""
    licence: str
    aliases: tuple[str, ...] = ()
    """Other ids with the same shape."""

    @property
    def source(self) -> str:
        """Where the fields are from."""
        return f"{HUB}/{self.name}/blob/main/config.json"

    @property
    def context(self) -> int:
        """Positions that it can read."""
        return int(self.fields["max_position_embeddings"])


def _shape(hidden: int, inner: int, layers: int, heads: int, shared: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": shared,
        **more,
    }


def _qwen3(name: str, parameters: int, *, tied: bool, **shape: int) -> Published:
    fields = _shape(**shape, head_dim=128, vocab_size=151_936, max_position_embeddings=40_960, tie_word_embeddings=tied)
    return Published(f"Qwen/{name}", "qwen3", fields, parameters, "Apache-2.0", (f"Qwen/{name}-Base",))


def _smollm2(name: str, parameters: int, **shape: int) -> Published:
    fields = _shape(**shape, vocab_size=49_152, max_position_embeddings=8192, tie_word_embeddings=True)
    full = f"HuggingFaceTB/{name}"
    return Published(full, "llama", fields, parameters, "Apache-2.0", (f"{full}-Instruct",))


def _r1(name: str, kind: str, parameters: int, licence: str, vocabulary: int, **shape: int) -> Published:
    fields = _shape(**shape, vocab_size=vocabulary, max_position_embeddings=131_072, tie_word_embeddings=False)
    return Published(f"deepseek-ai/{name}", kind, fields, parameters, licence)


CATALOGUE = (
    _qwen3("Qwen3-0.6B", 596_049_920, tied=True, hidden=1024, inner=3072, layers=28, heads=16, shared=8),
    _qwen3("Qwen3-1.7B", 1_720_574_976, tied=True, hidden=2048, inner=6144, layers=28, heads=16, shared=8),
    _qwen3("Qwen3-4B", 4_022_468_096, tied=True, hidden=2560, inner=9728, layers=36, heads=32, shared=8),
    _qwen3("Qwen3-8B", 8_190_735_360, tied=False, hidden=4096, inner=12_288, layers=36, heads=32, shared=8),
    _smollm2("SmolLM2-135M", 134_515_008, hidden=576, inner=1536, layers=30, heads=9, shared=3),
    _smollm2("SmolLM2-360M", 361_821_120, hidden=960, inner=2560, layers=32, heads=15, shared=5),
    _smollm2("SmolLM2-1.7B", 1_711_376_384, hidden=2048, inner=8192, layers=24, heads=32, shared=32),
    Published(
        "HuggingFaceTB/SmolLM3-3B",
        "smollm3",
        _shape(
            *(2048, 11_008, 36, 16, 4),
            vocab_size=128_256,
            max_position_embeddings=65_536,
            tie_word_embeddings=True,
        ),
        3_075_098_624,
        "Apache-2.0",
        ("HuggingFaceTB/SmolLM3-3B-Base",),
    ),
    _r1(
        *("DeepSeek-R1-Distill-Qwen-1.5B", "qwen2", 1_777_088_000, "MIT", 151_936),
        **{"hidden": 1536, "inner": 8960, "layers": 28, "heads": 12, "shared": 2},
    ),
    _r1(
        *("DeepSeek-R1-Distill-Qwen-7B", "qwen2", 7_615_616_512, "MIT", 152_064),
        **{"hidden": 3584, "inner": 18_944, "layers": 28, "heads": 28, "shared": 4},
    ),
    _r1(
        *("DeepSeek-R1-Distill-Llama-8B", "llama", 8_030_261_248, "MIT, and the licence of Llama 3.1", 128_256),
        **{"hidden": 4096, "inner": 14_336, "layers": 32, "heads": 32, "shared": 8},
    ),
)


def published(name: str) -> Published | None:
    """A model of the catalogue by its hub id or that of a sister; case does not matter."""
    wanted = name.casefold()
    return next((m for m in CATALOGUE if wanted in {each.casefold() for each in (m.name, *m.aliases)}), None)


def config_of(model: Published) -> Any:
    """Its configuration as transformers reads it."""
    return AutoConfig.for_model(model.kind, **model.fields)


def without_storage(config: Any) -> Any:
    """A model of a configuration that has shapes and no numbers."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def counted(config: Any) -> int:
    """Distinct parameters of a configuration, counted on a model without storage; tied weights once."""
    return sum({id(p): math.prod(p.shape) for p in without_storage(config).parameters()}.values())
