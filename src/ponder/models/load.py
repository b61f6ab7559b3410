"""Loads and saves model folders: safetensors only, no code from the folder, Ponder's attention inside.

A model is named by a shipped pocket model, a folder, or a Hugging Face hub id. The folder may be an adapter's (PEFT):
then it is the model that the adapter changes, with the change in it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from ponder.core.chat import Chat
from ponder.core.errors import ConfigurationError, ResourceError
from ponder.models import attention
from ponder.models.adapters import base_of, is_adapter, merge, read_adapter, refuse_chain
from ponder.models.safe_header import check_index, read_safe_header
from ponder.runs.store import atomic_folder

transformers_logging.disable_progress_bar()  # Ponder shows its own progress, one line per stage

POCKET = ("pocket-base", "pocket-teacher")
HUB_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.txt", "tokenizer.model",
             "README.md", "LICENSE*"]  # fmt: skip

MORE_CONFIGS = ("tokenizer_config.json", "generation_config.json", "processor_config.json", "preprocessor_config.json")
CODE_KEYS = ("auto_map", "_attn_implementation_internal")
"""By which a configuration asks for code."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to sample and to train, with the chat format it was loaded with."""

    model: PreTrainedModel
    chat: Chat
    path: Path


def resolve_model(name: str) -> Path:
    """Folder of a model by name.

    Args:
        name: `pocket-base`, `pocket-teacher`, a folder, or a hub id such as `org/name`.

    Raises:
        ConfigurationError: If the name is none of these.
        ResourceError: If the hub cannot be reached and the model is not cached.
    """
    if name in POCKET:
        return Path(str(files("ponder.pocket"))) / name
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not path.exists():
        return _from_hub(name)
    raise ConfigurationError(
        f"there is no model {name!r}",
        fix=f"name a model folder, a hub id (org/name), or one of {', '.join(POCKET)}",
    )


def _from_hub(name: str) -> Path:
    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise ResourceError(
            f"the model {name!r} is neither a folder nor in the cache, and the hub did not give it",
            where=type(error).__name__,
            fix="check the name and the network, or download the folder elsewhere and name its path",
        ) from error


def check_folder(path: Path) -> None:
    """Refuse a folder that would run code or unpickle, and say what is missing.

    Raises:
        ConfigurationError: If it is no model folder, or asks for code of its own.
        DataError: If a safetensors file in it is damaged or hostile.
    """
    config = path / "config.json"
    if is_adapter(path):
        raise ConfigurationError(
            "this is an adapter, and a whole model is needed here",
            where=str(path),
            fix="merge it first (stage `merge`)",
        )
    try:
        _refuse_code(config)
    except FileNotFoundError as error:
        raise ConfigurationError("not a model folder: config.json is missing", where=str(path)) from error
    for name in MORE_CONFIGS:
        if (path / name).exists():
            _refuse_code(path / name)
    if any(path.glob("*.py")):
        raise ConfigurationError(
            f"a model folder holds data, and this one holds a program ({min(path.glob('*.py')).name})",
            where=str(path),
            fix="if the model works without it, move it elsewhere",
        )
    shards = sorted(path.glob("*.safetensors"))
    if shards:
        check_index(path)
        for shard in shards:
            read_safe_header(shard)
        return
    pickles = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in path.glob(pattern))
    if pickles:
        raise ConfigurationError(
            f"weights are only present as pickle ({pickles[0]}), which can run code when opened",
            where=str(path),
            fix="convert them on a machine you can lose: model.save_pretrained(folder, safe_serialization=True)",
        )
    raise ConfigurationError("no *.safetensors in the model folder", where=str(path))


def _refuse_code(config: Path) -> None:
    """Refuse a configuration that names code to be run.

    Raises:
        ConfigurationError: If it does, or is no JSON object.
        FileNotFoundError: If it is not there.
    """
    try:
        declared: Any = json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{config.name} is not valid JSON", where=str(config)) from error
    if not isinstance(declared, dict):
        raise ConfigurationError(f"{config.name} is no JSON object", where=str(config))
    for key in CODE_KEYS:
        if key in declared:
            raise ConfigurationError(
                f"this model wants to run code of its own ({key}), which Ponder refuses",
                where=str(config),
                fix="convert it to an architecture that transformers knows",
            )


def load_tokenizer(path: Path) -> Any:
    """The fast tokenizer of a folder, or of an adapter's base, its template included."""
    return AutoTokenizer.from_pretrained(weights_folder(path), local_files_only=True, trust_remote_code=False)


def load_model(name: str, dtype: torch.dtype = torch.float32, device: str | None = None) -> LoadedModel:
    """A causal LM with Ponder's attention function.

    Args:
        name: As for `resolve_model`.
        dtype: Of the weights in memory.
        device: `cpu`, `cuda`, ...; the accelerator when there is one by default.

    Raises:
        ConfigurationError: If the folder is unsafe, incomplete or of an unknown architecture.
    """
    path = resolve_model(name)
    if is_adapter(path):
        return _with_adapter(path, dtype, device)
    check_folder(path)
    attention.register()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            attn_implementation=attention.NAME,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
        chat = Chat(load_tokenizer(path))
    except (ValueError, OSError, KeyError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"this model cannot be loaded: {error}", where=str(path)) from error
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return LoadedModel(model.to(device).eval(), chat, path)  # type: ignore[arg-type]


def _with_adapter(path: Path, dtype: torch.dtype, device: str | None) -> LoadedModel:
    """The base of an adapter with the change in it; added in float32, whatever the weights become.

    Raises:
        ConfigurationError: If the adapter or its base is no such thing, or its base is an adapter too.
    """
    stored = read_adapter(path)
    base = resolve_model(stored.base)
    refuse_chain(path, base)
    loaded = load_model(str(base), torch.float32, device)
    merge(loaded.model, stored)
    return LoadedModel(loaded.model.to(dtype), loaded.chat, path)  # type: ignore[arg-type]


def lasting_name(name: str) -> str:
    """A model's name that means the same from any folder: a relative path becomes a whole one."""
    path = Path(name).expanduser()
    return str(path.resolve()) if name not in POCKET and path.is_dir() else name


def weights_folder(path: Path) -> Path:
    """Where the whole weights of a model folder lie: there, or with the base of an adapter."""
    return resolve_model(base_of(path)) if is_adapter(path) else path


def save_model(model: PreTrainedModel, chat: Chat, path: Path, dtype: torch.dtype | None = None) -> None:
    """Write a complete model folder atomically: weights, configuration, tokenizer and template.

    Args:
        model: What to save; it is not changed.
        chat: Its chat format.
        path: Folder to create or replace.
        dtype: Of the stored weights; as in memory by default.
    """
    own = {tensor.data_ptr(): name for name, tensor in reversed(model.state_dict().items())}  # tied weights once
    state = {
        name: tensor.detach().to("cpu", dtype or tensor.dtype)
        for name, tensor in model.state_dict().items()
        if own[tensor.data_ptr()] == name
    }
    with atomic_folder(path) as folder:
        model.save_pretrained(folder, state_dict=state, safe_serialization=True)
        chat.tokenizer.save_pretrained(folder)
        if dtype is not None:
            _declare_dtype(folder / "config.json", dtype)


def _declare_dtype(config: Path, dtype: torch.dtype) -> None:
    declared = json.loads(config.read_text(encoding="utf-8"))
    declared["dtype"] = str(dtype).removeprefix("torch.")
    config.write_text(json.dumps(declared, indent=2) + "\n", encoding="utf-8")


def parameter_count(model: PreTrainedModel) -> int:
    """Distinct parameters; tied weights count once."""
    return sum({id(p): p.numel() for p in model.parameters()}.values())
