"""Every form of a GGUF file: what is stored in what, how far it is from the model, and what is not let through."""

from __future__ import annotations

import logging
import struct
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config, SmolLM3Config

from engine_models import VOCABULARY, chat
from ponder.core.errors import DataError, PonderError, ResourceError
from ponder.core.types import FloatArray, TopK
from ponder.measure.fidelity import divergences
from ponder.models import attention
from ponder.models.importance import importance_of
from ponder.models.load import load_model, save_model
from runtimes import Twin

gguf = pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")
from gguf import GGMLQuantizationType as Kind  # noqa: E402

from ponder.engines.gguf import GgufSampler  # noqa: E402
from ponder.exporters._gguf import blocks, tensors  # noqa: E402
from ponder.exporters._gguf.mixes import FORMS, fitting, kind_of  # noqa: E402
from ponder.exporters._gguf.shape import read_shape  # noqa: E402
from ponder.exporters.gguf import Gguf  # noqa: E402
from ponder.models.gguf_header import read_header  # noqa: E402

_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.04,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0,
}  # fmt: skip
_DEEP = _COMMON | {"num_key_value_heads": 1, "num_hidden_layers": 4}
FAMILIES: dict[str, Any] = {
    "llama": LlamaConfig(**_COMMON, tie_word_embeddings=False),
    "mistral": MistralConfig(**_COMMON, head_dim=64, sliding_window=None, tie_word_embeddings=False),
    "qwen2": Qwen2Config(**_COMMON, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**_COMMON, head_dim=64, tie_word_embeddings=True),
    "smollm3": SmolLM3Config(**_DEEP, tie_word_embeddings=True),
}
FARTHEST = {
    "f32": 1e-6, "f16": 1e-5, "bf16": 1e-4, "q8_0": 5e-4, "q6_k": 5e-3, "q5_k_m": 1.5e-2, "q5_k_s": 1.5e-2,
    "q4_k_m": 5e-2, "q4_k_s": 5e-2, "q4_0": 8e-2, "q3_k_m": 1e-1, "q2_k": 4e-1,
}  # fmt: skip
"""Nats a token, of random weights, which bear rounding worse than trained ones; about three times what was measured."""
ORDERED = ("f32", "f16", "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q3_k_m", "q2_k")
BEGIN, SEQUENCE = 18, tuple(int(token) for token in np.random.default_rng(2).integers(0, 300, 24))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    attention.register()

    @cache
    def folder(family: str) -> Path:
        torch.manual_seed(3)
        config = deepcopy(FAMILIES[family])
        model = AutoModelForCausalLM.from_config(config, attn_implementation="ponder", dtype=torch.float32)
        path = tmp_path_factory.mktemp(family) / "tiny"
        save_model(model, chat(), path)
        return path

    return folder


@cache
def twin(folder: Path) -> Twin:
    return Twin(load_model(str(folder)))


@cache
def expected(folder: Path) -> TopK:
    return Twin(load_model(str(folder))).top([SEQUENCE], [BEGIN], VOCABULARY)[0]


def distance(folder: Path, path: Path) -> float:
    """Mean divergence of llama.cpp's distributions from the model's along one sequence, nats a token."""
    sampler = GgufSampler(path, context=64, slots=1, threads=1)
    try:
        found = sampler.top([SEQUENCE], [BEGIN], VOCABULARY)[0]
    finally:
        sampler.close()
    known = found.ids[:, 0] >= 0  # llama.cpp tells nothing where the token that it drew is half a character
    assert known.any()
    return float(divergences(expected(folder), found)[known].mean())


def stored(path: Path) -> dict[str, Kind]:
    return {name: Kind[tensor.kind] for name, tensor in read_header(path).tensors.items()}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_form_of_every_family_is_stored_and_runs_as_the_model(
    tmp_path: Path, folders: Any, family: str, form: str
) -> None:
    """All 60 of them ran within these bounds when this was written; here llama.cpp runs every form and every family."""
    folder, exporter = folders(family), Gguf(form=form)
    path = exporter(folder, tmp_path)
    assert list(exporter.differences(folder, path)) == []
    assert all(kind is Kind.F32 for name, kind in stored(path).items() if "norm" in name or "bias" in name)
    if family == "qwen3" or form == "q4_k_m":
        assert 0 <= distance(folder, path) < FARTHEST[form]


def test_smaller_forms_are_smaller(tmp_path: Path, folders: Any) -> None:
    sizes = [Gguf(form=form)(folders("qwen3"), tmp_path).stat().st_size for form in ORDERED]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 8 * sizes[-1]


MORE = {0, 1, 4, 7, 10, 13, 14, 15}
"""Of 16 layers, those that llama.cpp gives more bits: the first and last two, and every third between."""
RULES = {
    "q4_k_m": ("Q4_K", {layer: "Q6_K" for layer in MORE}, {layer: "Q6_K" for layer in MORE}, "Q4_K"),
    "q5_k_m": ("Q5_K", {layer: "Q6_K" for layer in MORE}, {layer: "Q6_K" for layer in MORE}, "Q5_K"),
    "q4_k_s": ("Q4_K", dict.fromkeys(range(4), "Q5_K"), dict.fromkeys(range(2), "Q5_K"), "Q4_K"),
    "q5_k_s": ("Q5_K", {}, {}, "Q5_K"),
    "q6_k": ("Q6_K", {}, {}, "Q6_K"),
    "q3_k_m": (
        "Q3_K", {layer: "Q5_K" if layer < 2 else "Q4_K" for layer in range(16)},
        {layer: "Q5_K" if layer < 1 else "Q4_K" for layer in range(16)}, "Q4_K",
    ),
    "q2_k": ("Q2_K", dict.fromkeys(range(16), "Q3_K"), dict.fromkeys(range(16), "Q3_K"), "Q3_K"),
}  # fmt: skip
"""By form: of most matrices, of attn_v and ffn_down where they differ from most, and of attn_output."""


@pytest.mark.parametrize("form", RULES)
def test_the_mix_is_llama_cpps(form: str) -> None:
    most, values, back, output = RULES[form]
    for layer in range(16):
        for part in ("attn_q", "attn_k", "ffn_gate", "ffn_up"):
            assert kind_of(form, f"blk.{layer}.{part}.weight", 16, 2, False).name == most
        assert kind_of(form, f"blk.{layer}.attn_v.weight", 16, 2, False).name == values.get(layer, most)
        assert kind_of(form, f"blk.{layer}.ffn_down.weight", 16, 2, False).name == back.get(layer, most)
        assert kind_of(form, f"blk.{layer}.attn_output.weight", 16, 2, False).name == output
    assert kind_of(form, "output.weight", 16, 2, False).name == "Q6_K"
    assert kind_of(form, "token_embd.weight", 16, 2, True).name == "Q6_K"
    assert kind_of(form, "token_embd.weight", 16, 2, False).name == most


def test_values_that_four_heads_share_get_four_bits_in_q2_k(tmp_path: Path, folders: Any) -> None:
    assert stored(Gguf(form="q2_k")(folders("smollm3"), tmp_path))["blk.0.attn_v.weight"] is Kind.Q4_K
    assert stored(Gguf(form="q2_k")(folders("qwen3"), tmp_path))["blk.0.attn_v.weight"] is Kind.Q3_K


@pytest.mark.parametrize(("kind", "columns", "right"), [
    ("Q4_K", 256, "Q4_K"), ("Q4_K", 96, "Q5_0"), ("Q5_K", 96, "Q5_1"), ("Q6_K", 320, "Q8_0"), ("Q3_K", 96, "Q4_0"),
    ("Q2_K", 96, "Q4_0"), ("Q4_K", 100, "F16"), ("Q8_0", 40, "F16"), ("Q4_0", 64, "Q4_0"), ("F32", 7, "F32"),
])  # fmt: skip
def test_rows_that_are_no_whole_blocks_fall_back(kind: str, columns: int, right: str) -> None:
    assert fitting(Kind[kind], columns).name == right


@pytest.mark.parametrize("form", ["q4_k_m", "q2_k"])
def test_a_model_of_odd_sizes_runs_and_what_fell_back_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    attention.register()
    torch.manual_seed(3)
    config = Qwen3Config(**(_COMMON | {"hidden_size": 96, "intermediate_size": 288}), head_dim=32)
    save_model(AutoModelForCausalLM.from_config(config, dtype=torch.float32), chat(), tmp_path / "odd")
    exporter = Gguf(form=form)
    with caplog.at_level(logging.WARNING, "ponder.exporters"):
        path = exporter(tmp_path / "odd", tmp_path)
    assert "fell" not in caplog.text and "no whole blocks" in caplog.text and "16 of 16 matrices" in caplog.text
    assert not [kind for kind in stored(path).values() if kind.name.endswith("_K")]
    assert list(exporter.differences(tmp_path / "odd", path)) == []
    assert distance(tmp_path / "odd", path) < FARTHEST[form]


def matrix(rows: int = 32, columns: int = 512) -> FloatArray:
    return np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q5_0", "Q5_1"])
def test_a_quantiser_that_makes_something_else_is_found_out(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    values = matrix()
    made = blocks.quantised(values, Kind[kind])
    assert blocks.error_of(values, made, Kind[kind]) < blocks.LARGEST_ERROR[Kind[kind]] / 2
    honest = blocks._by_llama
    monkeypatch.setattr(blocks, "_by_llama", lambda values, *others: honest(values[::-1].copy(), *others))
    with pytest.raises(PonderError, match=f"made {kind} with an error") as found:
        blocks.quantised(values, Kind[kind], name="blk.0")
    assert found.value.where == "blk.0" and "ponder[gguf]" in found.value.fix


def test_a_scale_that_is_not_finite_is_found_out(tmp_path: Path, folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = blocks._by_llama

    def broken(values: FloatArray, *others: Any) -> Any:
        made = honest(values, *others)
        made[3, :2] = (0, 0x7C)  # infinity in float16, where Q4_K has its scale
        return made

    monkeypatch.setattr(blocks, "_by_llama", broken)
    with pytest.raises(PonderError, match="not finite") as found:
        Gguf(form="q4_k_s")(folders("qwen2"), tmp_path)
    assert "model." in found.value.where
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_column_that_matters_nothing_does_no_harm() -> None:
    values = matrix()
    for weights in (np.zeros(512), np.eye(512)[3], (np.arange(512) < 256) * 1.0):
        for kind in (Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K, Kind.Q4_0, Kind.Q5_0, Kind.Q5_1):
            made = blocks.quantised(values, kind, weights.astype(np.float32))
            assert blocks.error_of(values, made, kind) < blocks.LARGEST_ERROR[kind]


@pytest.mark.parametrize("weights", [np.ones(511), np.full(512, np.nan), -np.ones(512)])
def test_an_importance_that_is_none_is_refused(weights: Any) -> None:
    with pytest.raises(DataError, match="importance"):
        blocks.quantised(matrix(), Kind.Q4_K, weights.astype(np.float32))


@pytest.mark.parametrize("missing", ["wheel", "symbol"])
def test_without_the_library_k_forms_are_refused_before_anything_is_written(
    tmp_path: Path, folders: Any, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "wheel":
        monkeypatch.setattr(blocks, "LIBRARY", "a_wheel_that_is_not_here")
    else:
        monkeypatch.setattr(blocks.ctypes, "CDLL", lambda path: object())
    blocks._library.cache_clear()
    try:
        with pytest.raises(ResourceError) as found:
            Gguf(form="q4_k_m")(folders("qwen3"), tmp_path / "out")
        assert found.value.exit_code == 3 and "ponder[gguf]" in found.value.fix and "q8_0" in found.value.fix
        assert not list(tmp_path.iterdir())
        for form in ("q8_0", "q4_0"):
            assert Gguf(form=form)(folders("qwen3"), tmp_path / "out").is_file()
        weights = {"model.layers.0.mlp.up_proj.weight": np.ones(256, np.float32)}
        with pytest.raises(ResourceError):
            Gguf(form="q4_0", importance=weights)(folders("qwen3"), tmp_path / "out")
    finally:
        blocks._library.cache_clear()


def test_importance_is_the_mean_square_of_what_a_matrix_is_multiplied_with(folders: Any) -> None:
    folder = folders("qwen3")
    found = importance_of(folder, [SEQUENCE, SEQUENCE[:5]])
    names = {entry.source for entry in tensors.entries(read_shape(folder), "q4_k_m") if len(entry.shape) > 1}
    assert found.keys() == names  # the tied output layer is weighed as the embedding
    model = AutoModelForCausalLM.from_pretrained(folder)
    states = [model.model(torch.tensor([tokens])).last_hidden_state[0] for tokens in (SEQUENCE, SEQUENCE[:5])]
    right = (torch.cat(states).double() ** 2).mean(0).detach().numpy()
    np.testing.assert_allclose(found["model.embed_tokens.weight"], right, rtol=1e-4)


def test_importance_spends_the_bits_where_the_inputs_are_large() -> None:
    values, inputs = matrix(64), np.random.default_rng(1).standard_normal((200, 512)) * np.geomspace(0.01, 3, 512)
    weights = (inputs**2).mean(0).astype(np.float32)
    errors = []
    for importance in (None, weights):
        decoded = gguf.quants.dequantize(blocks.quantised(values, Kind.Q3_K, importance), Kind.Q3_K)
        errors.append(float(np.mean((inputs @ (decoded - values).T) ** 2)))
    assert errors[1] < 0.95 * errors[0]


def _patched(key: str, old: bytes, new: bytes) -> Any:
    """Another value under a key of the header, of the same length."""

    def change(data: bytearray, path: Path) -> None:
        at = data.index(key.encode()) + len(key) + 4
        assert data[at : at + len(old)] == old
        data[at : at + len(old)] = new

    return change


def _damaged(data: bytearray, path: Path) -> None:
    at = read_header(path).tensors["blk.1.ffn_up.weight"].offset + 40 * 144  # bytes of a block of Q4_K
    data[at + 16 : at + 144] = bytes(range(128))


def _renamed(data: bytearray, path: Path) -> None:
    at = data.index(b"blk.1.ffn_up.weight")
    data[at : at + 19] = b"blk.1.ffn_xx.weight"


@pytest.mark.parametrize(("change", "name", "words"), [
    (_damaged, "weights", "blk.1.ffn_up.weight"), (_renamed, "weights", "blk.1.ffn_up.weight is missing"),
    (_patched("qwen3.rope.freq_base", struct.pack("<f", 1e4), struct.pack("<f", 1e6)), "rotation", "freq_base"),
    (_patched("tokenizer.ggml.add_bos_token", b"\0", b"\1"), "bos", "add_bos_token"),
])  # fmt: skip
def test_a_planted_fault_is_named_without_running_the_file(
    tmp_path: Path, folders: Any, change: Any, name: str, words: str
) -> None:
    exporter = Gguf(form="q4_k_s")
    path = exporter(folders("qwen3"), tmp_path)
    data = bytearray(path.read_bytes())
    change(data, path)
    path.write_bytes(data)
    found = list(exporter.differences(folders("qwen3"), path))
    assert {one for one, _ in found} == {name} and any(words in text for _, text in found)
