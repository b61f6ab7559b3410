"""Adapters on the disk, in PEFT's form: one safetensors file of factors and the settings beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from ponder.core.errors import ConfigurationError
from ponder.core.types import Json
from ponder.models.lora import Adapter, Lora, change, targeted
from ponder.models.safe_header import read_safe_header
from ponder.runs.store import atomic_folder

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
PREFIX = "base_model.model."
PARTS = {"lora_A": ".lora_A.weight", "lora_B": ".lora_B.weight"}
UNKNOWN = ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "lora_bias",
           "layer_replication", "trainable_token_indices", "target_parameters", "use_qalora", "use_bdlora",
           "alora_invocation_tokens", "arrow_config", "ensure_weight_tying")  # fmt: skip
"""Settings of PEFT that change what an adapter computes, and that are not understood here unless they are off."""


@dataclass(frozen=True, slots=True)
class StoredAdapter:
    """An adapter as a folder holds it."""

    path: Path
    base: str
    """Name of the model it changes."""
    adapter: Adapter
    factors: dict[str, tuple[Tensor, Tensor]]
    """A (rank, in) and B (out, rank) by layer."""


def is_adapter(path: Path) -> bool:
    """Whether a folder holds an adapter and no model."""
    return (path / CONFIG).is_file() and not (path / "config.json").is_file()


def save_adapter(lora: Lora, base: str, path: Path) -> None:
    """Write an adapter atomically.

    Args:
        lora: What to save.
        base: Name of the model that it changes, as it is to be written; see `ponder.models.load.lasting_name`.
        path: Folder to create or replace.
    """
    tensors = {
        f"{PREFIX}{name}{PARTS[key]}": parameter.detach().to("cpu").contiguous()
        for full, parameter in lora.parameters.items()
        for name, _, key in [full.rpartition(".")]
    }
    adapter = lora.adapter
    declared = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "target_modules": _target_modules(lora),
        "lora_dropout": 0.0,
        "use_rslora": adapter.rslora,
        "bias": "none",
        "inference_mode": True,
    }
    with atomic_folder(path) as folder:
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / CONFIG).write_text(json.dumps(declared, indent=2) + "\n", encoding="utf-8")


def _target_modules(lora: Lora) -> list[str]:
    """Short names where the adapter was asked for by them; PEFT finds the same layers by either."""
    if isinstance(lora.adapter.targets, tuple):
        return list(lora.adapter.targets)
    return sorted({name.rpartition(".")[2] for name in lora.layers})


def base_of(path: Path) -> str:
    """The model that an adapter folder says it changes.

    Raises:
        ConfigurationError: If it says none.
    """
    base = _declared(path).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ConfigurationError(
            "this adapter does not say which model it changes",
            where=str(path / CONFIG),
            fix="write the model's folder or hub id under base_model_name_or_path",
        )
    return base


def refuse_chain(path: Path, base: Path) -> None:
    """Refuse an adapter whose base is an adapter too.

    Raises:
        ConfigurationError: If it is.
    """
    if is_adapter(base):
        raise ConfigurationError(
            "the base of this adapter is an adapter too",
            where=str(path),
            fix="merge the first one into a model of its own (stage `merge`)",
        )


def read_adapter(path: Path) -> StoredAdapter:
    """The adapter of a folder, checked.

    Raises:
        ConfigurationError: If it is pickled, damaged, or computes something that is not understood here.
    """
    declared, base = _declared(path), base_of(path)
    adapter = _settings(declared, path / CONFIG)
    if not (path / WEIGHTS).is_file():
        pickled = (path / PICKLE).exists()
        raise ConfigurationError(
            f"the adapter is only present as pickle ({PICKLE}), which can run code when opened"
            if pickled
            else f"{WEIGHTS} is missing",
            where=str(path),
            fix="save it again on a machine you can lose: save_pretrained(folder, safe_serialization=True)"
            if pickled
            else "save the adapter again",
        )
    read_safe_header(path / WEIGHTS)
    try:
        tensors = load_file(path / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise ConfigurationError(f"the adapter's weights cannot be read: {error}", where=str(path / WEIGHTS)) from error
    return StoredAdapter(path, base, adapter, _factors(tensors, adapter, path / WEIGHTS))


def merge(model: PreTrainedModel, stored: StoredAdapter) -> None:
    """Add an adapter to the weights of its base, for good.

    Raises:
        ConfigurationError: If a layer is missing, of another shape or tied; nothing is changed then.
    """
    linear = {name: module for name, module in model.named_modules() if type(module) is nn.Linear}
    for name, (a, b) in stored.factors.items():
        if name not in linear or linear[name].weight.shape != (b.shape[0], a.shape[1]):
            raise ConfigurationError(
                f"the adapter does not fit this model at {name}",
                where=str(stored.path),
                fix=f"it was made for {stored.base}: name the model it was trained on",
            )
    layers = targeted(model, tuple(stored.factors))
    for name, (a, b) in stored.factors.items():
        weight = layers[name].weight
        change(weight, weight.detach().clone(), a, b, stored.adapter.scale)


def _declared(path: Path) -> Json:
    file = path / CONFIG
    try:
        declared = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"not an adapter: {CONFIG} is missing", where=str(path)) from error
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"{CONFIG} is not valid JSON", where=str(file)) from error
    if not isinstance(declared, dict):
        raise ConfigurationError(f"{CONFIG} is not an object", where=str(file))
    return declared


def _settings(declared: dict[str, Any], file: Path) -> Adapter:
    strange = [key for key in UNKNOWN if declared.get(key)]
    if declared.get("peft_type") != "LORA":
        strange = ["peft_type"]
    if declared.get("bias", "none") != "none":
        strange.append("bias")
    if declared.get("init_lora_weights", True) not in (True, False, "gaussian", "eva", "orthogonal", "default"):
        strange.append("init_lora_weights")  # PiSSA and its kin change the base as well
    if strange:
        key = strange[0]
        raise ConfigurationError(
            f"this adapter is not plain LoRA: {key} is {declared.get(key)!r}",
            where=str(file),
            fix="merge it with PEFT (merge_and_unload) and use the merged model",
        )
    try:
        return Adapter(
            rank=declared["r"],
            alpha=declared["lora_alpha"],
            targets="all-linear",
            rslora=bool(declared.get("use_rslora", False)),
        )
    except (KeyError, ValidationError) as error:
        raise ConfigurationError("the adapter's r or lora_alpha is missing or no number", where=str(file)) from error


def _factors(tensors: dict[str, Tensor], adapter: Adapter, file: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Pairs of factors by layer; every tensor must be one of a pair, of the right rank and finite."""
    ends = tuple(PARTS.values())
    names = {key.removeprefix(PREFIX).removesuffix(end) for key in tensors for end in ends if key.endswith(end)}
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for name in sorted(names):
        a, b = (tensors.get(f"{PREFIX}{name}{end}") for end in ends)
        if a is None or b is None or not _fit(a, b, adapter.rank):
            raise ConfigurationError(f"the factors of {name} do not fit each other", where=str(file))
        if not (a.isfinite().all() and b.isfinite().all()):
            raise ConfigurationError(f"the factors of {name} hold a number that is not finite", where=str(file))
        pairs[name] = a.to(torch.float32), b.to(torch.float32)
    strange = len(tensors) - 2 * len(pairs)
    if strange or not pairs:
        what = f"{strange} tensors that are no LoRA factors" if strange else "no factors"
        raise ConfigurationError(f"the adapter holds {what}", where=str(file))
    return pairs


def _fit(a: Tensor, b: Tensor, rank: int) -> bool:
    return a.ndim == b.ndim == 2 and a.shape[0] == b.shape[1] == rank
