"""Hostile GGUF files: a typed error within a second, little memory, and llama.cpp never sees them."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ponder.core.errors import DataError, ResourceError
from ponder.engines import gguf as engine
from ponder.engines.gguf import GgufSampler
from ponder.models.gguf_header import BLOCKS, MAX_ITEMS, MAX_STRING, MAX_TENSORS, GgufHeader, read_header

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
WIDTH, TOKENS = 32, ["a", "b", "<0x0A>", "<|end|>"]
KINDS = [1, 1, 6, 3]
Value = tuple[int, Any]


def text(value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def coded(kind: int, value: Any) -> bytes:
    """A value without its type."""
    forms = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<B", U64: "<Q",
             I64: "<q", F64: "<d"}  # fmt: skip
    if kind == STRING:
        return text(value)
    if kind == ARRAY:
        inner, items = value
        return struct.pack("<IQ", inner, len(items)) + b"".join(coded(inner, item) for item in items)
    return struct.pack(forms[kind], value)


def metadata(**changes: Value | None) -> dict[str, Value]:
    """What a small model says of itself; `a__b` stands for the key `a.b`, and None takes one out."""
    found: dict[str, Value] = {
        "general.architecture": (STRING, "llama"), "llama.block_count": (U32, 2),
        "llama.embedding_length": (U32, WIDTH), "llama.attention.head_count": (U32, 4),
        "llama.context_length": (U32, 64), "tokenizer.ggml.tokens": (ARRAY, (STRING, TOKENS)),
        "tokenizer.ggml.token_type": (ARRAY, (I32, KINDS)), "tokenizer.ggml.eos_token_id": (U32, 3),
        "tokenizer.chat_template": (STRING, "{{ messages }}"),
    }  # fmt: skip
    for name, value in changes.items():
        key = name.replace("__", ".")
        if value is None:
            del found[key]
        else:
            found[key] = value
    return found


Tensor = tuple[str, list[int], int, int]
TENSORS: list[Tensor] = [
    ("token_embd.weight", [WIDTH, 4], 0, 0),
    ("blk.0.attn_q.weight", [WIDTH, 2], 0, 512),
    ("blk.1.attn_q.weight", [WIDTH], 8, 768),
]
DATA = 768 + 34


def made(
    meta: dict[str, Value] | None = None, tensors: list[Tensor] | None = None, *, data: int = DATA, **counts: int
) -> bytes:
    """A GGUF file; `keys`, `tables` and `version` are claimed instead of the truth."""
    meta, tensors = metadata() if meta is None else meta, TENSORS if tensors is None else tensors
    claimed = counts.get("tables", len(tensors)), counts.get("keys", len(meta))
    found = b"GGUF" + struct.pack("<IQQ", counts.get("version", 3), *claimed)
    for key, (kind, value) in meta.items():
        found += text(key) + struct.pack("<I", kind) + (value if isinstance(value, bytes) else coded(kind, value))
    for name, shape, kind, offset in tensors:
        found += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        found += struct.pack("<IQ", kind, offset)
    return found + bytes(-len(found) % 32) + bytes(data)


def with_tensor(place: int, **changes: Any) -> list[Tensor]:
    names = ("name", "shape", "kind", "offset")
    changed = tuple(changes.get(name, old) for name, old in zip(names, TENSORS[place], strict=True))
    return [changed if place == i else tensor for i, tensor in enumerate(TENSORS)]  # type: ignore[misc]


def items(kind: int, count: int) -> Value:
    """An array that claims more than the file holds."""
    return ARRAY, struct.pack("<IQ", kind, count)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "bad magic": (b"GGUG" + made()[4:], "does not begin with GGUF"),
    "the old format": (b"ggjt" + made()[4:], "does not begin with GGUF"),
    "a zip": (b"PK\3\4" + bytes(100), "does not begin with GGUF"),
    "version 1": (made(version=1), "version 1"),
    "the other order of bytes": (made(version=3 << 24), "version 50331648"),
    "2^60 tensors": (made(tables=2**60), "claims 1152921504606846976 tensors"),
    "2^64 - 1 tensors": (made(tables=2**64 - 1), "tensors"),
    "more tensors than it holds": (made(tables=MAX_TENSORS), "damaged or hostile"),
    "2^60 keys": (made(keys=2**60), "keys"),
    "more keys than it holds": (made(keys=40), "damaged or hostile"),
    "fewer keys than it holds": (made(keys=3), "damaged or hostile"),
    "alignment 2^31": (made(metadata(general__alignment=(U32, 2**31))), "alignment of 2147483648"),
    "alignment 0": (made(metadata(general__alignment=(U32, 0))), "alignment of 0"),
    "alignment 24": (made(metadata(general__alignment=(U32, 24))), "alignment of 24"),
    "a negative alignment": (made(metadata(general__alignment=(I32, -32))), "alignment of -32"),
    "alignment of text": (made(metadata(general__alignment=(STRING, "32"))), "alignment of '32'"),
    "alignment that is true": (made(metadata(general__alignment=(BOOL, 1))), "alignment of True"),
    "a text of 2^63": (made(metadata(x=(STRING, struct.pack("<Q", 2**63)))), "a text claims 9223372036854775808"),
    "a text of 2^64 - 1": (made(metadata(x=(STRING, struct.pack("<Q", 2**64 - 1)))), "a text claims"),
    "a text past the end": (made(metadata(x=(STRING, struct.pack("<Q", MAX_STRING)))), "ends in the middle"),
    "a key of 2^20": (made({"k" * 2**20: (U8, 1)}), "a text claims 1048576"),
    "a key that is there twice": (b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + 2 * (text("k") + bytes(5)), "twice"),
    "a text that is not UTF-8": (made(metadata(x=(STRING, text(b"\xff\xfe")))), "not UTF-8"),
    "half of a character": (made(metadata(x=(STRING, text(b"\xed\xa0\x80")))), "not UTF-8"),
    "an unknown type": (made(metadata(x=(99, b""))), "unknown type 99"),
    "an array of 2^60": (made(metadata(x=items(U8, 2**60))), "claims 1152921504606846976 items"),
    "an array past the end": (made(metadata(x=items(U64, MAX_ITEMS))), "ends in the middle"),
    "texts past the end": (made(metadata(x=items(STRING, MAX_ITEMS))), "damaged or hostile"),
    "an array of arrays": (made(metadata(x=items(ARRAY, 1))), "array of the type 9"),
    "an array of an unknown type": (made(metadata(x=items(77, 1))), "array of the type 77"),
    "neither true nor false": (made(metadata(x=(BOOL, 2))), "neither true nor false"),
    "not a number": (made(metadata(x=(F32, float("nan")))), "not finite"),
    "infinite": (made(metadata(x=(F64, float("inf")))), "not finite"),
    "dimensions of 2^42": (made(tensors=with_tensor(1, shape=[2**42, 2**42])), "has the shape"),
    "dimensions that wrap round": (made(tensors=with_tensor(1, shape=[2**62, 4])), "has the shape"),
    "2^48 numbers that it does not hold": (made(tensors=with_tensor(1, shape=[2**47, 2])), "past the end"),
    "a dimension of 0": (made(tensors=with_tensor(1, shape=[WIDTH, 0])), "has the shape"),
    "2^32 - 1 dimensions": (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("t") + b"\xff" * 4, "4294967295 dimensions"),
    "no dimensions": (made(tensors=with_tensor(1, shape=[])), "0 dimensions"),
    "five dimensions": (made(tensors=with_tensor(1, shape=[WIDTH, 1, 1, 1, 1])), "5 dimensions"),
    "an unknown type of tensor": (made(tensors=with_tensor(1, kind=4)), "unknown type 4"),
    "a type of 2^32 - 1": (made(tensors=with_tensor(1, kind=2**32 - 1)), "unknown type"),
    "half of a block": (made(tensors=with_tensor(2, shape=[WIDTH // 2])), "no whole blocks"),
    "an offset past the end": (made(tensors=with_tensor(2, offset=2**40)), "past the end"),
    "an offset of 2^64 - 32": (made(tensors=with_tensor(2, offset=2**64 - 32)), "past the end"),
    "an offset that is not aligned": (made(tensors=with_tensor(2, offset=769)), "not aligned"),
    "tensors over each other": (made(tensors=with_tensor(2, offset=736)), "over each other"),
    "the same place twice": (made(tensors=with_tensor(2, offset=512)), "over each other"),
    "a name that is there twice": (made(tensors=with_tensor(2, name="token_embd.weight")), "twice"),
    "no name": (made(tensors=with_tensor(2, name="")), "no name"),
    "a name of 65 letters": (made(tensors=with_tensor(2, name="n" * 65)), "a text claims 65"),
    "one byte short": (made(data=DATA - 1), "past the end"),
    "no data": (made(data=0), "past the end"),
    "no architecture": (made(metadata(general__architecture=None)), "names no architecture"),
    "a path for an architecture": (made(metadata(general__architecture=(STRING, "../../x"))), "no architecture"),
    "a number for an architecture": (made(metadata(general__architecture=(U32, 1))), "no architecture"),
    "9999 layers": (made(metadata(llama__block_count=(U32, 9999))), "claims 9999 layers and holds 2"),
    "one layer too many": (made(metadata(llama__block_count=(U32, 3))), "claims 3 layers and holds 2"),
    "one layer too few": (made(metadata(llama__block_count=(U32, 1))), "claims 1 layers and holds 2"),
    "no layers": (made(metadata(llama__block_count=(U32, 0))), "block_count is 0"),
    "layers of text": (made(metadata(llama__block_count=(STRING, "2"))), "block_count is '2'"),
    "-1 layers": (made(metadata(llama__block_count=(I32, -1))), "block_count is -1"),
    "no width": (made(metadata(llama__embedding_length=None)), "embedding_length is None"),
    "another width": (made(metadata(llama__embedding_length=(U32, 64))), "width 64"),
    "no heads": (made(metadata(llama__attention__head_count=(U32, 0))), "head_count is 0"),
    "positions of 2^60": (made(metadata(llama__context_length=(U64, 2**60))), "context_length is"),
    "a part of several": (made(metadata(split__count=(U16, 3))), "one part of several"),
    "no tokens": (made(metadata(tokenizer__ggml__tokens=None)), "no list of tokens"),
    "an empty list of tokens": (made(metadata(tokenizer__ggml__tokens=(ARRAY, (STRING, [])))), "no list of tokens"),
    "tokens that are numbers": (made(metadata(tokenizer__ggml__tokens=(ARRAY, (U32, [1])))), "no list of tokens"),
    "a token too many": (made(metadata(tokenizer__ggml__tokens=(ARRAY, (STRING, [*TOKENS, "x"])))), "5 tokens"),
    "kinds that are not one each": (made(metadata(tokenizer__ggml__token_type=(ARRAY, (I32, [1])))), "kinds"),
    "the byte <0x-1>": (
        made(metadata(tokenizer__ggml__tokens=(ARRAY, (STRING, ["a", "b", "<0x-1>", "<|end|>"])))), "is '<0x-1>'"),
    "a byte that is a word": (
        made(metadata(tokenizer__ggml__token_type=(ARRAY, (I32, [6, 1, 6, 3])))), "said to be a byte"),
    "an end beyond the tokens": (made(metadata(tokenizer__ggml__eos_token_id=(U32, 4))), "eos_token_id is 4"),
    "an end of -1": (made(metadata(tokenizer__ggml__eos_token_id=(I32, -1))), "eos_token_id is -1"),
    "an unheard-of token": (made(metadata(tokenizer__ggml__fim_pre_token_id=(U32, 2**31))), "fim_pre_token_id"),
    "a template that is a number": (made(metadata(tokenizer__chat_template=(U32, 1))), "template"),
    "a template of 2 MB": (made(metadata(tokenizer__chat_template=(STRING, "x" * 2 * 2**20))), "template"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_native_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LlamaServer", lambda *_: pytest.fail("llama.cpp was reached"))


def written(folder: Path, data: bytes) -> Path:
    (folder / "x.gguf").write_bytes(data)
    return folder / "x.gguf"


def test_the_sound_file_that_all_others_are_made_of_is_read(tmp_path: Path) -> None:
    header = read_header(written(tmp_path, made()))
    assert header.architecture == "llama" and header.of_model("block_count") == 2
    assert header.metadata["tokenizer.ggml.tokens"] == TOKENS and header.parameters == 4 * WIDTH + 2 * WIDTH + WIDTH
    assert header.tensors["blk.1.attn_q.weight"].kind == "Q8_0" and header.tensors["blk.1.attn_q.weight"].bytes == 34
    for kind, value in ((U8, 7), (I64, -(2**62)), (F64, 0.5), (BOOL, 1), (STRING, "ü"), (ARRAY, (F32, [1.0, -2.0]))):
        found = read_header(written(tmp_path, made(metadata(x=(kind, value))))).metadata["x"]
        assert found == (value[1] if kind == ARRAY else value)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_at_once(name: str, tmp_path: Path) -> None:
    data, says = HOSTILE[name]
    path = written(tmp_path, data)
    began = time.process_time()
    with pytest.raises(DataError, match=says) as caught:
        GgufSampler(path)
    assert time.process_time() - began < 1
    assert str(path) in caught.value.where and len(caught.value.what) < 500
    str(caught.value).encode()  # can be printed


@pytest.mark.parametrize("name", HOSTILE)
def test_memory_is_bounded_by_the_file(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, HOSTILE[name][0])
    tracemalloc.start()
    with pytest.raises(DataError):
        read_header(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**18 + 8 * path.stat().st_size


def test_every_beginning_of_a_file_is_refused(tmp_path: Path) -> None:
    whole = made()
    for length in [*range(0, len(whole) - DATA, 3), len(whole) - 1]:
        with pytest.raises(DataError):
            GgufSampler(written(tmp_path, whole[:length]))


def test_what_cannot_be_read_is_a_missing_resource(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").mkdir()
    for name in ("x.gguf", "none.gguf"):
        with pytest.raises(ResourceError, match="cannot be read"):
            read_header(tmp_path / name)


def test_as_many_empty_texts_as_may_be_cost_little(tmp_path: Path) -> None:
    count = 2**18
    many = made(metadata(x=(ARRAY, struct.pack("<IQ", STRING, count) + bytes(8 * count))))
    began = time.process_time()
    assert len(read_header(written(tmp_path, many)).metadata["x"]) == count
    assert time.process_time() - began < 1


def test_sizes_of_blocks_are_those_of_the_format() -> None:
    reference = pytest.importorskip("gguf").constants
    known = {kind.value: kind.name for kind in reference.GGMLQuantizationType}
    for number, (name, numbers, size) in BLOCKS.items():
        assert known[number] == name
        assert reference.GGML_QUANT_SIZES[reference.GGMLQuantizationType(number)] == (numbers, size), name


# ---- mutations of sound files ----

BOUNDARIES = [0, 1, 2**7, 2**8 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**60, 2**63 - 1, 2**63, 2**64 - 1]


def _flip(data: bytearray, at: int, rng: random.Random) -> None:
    data[at] ^= 1 << rng.randrange(8)


def _number(data: bytearray, at: int, rng: random.Random) -> None:
    size = rng.choice((4, 8))
    data[at : at + size] = (rng.choice(BOUNDARIES) % 2 ** (8 * size)).to_bytes(size, "little")


def _cut(data: bytearray, at: int, rng: random.Random) -> None:
    del data[at : at + rng.randrange(1, 40)]


def _double(data: bytearray, at: int, rng: random.Random) -> None:
    data[at:at] = data[at : at + rng.randrange(1, 40)]


def _mutations(header: int, seed: int, edits: int) -> Iterator[Callable[[bytearray], None]]:
    rng = random.Random(seed)
    for _ in range(edits):
        change, at = rng.choice((_flip, _number, _cut, _double)), rng.randrange(header)
        yield lambda data, change=change, at=at: change(data, at % max(1, len(data)), rng)


def consistent(header: GgufHeader, size: int) -> bool:
    """What may be relied on of a header that was let through."""
    spans = sorted((tensor.offset, tensor.offset + tensor.bytes) for tensor in header.tensors.values())
    apart = all(a[1] <= b[0] for a, b in pairwise(spans))
    return apart and all(header.data_offset <= begin and end <= size for begin, end in spans)


@settings(max_examples=500, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), edits=st.integers(1, 8))
def test_a_mutated_file_is_refused_or_consistent(seed: int, edits: int, tmp_path: Path) -> None:
    data = bytearray(made())
    for mutate in _mutations(len(data) - DATA, seed, edits):
        mutate(data)
    path = written(tmp_path, bytes(data))
    try:
        header = read_header(path)
    except DataError:
        return
    assert consistent(header, len(data))
    assert header.tensors["token_embd.weight"].shape[1] == len(header.metadata["tokenizer.ggml.tokens"])


@settings(max_examples=100, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400))
def test_any_bytes_behind_the_magic_are_refused(tmp_path: Path, data: bytes) -> None:
    for begun in (b"", b"GGUF", b"GGUF" + struct.pack("<IQQ", 3, 1, 1)):
        with pytest.raises(DataError):
            read_header(written(tmp_path, begun + data))
