"""Reads a GGUF file back and compares everything stored in it with the model it was made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf import quants

from ponder.core.errors import DataError
from ponder.core.types import FloatArray
from ponder.exporters._gguf.blocks import LARGEST_ERROR
from ponder.exporters._gguf.shape import Shape
from ponder.exporters._gguf.tensors import Checkpoint, Entry, entries, values_of
from ponder.models.gguf_header import GgufHeader, GgufTensor, read_header

BLOCK = 256
"""Numbers that are looked at together: a damaged block is lost in the mean of a large tensor."""
DAMAGED = 0.95
"""Error of a block over its numbers: half-right bits do not come near it."""
SAME = 1e-6
"""Relative difference of numbers that are stored in float32."""
IGNORED = ("general.file_type", "general.name", "general.quantization_version")
_NAMES = (
    ("tokenizer.chat_template", "template", "the chat template is another"),
    ("tokenizer.ggml.eos_token_id", "end_of_turn", "another token ends a turn"),
    ("tokenizer.ggml.eot_token_id", "end_of_turn", "another token ends a turn"),
    ("tokenizer.ggml.bos_token_id", "bos", "another token begins a text"),
    ("tokenizer.ggml.add_bos_token", "bos", "a token begins a text that did not, or no more"),
    ("tokenizer.", "tokenizer", "the tokenizer is another"),
)
_ROTATION = (".rope.", "rotation", "the positions are rotated otherwise")


def told_otherwise(expected: Mapping[str, Any], artefact: Path) -> list[tuple[str, str]]:
    """(name, sentence) of every key that says something else than the model."""
    header = read_header(artefact)
    found: dict[tuple[str, str], str] = {}
    for key in sorted(expected.keys() | header.metadata.keys()):
        if key in IGNORED or (key.startswith("general.") and key not in expected):
            continue
        before, now = expected.get(key), header.metadata.get(key)
        if not _equal(before, now):
            name, text = _named(key)
            found.setdefault((name, text), f"{text}: {key} is {_short(now)}, and the model has {_short(before)}")
    return [(name, text) for (name, _), text in found.items()]


def stored_otherwise(shape: Shape, checkpoint: Checkpoint, artefact: Path) -> Iterator[tuple[str, str]]:
    """(name, sentence) of every tensor whose numbers are not the model's, as far as its form can say them."""
    header = read_header(artefact)
    wanted = {entry.name: entry for entry in entries(shape, "f32")}
    for name in sorted(wanted.keys() ^ header.tensors.keys()):
        yield "weights", f"the tensor {name} is {'missing' if name in wanted else 'not of this model'}"
    for name in wanted.keys() & header.tensors.keys():
        entry, tensor = wanted[name], header.tensors[name]
        if tensor.shape[::-1] != entry.shape:
            yield "weights", f"the tensor {name} is {list(tensor.shape[::-1])}, and the model has {list(entry.shape)}"
            continue
        text = _compared(entry, tensor, values_of(entry, checkpoint, shape), artefact)
        if text:
            yield "weights", text


def stored_values(header: GgufHeader, name: str, artefact: Path) -> FloatArray:
    """The numbers of a tensor as the file has them.

    Raises:
        DataError: If one of them is not finite.
    """
    tensor = header.tensors[name]
    kind = Kind[tensor.kind]
    raw = np.fromfile(artefact, np.uint8, tensor.bytes, offset=tensor.offset)
    with np.errstate(invalid="ignore", over="ignore"):
        if kind in (Kind.F32, Kind.F16):
            values = raw.view(np.float32 if kind is Kind.F32 else np.float16).astype(np.float32)
        else:
            values = quants.dequantize(raw.reshape(-1, tensor.bytes // max(1, int(np.prod(tensor.shape[1:])))), kind)
    if not np.isfinite(values).all():
        raise DataError(f"the tensor {name} has numbers that are not finite", where=str(artefact))
    return values.reshape(tensor.shape[::-1])


def _compared(entry: Entry, tensor: GgufTensor, expected: FloatArray, artefact: Path) -> str:
    """What is wrong with a tensor; empty when nothing is."""
    try:
        found = stored_values(GgufHeader({}, {entry.name: tensor}, 0), entry.name, artefact)
    except DataError as error:
        return error.what
    wrong = (found.astype(np.float64) - expected).ravel()
    size = float(np.sqrt(np.mean(expected.astype(np.float64) ** 2)))
    share = float(np.sqrt(np.mean(wrong**2))) / size if size else float(np.abs(wrong).max(initial=0.0))
    if share > LARGEST_ERROR.get(Kind[tensor.kind], SAME):
        return f"the tensor {entry.name} differs from the model by {100 * share:.1f} % of its numbers' size"
    padding = -len(wrong) % BLOCK
    blocks = np.pad(wrong, (0, padding)).reshape(-1, BLOCK)
    sizes = np.pad(expected.astype(np.float64).ravel(), (0, padding)).reshape(-1, BLOCK)
    errors = np.sqrt((blocks**2).sum(1)) / np.maximum(np.sqrt((sizes**2).sum(1)), 1e-9 + 1e-3 * size)
    worst = int(errors.argmax())
    if errors[worst] > DAMAGED:
        return f"the numbers {worst * BLOCK} to {worst * BLOCK + BLOCK - 1} of the tensor {entry.name} are damaged"
    return ""


def _equal(before: Any, now: Any) -> bool:
    if isinstance(before, float) and isinstance(now, float | int):
        return abs(before - now) <= SAME * max(abs(before), abs(now))
    if isinstance(before, list | tuple) and isinstance(now, list | tuple):
        return list(before) == list(now)
    return before == now


def _named(key: str) -> tuple[str, str]:
    if _ROTATION[0] in key:
        return _ROTATION[1], _ROTATION[2]
    return next(((name, text) for start, name, text in _NAMES if key.startswith(start)), ("shape", "a size is another"))


def _short(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
