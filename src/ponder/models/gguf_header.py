"""Reads and checks the header of a GGUF file before any native code sees the file, which may come from anyone.

Nothing is allocated that the file does not hold: every length is compared with what is left before it is read.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from ponder.core.errors import DataError, ResourceError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_TENSORS, MAX_KEYS = 65_536, 4_096
MAX_KEY, MAX_NAME = 1_024, 64
MAX_STRING, MAX_TEMPLATE = 4 * 2**20, 2**20
MAX_ITEMS = 2**22
"""Of an array."""
MAX_ALIGNMENT = 2**20
MAX_LAYERS = 1_024
MAX_DIMENSIONS = 4
MAX_NUMBERS = 2**48
"""Of one tensor."""
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}
"""struct's name for each type of value; 7 is a truth value."""
BOOL, STRING, ARRAY = 7, 8, 9
BLOCKS = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4),
    27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip
"""Name, numbers of a block and bytes of a block for each type of tensor; all others are refused."""
_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")


NORMAL, CONTROL, DEFINED = 1, 3, 4
"""Kinds of tokens."""


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """An entry of the table of tensors."""

    name: str
    shape: tuple[int, ...]
    """Fastest dimension first, as the file has it."""
    kind: str
    """Type of its numbers: F32, Q8_0, ..."""
    offset: int
    """Of its data from the beginning of the file, bytes."""
    bytes: int

    @property
    def numbers(self) -> int:
        """How many it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a GGUF file says of itself, found to be consistent."""

    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]
    data_offset: int

    @property
    def architecture(self) -> str:
        """`llama`, `qwen2`, `qwen3`, ..."""
        return self.metadata["general.architecture"]

    def of_model(self, key: str) -> Any:
        """A value of the architecture's own keys, such as `context_length`; None when it is not there."""
        return self.metadata.get(f"{self.architecture}.{key}")

    @property
    def parameters(self) -> int:
        """Numbers of all tensors."""
        return sum(tensor.numbers for tensor in self.tensors.values())

    @property
    def token_kinds(self) -> list[int]:
        """`NORMAL`, `CONTROL`, `DEFINED` or another, of every token."""
        count = len(self.metadata["tokenizer.ggml.tokens"])
        return self.metadata.get("tokenizer.ggml.token_type") or [NORMAL] * count

    @property
    def whole_token(self) -> int:
        """A token that is whole characters: llama.cpp fails to tell probabilities beside one that ends within one."""
        tokens = self.metadata["tokenizer.ggml.tokens"]
        return next((i for i, kind in enumerate(self.token_kinds) if kind == NORMAL and tokens[i].isascii()), 0)


def read_header(path: Path) -> GgufHeader:
    """The header of a GGUF file.

    Raises:
        DataError: If anything in it is not as the format, or a language model, has it; names the place.
        ResourceError: If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            if path.stat().st_size < 24:
                raise DataError("this is no GGUF file: it is too short", where=str(path))
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                header = _Reader(data, str(path)).header()
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise ResourceError(f"this file cannot be read: {error}", where=str(path)) from error
    _check_model(header, str(path))
    return header


@dataclass(slots=True)
class _Reader:
    """Walks over the bytes of a header."""

    data: mmap.mmap
    where: str
    at: int = 0
    _seen: set[str] = field(default_factory=set)

    def header(self) -> GgufHeader:
        if self.take(4) != MAGIC:
            raise self.error("it does not begin with GGUF", at=0)
        version = self.number("<I")
        if version not in VERSIONS:
            raise self.error(f"it has version {version}, and {' and '.join(map(str, VERSIONS))} are known")
        tensors, keys = self.number("<Q"), self.number("<Q")
        if tensors > MAX_TENSORS or keys > MAX_KEYS:
            raise self.error(f"it claims {tensors} tensors and {keys} keys")
        metadata: dict[str, Any] = {}
        for _ in range(keys):
            key = self.string(MAX_KEY)
            if key in metadata:
                raise self.error(f"the key {key!r} is there twice")
            metadata[key] = self.value(key)
        entries = [self.entry() for _ in range(tensors)]
        return GgufHeader(metadata, *self.table(entries, metadata))

    def entry(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, shape, type and offset of a tensor."""
        name = self.string(MAX_NAME)
        if name in self._seen or not name:
            raise self.error(f"the tensor {name!r} is there twice, or has no name")
        self._seen.add(name)
        dimensions = self.number("<I")
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise self.error(f"the tensor {name} has {dimensions} dimensions")
        shape = tuple(self.number("<Q") for _ in range(dimensions))
        if min(shape) < 1 or math.prod(shape) > MAX_NUMBERS:
            raise self.error(f"the tensor {name} has the shape {list(shape)}")
        return name, shape, self.number("<I"), self.number("<Q")

    def table(
        self, entries: list[tuple[str, tuple[int, ...], int, int]], metadata: dict[str, Any]
    ) -> tuple[dict[str, GgufTensor], int]:
        """The tensors where they lie in the file, none over another, and where data begin."""
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 8 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
            raise self.error(f"it claims an alignment of {alignment!r} bytes")
        begin = -(-self.at // alignment) * alignment
        found: dict[str, GgufTensor] = {}
        for name, shape, kind, offset in entries:
            if kind not in BLOCKS:
                raise self.error(f"the tensor {name} is of the unknown type {kind}")
            word, numbers, size = BLOCKS[kind]
            if shape[0] % numbers:
                raise self.error(f"the rows of the tensor {name} are no whole blocks of {word}")
            if offset % alignment:
                raise self.error(f"the tensor {name} is not aligned")
            total = math.prod(shape) // numbers * size
            if begin + offset + total > len(self.data):
                raise self.error(f"the tensor {name} reaches past the end of the file", at=begin + offset)
            found[name] = GgufTensor(name, shape, word, begin + offset, total)
        ordered = sorted(found.values(), key=lambda tensor: tensor.offset)
        for before, after in pairwise(ordered):
            if before.offset + before.bytes > after.offset:
                raise self.error(f"the tensors {before.name} and {after.name} lie over each other", at=after.offset)
        return found, begin

    def value(self, key: str) -> Any:
        kind = self.number("<I")
        if kind != ARRAY:
            return self.scalar(kind, key)
        kind, count = self.number("<I"), self.number("<Q")
        if count > MAX_ITEMS:
            raise self.error(f"{key} claims {count} items")
        if kind == STRING:
            return [self.string(MAX_STRING) for _ in range(count)]
        if kind not in SCALARS:
            raise self.error(f"{key} is an array of the type {kind}")
        form = SCALARS[kind]
        return list(struct.unpack(f"<{count}{form[1]}", self.take(count * struct.calcsize(form))))

    def scalar(self, kind: int, key: str) -> Any:
        if kind == STRING:
            return self.string(MAX_STRING)
        if kind not in SCALARS:
            raise self.error(f"{key} is of the unknown type {kind}")
        value = self.number(SCALARS[kind])
        if kind == BOOL and value not in (0, 1):
            raise self.error(f"{key} is neither true nor false")
        if isinstance(value, float) and not math.isfinite(value):
            raise self.error(f"{key} is not finite")
        return bool(value) if kind == BOOL else value

    def string(self, most: int) -> str:
        length = self.number("<Q")
        if length > most:
            raise self.error(f"a text claims {length} bytes")
        at = self.at
        try:
            return self.take(length).decode("utf-8", "strict")
        except UnicodeDecodeError:
            raise self.error("a text is not UTF-8", at=at) from None

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise self.error("it ends in the middle of its header")
        self.at += count
        return self.data[self.at - count : self.at]

    def error(self, what: str, at: int | None = None) -> DataError:
        place = self.at if at is None else at
        return DataError(f"this GGUF file is damaged or hostile: {what}", where=f"{self.where}, byte {place}")


def _check_model(header: GgufHeader, where: str) -> None:
    """What a language model of one file must say, and say without contradiction."""

    def refuse(what: str) -> DataError:
        return DataError(f"this GGUF file holds no model that can be run: {what}", where=where)

    architecture = header.metadata.get("general.architecture")
    if not isinstance(architecture, str) or not re.fullmatch(r"[a-z0-9_-]{1,40}", architecture):
        raise refuse("it names no architecture")
    if header.metadata.get("split.count", 1) not in (0, 1):
        raise refuse("it is one part of several; join them with llama-gguf-split --merge")
    sizes: dict[str, int] = {}
    for key in ("block_count", "embedding_length", "attention.head_count", "context_length"):
        value = header.of_model(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 2**31:
            raise refuse(f"{architecture}.{key} is {value!r}")
        sizes[key] = value
    layers = {int(found[1]) for name in header.tensors if (found := re.match(r"blk\.(\d{1,6})\.", name))}
    if sizes["block_count"] > MAX_LAYERS or layers != set(range(sizes["block_count"])):
        raise refuse(f"it claims {sizes['block_count']} layers and holds {len(layers)}")
    _check_vocabulary(header, sizes["embedding_length"], refuse)


def _check_vocabulary(header: GgufHeader, width: int, refuse: Any) -> None:
    metadata = header.metadata
    tokens, kinds = metadata.get("tokenizer.ggml.tokens"), metadata.get("tokenizer.ggml.token_type")
    if not isinstance(tokens, list) or not tokens or not all(isinstance(token, str) for token in tokens):
        raise refuse("it has no list of tokens")
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None or embedding.shape != (width, len(tokens)):
        shape = None if embedding is None else list(embedding.shape)
        raise refuse(f"{len(tokens)} tokens of width {width}, and an embedding of {shape}")
    if kinds is not None and (not isinstance(kinds, list) or len(kinds) != len(tokens)):
        raise refuse("the kinds of its tokens are not one for each")
    for place, kind in enumerate(kinds or ()):
        if kind == 6 and not _BYTE_TOKEN.fullmatch(tokens[place]):
            raise refuse(f"the token {place} is said to be a byte, and is {tokens[place]!r}")
    for name, value in metadata.items():
        is_token = name.startswith("tokenizer.ggml.") and name.endswith("_token_id")
        if is_token and not (isinstance(value, int) and 0 <= value < len(tokens)):
            raise refuse(f"{name} is {value!r}")
    template = metadata.get("tokenizer.chat_template", "")
    if not isinstance(template, str) or len(template) > MAX_TEMPLATE:
        raise refuse("its chat template is no text of reasonable size")
