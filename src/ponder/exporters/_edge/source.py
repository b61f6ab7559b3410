"""A model folder that is to be exported by somebody else's tool, checked before that tool sees it."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM

from ponder.core.chat import Chat
from ponder.core.errors import ConfigurationError, DataError
from ponder.core.types import Message, Record
from ponder.models.load import check_folder, load_tokenizer

_log = logging.getLogger("ponder.exporters")
HEAD = "lm_head.weight"
_PROBE = (Message(role="user", content="q"),)


class Shape(Record):
    """Sizes that an artefact must have too."""

    family: str
    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    norm_eps: float
    rope_theta: float
    tied: bool


def checked_source(model: Path, families: Collection[str]) -> tuple[Shape, Chat]:
    """The shape and chat format of a folder, all of whose files are sound.

    Args:
        model: The folder.
        families: `model_type` of the architectures that were compared with the trained model after an export.

    Raises:
        ConfigurationError: If it would be computed, cut into tokens or begun otherwise there.
        DataError: If weights are missing, misshapen or not finite.
    """
    check_folder(model)
    shape = read_shape(model, families)
    _check_weights(model, shape)
    chat = Chat(load_tokenizer(model))
    _check_tokenizer(chat, shape)
    return shape, chat


def read_shape(model: Path, families: Collection[str]) -> Shape:
    """What `config.json` says.

    Raises:
        ConfigurationError: If the architecture is another, or has a variant that was never compared.
    """
    config: dict[str, Any] = json.loads((model / "config.json").read_text(encoding="utf-8"))
    where = str(model / "config.json")
    if config.get("model_type") not in families:
        raise ConfigurationError(
            f"this form is written for {', '.join(families)}, not for {config.get('model_type')!r}", where=where
        )
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    _refuse_variants(config, rope.get("rope_type", rope.get("type", "default")), where)
    try:
        width, heads = config["hidden_size"], config["num_attention_heads"]
        return Shape(
            family=config["model_type"],
            layers=config["num_hidden_layers"],
            width=width,
            inner=config["intermediate_size"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or width // heads,
            vocabulary=config["vocab_size"],
            context=config["max_position_embeddings"],
            norm_eps=config["rms_norm_eps"],
            rope_theta=rope.get("rope_theta") or config.get("rope_theta", 10_000.0),
            tied=config.get("tie_word_embeddings", False),
        )
    except KeyError as error:
        raise ConfigurationError(f"config.json does not say {error.args[0]}", where=where) from error
    except ValueError as error:
        raise ConfigurationError("config.json gives a size of the wrong kind", where=where) from error


def _refuse_variants(config: dict[str, Any], scaling: str, where: str) -> None:
    wrong = {
        "hidden_act": config.get("hidden_act", "silu") != "silu",
        "sliding_window": bool(config.get("use_sliding_window")) or _slides(config),
        "attention_bias": bool(config.get("attention_bias")) and config["model_type"] != "qwen2",
        "mlp_bias": bool(config.get("mlp_bias")),
        "layer_types": any(kind != "full_attention" for kind in config.get("layer_types") or ()),
        "quantization_config": "quantization_config" in config,
        "partial_rotary_factor": config.get("partial_rotary_factor", 1.0) != 1.0,
        "rope_scaling": scaling != "default",
    }
    for name, refused in wrong.items():
        if refused:
            raise ConfigurationError(f"{name} of this model was never compared after such an export", where=where)


def _slides(config: dict[str, Any]) -> bool:
    return config["model_type"] == "mistral" and config.get("sliding_window") is not None


def _check_weights(model: Path, shape: Shape) -> None:
    """Every tensor that the architecture has, in its shape and finite: the tools fill gaps with random numbers."""
    try:
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model, local_files_only=True))
    except (StrictDataclassError, ValueError, KeyError) as error:
        where = str(model / "config.json")
        raise ConfigurationError(f"config.json is not one of this architecture: {error}", where=where) from error
    missing = {name: tuple(tensor.shape) for name, tensor in empty.state_dict().items()}
    if shape.tied:
        missing.pop(HEAD, None)
    for shard in sorted(model.glob("*.safetensors")):
        try:
            with safe_open(shard, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118
                    _check_tensor(name, tensors.get_tensor(name), missing.pop(name, None), model)
        except SafetensorError as error:
            raise DataError(f"the weights cannot be read: {error}", where=str(shard)) from error
    if missing:
        raise DataError(f"the tensor {min(missing)} is missing", where=str(model))


def _check_tensor(name: str, tensor: torch.Tensor, wanted: tuple[int, ...] | None, model: Path) -> None:
    if wanted is not None and tuple(tensor.shape) != wanted:
        raise DataError(
            f"the tensor {name} is {list(tensor.shape)}, and config.json asks for {list(wanted)}", where=str(model)
        )
    if not bool(torch.isfinite(tensor).all()):
        raise DataError(f"the tensor {name} has numbers that are not finite", where=str(model))


def _check_tokenizer(chat: Chat, shape: Shape) -> None:
    declared = json.loads(chat.tokenizer.backend_tokenizer.to_str())
    normalizer = (declared.get("normalizer") or {}).get("type")
    if normalizer not in (None, "NFC"):
        raise ConfigurationError(f"text is normalised ({normalizer}), and would not be there", where="tokenizer.json")
    if normalizer is not None:
        _log.warning("characters are not composed (NFC) there as this tokenizer does: compose text before asking")
    if "ByteLevel" not in json.dumps(declared.get("decoder")):
        raise ConfigurationError("only byte-level tokenizers are exported in this form", where="tokenizer.json")
    if len(chat.tokenizer) > shape.vocabulary:
        raise DataError(f"the tokenizer has {len(chat.tokenizer)} ids, and the model {shape.vocabulary}")
    if chat.prompt(_PROBE) != chat.encode(chat.render(_PROBE)):
        raise ConfigurationError(
            "the tokenizer puts a BOS before every text, and nothing would there",
            where="chat template",
            fix="let the chat template begin with {{ bos_token }}",
        )
