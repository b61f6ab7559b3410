"""Writes a model as a folder for ONNX Runtime GenAI, which runs on Windows, Android, iOS and from C++, C# and Java."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from ponder.core.chat import Chat
from ponder.core.errors import DataError, ResourceError
from ponder.core.protocols import Exporter
from ponder.core.types import Record
from ponder.exporters._edge.source import checked_source, read_shape
from ponder.exporters._edge.tool import call
from ponder.exporters._shape import Shape
from ponder.models.genai_config import CONFIG, FAMILIES, GenaiConfig, read_genai_config
from ponder.models.load import load_tokenizer
from ponder.runs.files import atomic_folder, require_space

BUILDER = "onnxruntime_genai.models.builder"
OPTIONS = {
    "fp32": ("fp32", ()),
    "int8": ("int8", ()),
    "int4": ("int4", ("algo_config=k_quant_mixed",)),
}
"""The builder's precision of each form, and what else it is told; docs/edge.md has the measurements behind it."""
TEMPLATE = "chat_template.jinja"
BYTES_PER_WEIGHT = 6
"""Free disk for each parameter: what is written, and what is written on the way there."""


class Onnx(Record):
    """A folder of a Qwen2, Qwen3, Llama or Mistral model, made by the library's own builder.

    Everything that would be computed, cut into tokens or rendered otherwise there is refused.
    """

    form: Literal["int4", "int8", "fp32"] = "int4"
    """Of matrices: int4 (about 0.6 bytes a weight), int8 or fp32; the rest stays float32."""
    name: str = ""
    """Of the folder; by default the model's."""

    def __call__(self, model: Path, out: Path) -> Path:
        """Write the folder `NAME-onnx-FORM`, whole or not at all; one of that name is replaced.

        Raises:
            ConfigurationError: If architecture, tokenizer or template cannot be expressed.
            DataError: If weights are missing, misshapen or not finite.
            ResourceError: If the builder is not installed, or the disk is full or not ours.
        """
        _require_builder()
        shape, chat = checked_source(model, FAMILIES)
        require_space(out, BYTES_PER_WEIGHT * sum(file.stat().st_size for file in model.glob("*.safetensors")) // 2)
        path = out / f"{self.name or model.resolve().name}-onnx-{self.form}"
        precision, options = OPTIONS[self.form]
        with atomic_folder(path) as folder:
            work = folder / "work"
            work.mkdir()
            command = [sys.executable, "-m", BUILDER, "-i", str(model.resolve()), "-o", str(folder), "-p", precision]
            command += ["-e", "cpu", "-c", str(work), "--extra_options", "hf_token=false", *options]
            call(command, work, "the model builder of onnxruntime-genai")
            shutil.rmtree(work, ignore_errors=True)  # the builder itself removes an empty one
            (folder / TEMPLATE).write_text(chat.template, encoding="utf-8")
            _name_ends(folder, chat)
            for _, text in _told_otherwise(shape, chat, folder):
                raise DataError(f"the builder wrote something else than this model: {text}", where=str(path))
        return path

    def differences(self, model: Path, artefact: Path) -> list[tuple[str, str]]:
        """See `ponder.core.protocols.Inspector`."""
        return list(_told_otherwise(read_shape(model, FAMILIES), Chat(load_tokenizer(model)), artefact))


def _require_builder() -> None:
    missing = [name for name in ("onnxruntime_genai", "onnx", "onnx_ir") if importlib.util.find_spec(name) is None]
    if missing:
        raise ResourceError(
            f"this form needs the package {missing[0]!r}, which is not installed", fix="pip install 'ponder[onnx]'"
        )


def _name_ends(folder: Path, chat: Chat) -> None:
    """Every token that ends a turn: the builder knows those of `generation_config.json`, and not the template's."""
    path = folder / CONFIG
    declared = json.loads(path.read_text(encoding="utf-8"))
    declared["model"]["eos_token_id"] = [chat.end_id, *sorted(chat.stop_ids - {chat.end_id})]
    path.write_text(json.dumps(declared, indent=4) + "\n", encoding="utf-8")


def _told_otherwise(shape: Shape, chat: Chat, folder: Path) -> Iterator[tuple[str, str]]:
    """(name, sentence) of everything beside the graph that is not the model's."""
    config = read_genai_config(folder)
    yield from _other_sizes(shape, config)
    if set(config.ends) != chat.stop_ids:
        yield "end_of_turn", f"the tokens {sorted(config.ends)} end a turn, and the model has {sorted(chat.stop_ids)}"
    begin = chat.tokenizer.bos_token_id
    if begin is not None and config.begin != begin:
        yield "bos", f"token {config.begin} begins a text, and the model has {begin}"
    try:
        template = (folder / TEMPLATE).read_text(encoding="utf-8")
        tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        yield "tokenizer", f"tokenizer or template cannot be read ({type(error).__name__})"
        return
    if template != chat.template:
        yield "template", "the chat template is another"
    own = json.loads(chat.tokenizer.backend_tokenizer.to_str())
    for part in ("normalizer", "pre_tokenizer", "model", "added_tokens"):
        if _plain(tokenizer.get(part)) != _plain(own.get(part)):
            yield "tokenizer", f"the tokenizer is another: {part}"


def _other_sizes(shape: Shape, config: GenaiConfig) -> Iterator[tuple[str, str]]:
    names = ("family", "layers", "width", "heads", "kv_heads", "head_dim", "vocabulary", "context")
    for name in names:
        own, found = getattr(shape, name), getattr(config, name)
        if own != found:
            yield "shape", f"{name} is {found}, and the model has {own}"


def _plain(part: Any) -> Any:
    """Without the two ways in which merges are written."""
    if isinstance(part, dict) and "merges" in part:
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in part["merges"]]
        return part | {"merges": merges}
    return part


plugin: type[Exporter] = Onnx
