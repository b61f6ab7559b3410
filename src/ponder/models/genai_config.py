"""The `genai_config.json` of a folder for ONNX Runtime GenAI, read as something a stranger may have written.

The library opens what stands there: weights by a path, and native libraries by name. Nothing but a decoder whose graph
lies in the folder is let through.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ponder.core.errors import DataError
from ponder.core.types import Record

CONFIG = "genai_config.json"
MOST_BYTES = 2**20
FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""`model.type` of what is run: those whose answers were compared with the trained model's. SmolLM3's are others."""
HARMLESS = {"log_id", "provider_options", "intra_op_num_threads", "inter_op_num_threads", "graph_optimization_level"}
"""Session options that are borne; `custom_ops_library`, for one, would load native code."""
LARGEST = 2**31


class GenaiConfig(Record):
    """What is believed of the file."""

    family: str
    weights: str
    """File of the graph, in the same folder."""
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    """Positions of prompt and answer together."""
    ends: tuple[int, ...]
    """Tokens that end a turn."""
    begin: int | None
    padding: int | None


def read_genai_config(folder: Path) -> GenaiConfig:
    """The checked configuration of a folder.

    Raises:
        DataError: If it is not there, is not what the library writes for a text model, or names files elsewhere.
    """
    path = folder / CONFIG
    declared = _parsed(path)
    try:
        model = declared["model"]
        decoder = model["decoder"]
        _check_decoder(decoder, path)
        ends = model["eos_token_id"]
        found = GenaiConfig(
            family=model["type"],
            weights=decoder["filename"],
            layers=decoder["num_hidden_layers"],
            width=decoder["hidden_size"],
            heads=decoder["num_attention_heads"],
            kv_heads=decoder["num_key_value_heads"],
            head_dim=decoder["head_size"],
            vocabulary=model["vocab_size"],
            context=model["context_length"],
            ends=tuple(ends) if isinstance(ends, list) else (ends,),
            begin=model.get("bos_token_id"),
            padding=model.get("pad_token_id"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError("this genai_config.json is not one of a text model", where=str(path)) from error
    _check_values(found, folder)
    return found


def _parsed(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise DataError("genai_config.json is far too large", where=str(path))
        return json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError("genai_config.json cannot be read", where=str(path)) from error


def _check_decoder(decoder: dict[str, Any], path: Path) -> None:
    """Refuse whatever loads more than the graph."""
    options = decoder.get("session_options", {})
    odd = set(options) - HARMLESS
    odd |= {"pipeline", "adapters", "run_options"} & set(decoder)
    if odd or options.get("provider_options"):
        named = ", ".join(sorted(odd)) or "provider_options"
        raise DataError(f"this artefact asks for {named}, which may load code", where=str(path))


def _check_values(config: GenaiConfig, folder: Path) -> None:
    where = str(folder / CONFIG)
    if config.family not in FAMILIES:
        raise DataError(f"models of type {config.family!r} are not run", where=where)
    sizes = ("layers", "width", "heads", "kv_heads", "head_dim", "vocabulary", "context")
    for name in sizes:
        if not 0 < getattr(config, name) < LARGEST:
            raise DataError(f"{name} is {getattr(config, name)}", where=where)
    if not config.ends or not all(0 <= end < config.vocabulary for end in config.ends):
        raise DataError("no token of the vocabulary ends a turn", where=where)
    weights = folder / config.weights
    if Path(config.weights).name != config.weights or weights.is_symlink() or not weights.is_file():
        raise DataError(f"the graph {config.weights!r} is no file of this folder", where=where)
