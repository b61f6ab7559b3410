"""Hostile safetensors files and model folders: a typed error, at once, before a library sees them."""

from __future__ import annotations

import json
import random
import shutil
import time
import tracemalloc
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from ponder.core.errors import ConfigurationError, DataError, ResourceError
from ponder.models import load
from ponder.models.load import check_folder, load_model, resolve_model
from ponder.models.safe_header import BITS, MAX_HEADER, read_safe_header

A = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
B = {"dtype": "F32", "shape": [2], "data_offsets": [16, 24]}


def written(path: Path, header: Any, data: int = 24, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + bytes(data))
    return path


def test_a_sound_file_is_read(tmp_path: Path) -> None:
    tensors = {"b": torch.ones(3, 5, dtype=torch.bfloat16), "a": torch.zeros(7), "none": torch.zeros(0, 4),
               "one": torch.tensor(1.0)}  # fmt: skip
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    found = read_safe_header(tmp_path / "x.safetensors")
    assert {name: tensor.shape for name, tensor in found.items()} == {
        name: tuple(tensor.shape) for name, tensor in tensors.items()
    }
    assert found["b"].kind == "BF16" and sum(tensor.numbers for tensor in found.values()) == 23


@pytest.mark.parametrize("name", ["pocket-base", "pocket-teacher"])
def test_what_is_shipped_is_sound(name: str) -> None:
    check_folder(resolve_model(name))


TWICE = b'{"a": %s, "a": %s}' % (json.dumps(A).encode(), json.dumps(A).encode())
HOSTILE: dict[str, tuple[Any, int, int | None, str]] = {
    # header, bytes of data, length that is claimed, what is said
    "a header of 2^60 bytes": ({"a": A}, 16, 2**60, "claims 1152921504606846976 bytes"),
    "a header of 2^64 - 1 bytes": ({"a": A}, 16, 2**64 - 1, "claims"),
    "a header one byte too long": ({"a": A}, 0, 10**4, "claims"),
    "a header that is too large": (b"{" + b" " * MAX_HEADER + b"}", 0, None, "may have"),
    "no header": (b"", 0, None, "not JSON"),
    "no object": ([A], 16, None, "no JSON object"),
    "no JSON": (b"{'a': 1}", 0, None, "not JSON"),
    "no UTF-8": (b'{"\xff": {}}', 0, None, "not JSON"),
    "nested deeply": (b"[" * 10**5, 0, None, "nested too deeply"),
    "nested deeply in objects": (b'{"a":' * 10**5, 0, None, "nested too deeply"),
    "a number of a million digits": (b'{"a": ' + b"9" * 10**6 + b"}", 0, None, "not JSON"),
    "tensors over each other": ({"a": A, "b": B | {"data_offsets": [8, 16]}}, 24, None, "over another"),
    "the same place twice": ({"a": A, "b": A}, 16, None, "over another"),
    "a name that is there twice": (TWICE, 16, None, "twice"),
    "a type that is there twice": (b'{"a": {"dtype": "F32", "dtype": "F16"}}', 16, None, "twice"),
    "a gap": ({"a": A, "b": B | {"data_offsets": [20, 28]}}, 28, None, "behind a gap"),
    "a gap before the first": ({"a": A | {"data_offsets": [4, 20]}}, 20, None, "behind a gap"),
    "data behind the last": ({"a": A, "b": B}, 25, None, "holds 25"),
    "past the end": ({"a": A, "b": B}, 20, None, "holds 20"),
    "far past the end": ({"a": A | {"shape": [2**40], "data_offsets": [0, 2**42]}}, 16, None, "holds 16"),
    "backwards": ({"a": A | {"data_offsets": [16, 0]}}, 16, None, "does not fill"),
    "a negative place": ({"a": A | {"data_offsets": [-16, 0]}}, 16, None, "lies at"),
    "places that are no numbers": ({"a": A | {"data_offsets": [0.0, 16.0]}}, 16, None, "lies at"),
    "truth for a number": ({"a": A | {"data_offsets": [False, 16]}}, 16, None, "lies at"),
    "three places": ({"a": A | {"data_offsets": [0, 8, 16]}}, 16, None, "lies at"),
    "a shape of 2^42 numbers a side": ({"a": A | {"shape": [2**42, 2**42]}}, 16, None, "has the shape"),
    "a shape whose product wraps round": ({"a": A | {"shape": [2**62, 4, 4]}}, 16, None, "has the shape"),
    "a thousand dimensions": ({"a": A | {"shape": [1] * 1000}}, 16, None, "has the shape"),
    "a shape of text": ({"a": A | {"shape": "22"}}, 16, None, "has the shape"),
    "a shape that its bytes do not fill": ({"a": A | {"shape": [2, 3]}}, 16, None, "does not fill"),
    "half a byte": ({"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 1]}}, 1, None, "does not fill"),
    "an unknown type": ({"a": A | {"dtype": "PICKLE"}}, 16, None, "unknown type"),
    "a type that is a list": ({"a": A | {"dtype": ["F32"]}}, 16, None, "unknown type"),
    "a tensor without a place": ({"a": {"dtype": "F32", "shape": []}}, 4, None, "does not have type"),
    "a tensor with more": ({"a": A | {"code": "x"}}, 16, None, "does not have type"),
    "a tensor that is a number": ({"a": 1}, 16, None, "does not have type"),
    "metadata that are no text": ({"__metadata__": {"format": 1}, "a": A}, 16, None, "not all text"),
    "metadata that are a list": ({"__metadata__": ["pt"], "a": A}, 16, None, "not all text"),
    "half of a character for a name": ({"\ud800": 1}, 0, None, "does not have type"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_at_once(name: str, tmp_path: Path) -> None:
    header, data, length, says = HOSTILE[name]
    path = written(tmp_path / "model.safetensors", header, data, length)
    began = time.perf_counter()
    with pytest.raises(DataError, match=says) as caught:
        read_safe_header(path)
    assert time.perf_counter() - began < 1
    assert str(path) in caught.value.where and len(caught.value.what) < 400
    str(caught.value).encode()  # can be printed


@pytest.mark.parametrize("length", range(9))
def test_files_that_are_too_short_are_refused(length: int, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"\x05\0\0\0\0\0\0\0{"[:length])
    with pytest.raises(DataError, match="claims"):
        read_safe_header(tmp_path / "x.safetensors")


def test_a_file_that_cannot_be_read_is_a_missing_resource(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").mkdir()
    with pytest.raises(ResourceError, match="cannot be read"):
        read_safe_header(tmp_path / "x.safetensors")


@pytest.mark.parametrize("filling", [b"[],", b"{},", b"1,", b'"",'])
def test_the_largest_header_costs_little(tmp_path: Path, filling: bytes) -> None:
    room = MAX_HEADER - 16
    path = written(tmp_path / "x.safetensors", b'{"a":[' + filling * (room // len(filling)) + b"0]}", 0)
    began = time.process_time()
    with pytest.raises(DataError, match=r"does not have type|too many lists"):
        read_safe_header(path)
    assert time.process_time() - began < 1
    tracemalloc.start()
    with pytest.raises(DataError, match="claims"):
        read_safe_header(written(path, b"{}", 0, 2**60))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@cache
def _seeds(folder: Path) -> list[bytes]:
    path = folder / "seed.safetensors"
    save_file({"a": torch.zeros(2, 2), "b": torch.ones(3, dtype=torch.float16)}, path, metadata={"format": "pt"})
    return [path.read_bytes()]


@settings(max_examples=200, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), edits=st.integers(1, 6))
def test_whatever_passes_is_read_alike_by_the_library(seed: int, edits: int, tmp_path: Path) -> None:
    """Mutations of a real file: refused with a typed error, or sound for the library too."""
    rng = random.Random(seed)
    data = bytearray(_seeds(tmp_path)[0])
    for _ in range(edits):
        place = rng.choice((rng.randrange(8), rng.randrange(len(data))))
        kind = rng.randrange(4)
        if kind == 0:
            data[place] = rng.randrange(256)
        elif kind == 1:
            data[place] = rng.choice(b'0123456789{}[]",:')
        elif kind == 2:
            del data[place : place + rng.randrange(1, 5)]
        else:
            data[place:place] = rng.choice((b"0", b"9" * 20, b"-", b'"a"', b"[[", b"\xff"))
    path = tmp_path / "x.safetensors"
    path.write_bytes(bytes(data))
    try:
        found = read_safe_header(path)
    except DataError:
        return
    try:
        with safe_open(path, framework="pt") as tensors:
            names = set(tensors.keys())
    except SafetensorError as error:
        pytest.fail(f"passed here and not there: {error}")
    assert set(found) == names


def test_types_have_the_library_s_sizes(tmp_path: Path) -> None:
    pairs = {"BOOL": torch.bool, "U8": torch.uint8, "I16": torch.int16, "F8_E4M3": torch.float8_e4m3fn,
             "I64": torch.int64, "F64": torch.float64, "BF16": torch.bfloat16}  # fmt: skip
    for kind, dtype in pairs.items():
        save_file({"a": torch.zeros(6, dtype=dtype)}, tmp_path / "x.safetensors")
        assert read_safe_header(tmp_path / "x.safetensors")["a"].kind == kind and BITS[kind] == dtype.itemsize * 8


# ---- folders ----


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(resolve_model("pocket-base"), tmp_path / "model"))


def _declared(name: str, **fields: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        declared = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(declared | fields))

    return change


def _second_shard(folder: Path) -> None:
    written(folder / "zzz.safetensors", {"a": A, "b": A}, 16)


def _index(*shards: Any) -> Callable[[Path], None]:
    names = {f"t{place}": shard for place, shard in enumerate(shards)}
    return lambda folder: (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))  # type: ignore[return-value]


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_declared("config.json", auto_map={"AutoModel": "m.M"}), "auto_map"),
        (_declared("config.json", _attn_implementation_internal="evil/kernel"), "_attn_implementation_internal"),
        (_declared("tokenizer_config.json", auto_map={"AutoTokenizer": ["t.T", None]}), "auto_map"),
        (_declared("generation_config.json", auto_map={"x": "m.M"}), "auto_map"),
        (_declared("processor_config.json", auto_map={"AutoProcessor": "p.P"}), "auto_map"),
        (lambda folder: (folder / "config.json").write_text("[]"), "no JSON object"),
        (lambda folder: (folder / "config.json").write_text("[" * 10**5), "not valid JSON"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe"), "not valid JSON"),
        (lambda folder: (folder / "tokenizer_config.json").write_text("{"), "not valid JSON"),
        (lambda folder: (folder / "modeling_evil.py").write_text("raise SystemExit"), "modeling_evil.py"),
        (_pickled, "pytorch_model.bin"),
        (_second_shard, "over another"),
        (_index("../../other.safetensors"), "no safetensors file beside it"),
        (_index("model.safetensors", "/etc/passwd"), "no safetensors file beside it"),
        (_index("pytorch_model.bin"), "no safetensors file beside it"),
        (_index(3), "no safetensors file beside it"),
    ],
)  # fmt: skip
def test_a_hostile_folder_is_refused_and_transformers_does_not_see_it(
    folder: Path, damage: Callable[[Path], None], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(folder)
    for name in ("AutoModelForCausalLM", "AutoTokenizer"):
        monkeypatch.setattr(getattr(load, name), "from_pretrained", lambda *_, **__: pytest.fail("reached"))
    with pytest.raises(ConfigurationError, match=says):
        load_model(str(folder))


def test_a_folder_with_an_honest_index_loads(folder: Path) -> None:
    path = folder / "model.safetensors"
    names = list(load_file(path))
    text = json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, path.name)})
    (folder / "model.safetensors.index.json").write_text(text)
    assert load_model(str(folder), device="cpu").path == folder
