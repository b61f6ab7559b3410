"""The weights of a model folder under llama.cpp's names, checked one by one as they are read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Kind
from safetensors import SafetensorError, safe_open

from ponder.core.errors import ConfigurationError, DataError
from ponder.core.types import FloatArray
from ponder.exporters._gguf.blocks import quantised
from ponder.exporters._gguf.mixes import fitting, kind_of
from ponder.exporters._gguf.shape import PAIRED, Shape

F16_MAX = 65_504.0
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
BUFFERS = (".rotary_emb.inv_freq", ".masked_bias", ".attn.bias")
"""Endings of tensors that old checkpoints store though they are no weights."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of the file that is to be written."""

    source: str
    """Its name in the checkpoint; empty where it is computed."""
    name: str
    shape: tuple[int, ...]
    form: Kind
    rotated_heads: int = 0
    """Heads whose rows are reordered for llama.cpp's rotation of neighbours; 0: none."""
    fell_back: bool = False
    """Whether its rows are no whole blocks of what the mix wants for it."""


def entries(shape: Shape, form: str) -> list[Entry]:
    """All tensors in the order in which they are written, each in its part of a mix."""
    found = [_entry(shape, EMBEDDING, "token_embd.weight", (shape.vocabulary, shape.width), form)]
    if shape.scaling == "llama3":
        found.append(Entry("", "rope_freqs.weight", (shape.head_dim // 2,), Kind.F32))
    for layer in range(shape.layers):
        found += _layer(shape, layer, form)
    found.append(_entry(shape, "model.norm.weight", "output_norm.weight", (shape.width,), form))
    if not shape.tied:
        found.append(_entry(shape, HEAD, "output.weight", (shape.vocabulary, shape.width), form))
    return found


def _layer(shape: Shape, layer: int, form: str) -> Iterator[Entry]:
    here, there = f"model.layers.{layer}.", f"blk.{layer}."
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    paired = shape.family in PAIRED
    matrices = {
        "self_attn.q_proj": ("attn_q", (queries, shape.width), shape.heads if paired else 0),
        "self_attn.k_proj": ("attn_k", (keys, shape.width), shape.kv_heads if paired else 0),
        "self_attn.v_proj": ("attn_v", (keys, shape.width), 0),
        "self_attn.o_proj": ("attn_output", (shape.width, queries), 0),
        "mlp.gate_proj": ("ffn_gate", (shape.inner, shape.width), 0),
        "mlp.up_proj": ("ffn_up", (shape.inner, shape.width), 0),
        "mlp.down_proj": ("ffn_down", (shape.width, shape.inner), 0),
        "input_layernorm": ("attn_norm", (shape.width,), 0),
        "post_attention_layernorm": ("ffn_norm", (shape.width,), 0),
    }
    if shape.family == "qwen3":
        matrices["self_attn.q_norm"] = ("attn_q_norm", (shape.head_dim,), 0)
        matrices["self_attn.k_norm"] = ("attn_k_norm", (shape.head_dim,), 0)
    for source, (name, size, heads) in matrices.items():
        yield _entry(shape, f"{here}{source}.weight", f"{there}{name}.weight", size, form, heads)
    if shape.family == "qwen2":
        for source, name, size in (("q", "attn_q", queries), ("k", "attn_k", keys), ("v", "attn_v", keys)):
            yield _entry(shape, f"{here}self_attn.{source}_proj.bias", f"{there}{name}.bias", (size,), form)


def _entry(shape: Shape, source: str, name: str, size: tuple[int, ...], form: str, rotated_heads: int = 0) -> Entry:
    if len(size) == 1:
        return Entry(source, name, size, Kind.F32)
    wanted = kind_of(form, name, shape.layers, shape.heads // shape.kv_heads, shape.tied)
    kind = fitting(wanted, size[-1])
    return Entry(source, name, size, kind, rotated_heads, kind is not wanted)


class Checkpoint:
    """The safetensors of a model folder, in one file or in shards.

    Args:
        model: Folder.

    Raises:
        DataError: If a shard is missing or is no safetensors file.
    """

    def __init__(self, model: Path) -> None:
        """Find out which file holds which tensor; nothing is read yet."""
        self._model = model
        self._files: dict[str, Path] = {}
        for path in self._shards():
            try:
                with safe_open(path, framework="pt") as opened:
                    self._files |= dict.fromkeys(opened.keys(), path)
            except (SafetensorError, OSError) as error:
                raise DataError(f"not a whole safetensors file: {error}", where=str(path)) from error
        self._same_as_declared()

    def _declared(self) -> dict[str, str]:
        """File of every tensor as the index says; empty without one."""
        index = self._model / "model.safetensors.index.json"
        if not index.exists():
            return {}
        try:
            return dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError("the index of the shards cannot be read", where=str(index)) from error

    def _shards(self) -> list[Path]:
        names = sorted(set(self._declared().values())) or ["model.safetensors"]
        for name in names:
            if Path(name).name != name or not (self._model / name).is_file():
                raise DataError(f"a file of weights is missing: {name}", where=str(self._model), fix="fetch it again")
        return [self._model / name for name in names]

    def _same_as_declared(self) -> None:
        for tensor, name in self._declared().items():
            if tensor not in self._files or self._files[tensor].name != name:
                raise DataError(f"the tensor {tensor} is not in {name}", where=str(self._model), fix="fetch it again")

    def check(self, wanted: list[Entry], tied: bool) -> None:
        """Make sure that the folder holds these tensors, in these shapes, and no others.

        Raises:
            DataError: Naming the first that is missing, misshapen or unknown.
        """
        for entry in wanted:
            if not entry.source:
                continue
            if entry.source not in self._files:
                raise DataError(f"the tensor {entry.source} is missing", where=str(self._model))
            found = tuple(self._open(entry.source, lambda opened, name: opened.get_slice(name).get_shape()))
            if found != entry.shape:
                raise DataError(
                    f"the tensor {entry.source} is {list(found)}, and config.json asks for {list(entry.shape)}",
                    where=str(self._model),
                )
        left = self._files.keys() - {entry.source for entry in wanted}
        if tied and HEAD in left:
            if not np.array_equal(self.read(HEAD), self.read(EMBEDDING)):
                raise DataError("the output layer is declared tied, but is not the embedding", where=str(self._model))
            left -= {HEAD}
        left = {name for name in left if not name.endswith(BUFFERS)}
        if left:
            raise DataError(
                f"{len(left)} tensors have no place in a GGUF of this architecture, such as {min(left)}",
                where=str(self._model),
                fix="merge adapters before the export",
            )

    def read(self, name: str) -> FloatArray:
        """One tensor in float32.

        Raises:
            ConfigurationError: If it is not made of floating-point numbers.
            DataError: If some of them are not finite.
        """
        tensor = self._open(name, lambda opened, key: opened.get_tensor(key))
        if not tensor.is_floating_point():
            raise ConfigurationError(f"the tensor {name} is quantised ({tensor.dtype})", where=str(self._model))
        values = tensor.float().numpy()
        if not np.isfinite(values).all():
            raise DataError(
                f"the tensor {name} has numbers that are not finite",
                where=str(self._model),
                fix="the weights have diverged: export an earlier checkpoint",
            )
        return values

    def _open(self, name: str, read: Any) -> Any:
        with safe_open(self._files[name], framework="pt") as opened:
            return read(opened, name)


def values_of(entry: Entry, checkpoint: Checkpoint, shape: Shape) -> FloatArray:
    """The numbers of one tensor in llama.cpp's order.

    Raises:
        DataError: If a number is not finite.
    """
    if entry.source:
        values = checkpoint.read(entry.source)
    else:
        factors = shape.frequency_factors()
        assert factors is not None
        values = factors
    return neighbours(values, entry.rotated_heads) if entry.rotated_heads else values


def data_of(
    entry: Entry, checkpoint: Checkpoint, shape: Shape, importance: FloatArray | None = None
) -> np.ndarray[Any, Any]:
    """The bytes of one tensor as the file holds them.

    Args:
        entry: Which.
        checkpoint: Where its numbers are.
        shape: Of the model.
        importance: (columns,) of the inputs that it is multiplied with; see `models.importance`.

    Raises:
        DataError: If a number is not finite, or too large for float16.
        PonderError: If llama.cpp's quantiser made something else of it.
    """
    values = values_of(entry, checkpoint, shape)
    if entry.form is Kind.F16 and np.abs(values).max(initial=0.0) > F16_MAX:
        raise DataError(f"the tensor {entry.source} has numbers too large for float16", fix="export bf16 or f32")
    return quantised(values, entry.form, importance, entry.source)


def neighbours(values: FloatArray, heads: int) -> FloatArray:
    """Rows (heads * d, ...) of a projection for a rotation that pairs neighbours instead of halves of a head."""
    return values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
