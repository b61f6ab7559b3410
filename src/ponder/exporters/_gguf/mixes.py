"""Which tensor is stored in which form: the mixes that llama.cpp calls Q4_K_M and the like.

Some tensors bear rounding badly (the output layer, values, the way back from the inner layer), and get more bits; what
has rows that are no whole blocks falls back to a form with smaller blocks.

Source:
    llama.cpp, src/llama-quant.cpp, `llama_tensor_get_type_impl` and `tensor_type_fallback`, as of 2026. Left out: its
    exceptions for mixtures of experts, for Falcon, and for Llama 2 of 70 billion parameters. One thing is otherwise:
    the output layer of q4_0 is Q8_0 here, and Q6_K there, because q4_0 is the small form that needs no library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gguf
from gguf import GGMLQuantizationType as Kind
from gguf import LlamaFileType as File

FALL_BACK = {
    Kind.Q2_K: Kind.Q4_0, Kind.Q3_K: Kind.Q4_0, Kind.Q4_K: Kind.Q5_0, Kind.Q5_K: Kind.Q5_1, Kind.Q6_K: Kind.Q8_0,
}  # fmt: skip
"""Where rows are no whole blocks of 256."""
SHARED = 4
"""Heads that share keys and values, from which on these matrices are small enough to be given more bits in q2_k."""


@dataclass(frozen=True, slots=True)
class Mix:
    """A form as a user names it."""

    base: Kind
    """Of most matrices; vectors always stay float32."""
    file: File
    """What the file says it is."""
    output: Kind | None = None
    """Of the output layer, which may be the embedding."""
    values: Callable[[int, int], Kind] | None = None
    back: Callable[[int, int], Kind] | None = None
    """Of attn_v and ffn_down, by number of the layer and of all layers; None: as most."""
    attention_output: Kind | None = None
    shared_values: Kind | None = None
    """Of attn_v where at least `SHARED` heads share it; None: as `values` says."""


def more_bits(layer: int, layers: int) -> bool:
    """The layers that matter most: the first and the last eighth, and every third between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _if_more(kind: Kind, base: Kind) -> Callable[[int, int], Kind]:
    return lambda layer, layers: kind if more_bits(layer, layers) else base


def _first(count: Callable[[int], int], kind: Kind, base: Kind) -> Callable[[int, int], Kind]:
    return lambda layer, layers: kind if layer < count(layers) else base


def _always(kind: Kind) -> Callable[[int, int], Kind]:
    return lambda layer, layers: kind


MIXES = {
    "f32": Mix(Kind.F32, File.ALL_F32),
    "f16": Mix(Kind.F16, File.MOSTLY_F16),
    "bf16": Mix(Kind.BF16, File.MOSTLY_BF16),
    "q8_0": Mix(Kind.Q8_0, File.MOSTLY_Q8_0),
    "q4_0": Mix(Kind.Q4_0, File.MOSTLY_Q4_0, output=Kind.Q8_0),
    "q6_k": Mix(Kind.Q6_K, File.MOSTLY_Q6_K, output=Kind.Q6_K),
    "q5_k_m": Mix(
        Kind.Q5_K, File.MOSTLY_Q5_K_M, Kind.Q6_K, _if_more(Kind.Q6_K, Kind.Q5_K), _if_more(Kind.Q6_K, Kind.Q5_K)
    ),
    "q5_k_s": Mix(Kind.Q5_K, File.MOSTLY_Q5_K_S, output=Kind.Q6_K),
    "q4_k_m": Mix(
        Kind.Q4_K, File.MOSTLY_Q4_K_M, Kind.Q6_K, _if_more(Kind.Q6_K, Kind.Q4_K), _if_more(Kind.Q6_K, Kind.Q4_K)
    ),
    "q4_k_s": Mix(
        Kind.Q4_K,
        File.MOSTLY_Q4_K_S,
        Kind.Q6_K,
        _first(lambda layers: 4, Kind.Q5_K, Kind.Q4_K),
        _first(lambda layers: layers // 8, Kind.Q5_K, Kind.Q4_K),
    ),
    "q3_k_m": Mix(
        Kind.Q3_K,
        File.MOSTLY_Q3_K_M,
        Kind.Q6_K,
        _first(lambda layers: 2, Kind.Q5_K, Kind.Q4_K),
        _first(lambda layers: layers // 16, Kind.Q5_K, Kind.Q4_K),
        Kind.Q4_K,
    ),
    "q2_k": Mix(
        Kind.Q2_K,
        File.MOSTLY_Q2_K,
        Kind.Q6_K,
        _always(Kind.Q3_K),
        _always(Kind.Q3_K),
        Kind.Q3_K,
        shared_values=Kind.Q4_K,
    ),
}
"""By the name that a user writes."""
FORMS = tuple(MIXES)


def kind_of(form: str, name: str, layers: int, sharing: int, tied: bool) -> Kind:
    """In what a matrix is to be stored, if its rows allow it.

    Args:
        form: Name of the mix.
        name: llama.cpp's name of the tensor.
        layers: Of the model.
        sharing: Heads that share one head of keys and values.
        tied: Whether the embedding is the output layer as well.
    """
    mix = MIXES[form]
    if mix.output is not None and name == ("token_embd.weight" if tied else "output.weight"):
        return mix.output
    parts = name.split(".")
    if len(parts) < 3 or parts[0] != "blk":
        return mix.base
    layer, part = int(parts[1]), parts[2]
    if part == "attn_v" and mix.shared_values is not None and sharing >= SHARED:
        return mix.shared_values
    chosen = {"attn_v": mix.values, "ffn_down": mix.back}.get(part)
    if chosen is not None:
        return chosen(layer, layers)
    return mix.attention_output if part == "attn_output" and mix.attention_output is not None else mix.base


def fitting(kind: Kind, columns: int) -> Kind:
    """The kind itself where a row is whole blocks of it; otherwise one with smaller blocks, at last float16."""
    if columns % gguf.GGML_QUANT_SIZES[kind][0]:
        kind = FALL_BACK.get(kind, kind)
    return kind if columns % gguf.GGML_QUANT_SIZES[kind][0] == 0 else Kind.F16
