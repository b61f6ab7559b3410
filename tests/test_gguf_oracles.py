"""GGUF files beside those of llama.cpp's own tools, byte for byte; skipped where these are not at hand.

`PONDER_LLAMA_CPP_SOURCE` names llama.cpp's source (the sdist of llama-cpp-python has it in `vendor/llama.cpp`), whose
converter is run; `PONDER_LLAMA_CPP_LIBRARY` names a folder with a built `libllama*.so` (the npm package
`@node-llama-cpp/linux-x64` has one in `bins/linux-x64`), whose quantiser is run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config, SmolLM3Config

from engine_models import VOCABULARY, chat
from ponder.models.load import save_model

gguf = pytest.importorskip("gguf")

from ponder.exporters._gguf.mixes import MIXES  # noqa: E402
from ponder.exporters.gguf import Gguf  # noqa: E402

SOURCE, LIBRARY = os.environ.get("PONDER_LLAMA_CPP_SOURCE", ""), os.environ.get("PONDER_LLAMA_CPP_LIBRARY", "")
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": None,
    "eos_token_id": None, "pad_token_id": 0,
}  # fmt: skip
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 1e4}
_LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 64, "rope_theta": 1e4}  # fmt: skip
SHAPES: dict[str, Any] = {
    "llama": LlamaConfig(**_COMMON, tie_word_embeddings=False),
    "llama3": LlamaConfig(**_COMMON, tie_word_embeddings=True, rope_parameters=_LLAMA3),
    "qwen2": Qwen2Config(**_COMMON, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**_COMMON, head_dim=64, tie_word_embeddings=True),
    "qwen3_yarn": Qwen3Config(**_COMMON, head_dim=64, tie_word_embeddings=False, rope_parameters=_YARN),
    "mistral": MistralConfig(**_COMMON, head_dim=64, sliding_window=None, tie_word_embeddings=False),
    "smollm3": SmolLM3Config(**(_COMMON | {"num_key_value_heads": 1}), tie_word_embeddings=True),
    "odd": Qwen3Config(**(_COMMON | {"hidden_size": 96, "intermediate_size": 288}), head_dim=32),
    "deep": Qwen3Config(**(_COMMON | {"num_hidden_layers": 16, "intermediate_size": 256}), head_dim=64),
}
CONVERTED = ("llama", "llama3", "qwen2", "qwen3", "qwen3_yarn", "mistral", "smollm3")
QUANTISED = ("llama", "qwen2", "mistral", "smollm3", "odd", "deep")
CONVERT = """
import runpy, sys, types
import transformers
from pathlib import Path
source = Path(sys.argv[1])
sys.path[:0] = [str(source), str(source / "gguf-py")]
try:
    import sentencepiece
except ImportError:  # which only tokenizers of another kind need
    sys.modules["sentencepiece"] = types.SimpleNamespace(SentencePieceProcessor=None)
from conversion import base
base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "qwen2"  # it knows no tokenizer that was trained here
sys.argv = ["convert", sys.argv[2], "--outfile", sys.argv[3], "--outtype", "f16"]
runpy.run_path(str(source / "convert_hf_to_gguf.py"), run_name="__main__")
"""
QUANTISE = """
import ctypes, sys
from pathlib import Path
class Parameters(ctypes.Structure):
    _fields_ = [("threads", ctypes.c_int32), ("form", ctypes.c_int32), ("others", ctypes.c_byte * 512)]
folder, source = Path(sys.argv[1]), sys.argv[2]
for name in sorted(folder.glob("libggml-base*.so")):
    ctypes.CDLL(str(name), mode=ctypes.RTLD_GLOBAL)
library = ctypes.CDLL(str(next(folder.glob("libllama.*so"))), mode=ctypes.RTLD_GLOBAL)
library.llama_model_quantize_default_params.restype = Parameters
library.llama_backend_init()
for wanted in sys.argv[3:]:
    form, out = wanted.split("=")
    parameters = library.llama_model_quantize_default_params()
    parameters.threads, parameters.form = 1, int(form)
    if library.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(parameters)):
        sys.exit(f"llama.cpp does not make {wanted}")
"""


def folder(name: str, tmp_path: Path) -> Path:
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(deepcopy(SHAPES[name]), dtype=torch.float32)
    for key, value in model.named_parameters():
        if key.endswith("bias"):
            torch.nn.init.normal_(value, std=0.3)
    save_model(model, chat(), tmp_path / name)
    return tmp_path / name


def run(script: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def same_tensors(ours: Path, theirs: Path) -> tuple[int, int]:
    """How many tensors are equal in name, shape, form and bytes, and how many there are in all."""
    found = [{tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors} for path in (ours, theirs)]
    names = found[0].keys() | found[1].keys()
    both = [(found[0][name], found[1][name]) for name in found[0].keys() & found[1].keys()]
    same = sum(
        a.tensor_type == b.tensor_type and tuple(a.shape) == tuple(b.shape) and _equal(a.name, a.data, b.data)
        for a, b in both
    )
    return same, len(names)


def _equal(name: str, a: Any, b: Any) -> bool:
    """To the byte, but for what both compute: llama3's factors, there in float32 and here in float64."""
    return np.allclose(a, b, rtol=1e-6, atol=0) if name == "rope_freqs.weight" else np.array_equal(a, b)


MAY_DIFFER = ("general.", "GGUF.", "tokenizer.ggml.add_", "tokenizer.ggml.padding", "tokenizer.ggml.eot")
"""Names and licences; and what transformers tells of the tokenizer that the converter does not ask for."""


def told_otherwise(ours: Path, theirs: Path) -> dict[str, tuple[Any, Any]]:
    """Keys of the converter's file that say something else in ours."""
    found = [{key: field.contents() for key, field in gguf.GGUFReader(path).fields.items()} for path in (ours, theirs)]
    return {
        key: (found[0].get(key), value)
        for key, value in found[1].items()
        if not key.startswith(MAY_DIFFER) and found[0].get(key) != value
    }


@pytest.mark.skipif(not SOURCE, reason="PONDER_LLAMA_CPP_SOURCE does not name llama.cpp's source")
@pytest.mark.parametrize("name", CONVERTED)
def test_tensors_are_those_of_the_official_converter(tmp_path: Path, name: str) -> None:
    model = folder(name, tmp_path)
    run(CONVERT, SOURCE, str(model), str(tmp_path / "theirs.gguf"))
    ours = Gguf(form="f16")(model, tmp_path)
    same, count = same_tensors(ours, tmp_path / "theirs.gguf")
    told = told_otherwise(ours, tmp_path / "theirs.gguf")
    print(f"{name}: {same} of {count} tensors; {sorted(told)}")
    assert same == count and told.keys() <= {"tokenizer.chat_template"}


@pytest.mark.skipif(not LIBRARY, reason="PONDER_LLAMA_CPP_LIBRARY does not name a folder with llama.cpp's library")
@pytest.mark.parametrize("name", QUANTISED)
def test_every_form_is_that_of_llama_cpps_quantiser(tmp_path: Path, name: str) -> None:
    model = folder(name, tmp_path)
    source = Gguf(form="f32")(model, tmp_path)
    wanted = {form: tmp_path / f"theirs-{form}.gguf" for form in MIXES if form not in ("f32", "f16", "bf16")}
    run(QUANTISE, LIBRARY, str(source), *(f"{int(MIXES[form].file)}={path}" for form, path in wanted.items()))
    for form, theirs in wanted.items():
        same, count = same_tensors(Gguf(form=form)(model, tmp_path), theirs)
        print(f"{name} {form}: {same} of {count} tensors")
        assert same == count - (form == "q4_0" and name != "odd"), form  # whose output layer is Q8_0 here
