"""Writes a Qwen3 model folder as an f16 GGUF, as far as a benchmark needs it: a vocabulary of place-holders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from safetensors import safe_open

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def write_gguf(folder: Path, path: Path) -> None:
    """Weights as they are, norms in f32, and prompts must be given as ids."""
    config = json.loads((folder / "config.json").read_text())
    writer = GGUFWriter(str(path), "qwen3")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    size = config["vocab_size"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([f"t{number}" for number in range(size)])
    writer.add_token_types([TokenType.NORMAL] * size)
    writer.add_token_merges(["t 0"])
    writer.add_eos_token_id(0)
    with safe_open(folder / "model.safetensors", framework="np") as weights:
        for name in weights.keys():  # noqa: SIM118
            values = weights.get_tensor(name)
            if values.ndim == 1:
                writer.add_tensor(_renamed(name), values.astype(np.float32))
            else:
                writer.add_tensor(_renamed(name), values.astype(np.float16), raw_dtype=GGMLQuantizationType.F16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _renamed(name: str) -> str:
    plain = name.removeprefix("model.").removesuffix(".weight")
    if plain == "embed_tokens":
        return "token_embd.weight"
    if plain == "norm":
        return "output_norm.weight"
    _, layer, rest = plain.split(".", 2)
    return f"blk.{layer}.{NAMES[rest]}.weight"
