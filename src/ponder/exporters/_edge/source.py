"""A model folder that is to be exported by somebody else's tool, checked before that tool sees it."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM

from ponder.core.chat import Chat
from ponder.core.errors import ConfigurationError, DataError
from ponder.core.types import Message
from ponder.exporters._shape import Shape, read_config, refuse_variants, scaling_of, shape_of
from ponder.models.load import check_folder, load_tokenizer

_log = logging.getLogger("ponder.exporters")
HEAD = "lm_head.weight"
_PROBE = (Message(role="user", content="q"),)


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
    config, where = read_config(model), str(model / "config.json")
    if config.get("model_type") not in families:
        raise ConfigurationError(
            f"this form is written for {', '.join(families)}, not for {config.get('model_type')!r}", where=where
        )
    why = "was never compared after such an export"
    refuse_variants(config, where, why, rope_scaling=scaling_of(config) != "default")
    return shape_of(Shape, config, where)


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
