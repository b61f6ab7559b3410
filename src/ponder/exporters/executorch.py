"""Writes a model as a `.pte` for ExecuTorch, which Android and iOS applications run, beside its tokenizer."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from safetensors.torch import load_file

from ponder.core.chat import Chat
from ponder.core.errors import ConfigurationError, ResourceError
from ponder.core.protocols import Exporter
from ponder.core.types import Record
from ponder.exporters._edge.source import checked_source
from ponder.exporters._edge.tool import call
from ponder.exporters._shape import Shape
from ponder.models.executorch_config import CONFIG, INSTALL, ExecutorchConfig, executorch_python
from ponder.runs.files import atomic_folder, require_space

EXPORT = "executorch.extension.llm.export.export_llm"
FAMILIES = {"qwen3": "qwen3_0_6b"}
"""ExecuTorch's name of an architecture; the sizes in that name are overridden."""
GROUP = 32
"""Weights that share a scale in 8da4w."""
OWN = {
    "model.embed_tokens.weight": "tok_embeddings.weight",
    "model.norm.weight": "norm.weight",
    "lm_head.weight": "output.weight",
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "self_attn.q_norm": "attention.q_norm_fn",
    "self_attn.k_norm": "attention.k_norm_fn",
    "post_attention_layernorm": "ffn_norm",
    "input_layernorm": "attention_norm",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
    "model.layers.": "layers.",
}
"""Parts of a tensor's name, and ExecuTorch's.

Source:
    executorch 1.5.1, examples/models/qwen3/convert_weights.py.
"""
VERSION = "import importlib.metadata as m; print(m.version('executorch'))"
SPACE_FACTOR = 6
"""Free disk for each byte of the model's files."""


class Executorch(Record):
    """A folder with the program, the tokenizer, the template and what a runner must know, for a Qwen3 model.

    Made by ExecuTorch's own exporter, for its XNNPACK backend.
    """

    form: Literal["8da4w", "fp32"] = "8da4w"
    """8da4w: matrices of four bits in groups of 32, activations of eight, embedding of eight; or all in float32."""
    name: str = ""
    """Of the folder; by default the model's."""

    def __call__(self, model: Path, out: Path) -> Path:
        """Write the folder `NAME-executorch-FORM`, whole or not at all; one of that name is replaced.

        Raises:
            ConfigurationError: If architecture, tokenizer or template cannot be expressed.
            DataError: If weights are missing, misshapen or not finite.
            ResourceError: If ExecuTorch is not installed, or the disk is full or not ours.
        """
        python = executorch_python()
        shape, chat = checked_source(model, FAMILIES)
        if self.form == "8da4w" and (
            shape.width % GROUP or shape.inner % GROUP or shape.heads * shape.head_dim % GROUP
        ):
            raise ConfigurationError(f"8da4w needs sizes that are multiples of {GROUP}", fix="choose executorch:fp32")
        require_space(out, SPACE_FACTOR * sum(file.stat().st_size for file in model.glob("*.safetensors")))
        version = _version(python)
        path = out / f"{self.name or model.resolve().name}-executorch-{self.form}"
        with atomic_folder(path) as folder:
            work = folder / "work"
            work.mkdir()
            settings = self._settings(shape, chat, work, folder)
            torch.save(_renamed(model, shape), work / "model.pth")
            (work / "params.json").write_text(json.dumps(_parameters(shape)), encoding="utf-8")
            (work / "export.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
            call([python, "-m", EXPORT, "--config", str(work / "export.yaml")], work, "the exporter of ExecuTorch")
            shutil.rmtree(work, ignore_errors=True)
            _beside(model, chat, folder)
            config = ExecutorchConfig(
                form=self.form,
                context=shape.context,
                vocabulary=shape.vocabulary,
                ends=(chat.end_id, *sorted(chat.stop_ids - {chat.end_id})),
                version=version,
            )
            (folder / CONFIG).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return path

    def _settings(self, shape: Shape, chat: Chat, work: Path, folder: Path) -> dict[str, Any]:
        """As `export_llm` reads them."""
        begin = chat.tokenizer.bos_token_id
        told = {"get_eos_ids": sorted(chat.stop_ids)} | ({} if begin is None else {"get_bos_id": begin})
        settings: dict[str, Any] = {
            "base": {
                "model_class": FAMILIES[shape.family],
                "checkpoint": str(work / "model.pth"),
                "params": str(work / "params.json"),
                "metadata": json.dumps(told),
            },
            "model": {"use_kv_cache": True, "use_sdpa_with_kv_cache": True, "dtype_override": "fp32"},
            "export": {
                "max_seq_length": shape.context,
                "max_context_length": shape.context,
                "output_name": str(folder / "model.pte"),
            },
            "backend": {"xnnpack": {"enabled": True, "extended_ops": True}},
        }
        if self.form == "8da4w":
            settings["quantization"] = {"qmode": "8da4w", "group_size": GROUP, "embedding_quantize": "8,0"}
        return settings


def _renamed(model: Path, shape: Shape) -> dict[str, torch.Tensor]:
    """The checkpoint under ExecuTorch's names, in float32."""
    found: dict[str, torch.Tensor] = {}
    for shard in sorted(model.glob("*.safetensors")):
        for name, tensor in load_file(shard).items():
            for part, own in OWN.items():
                name = name.replace(part, own)
            found[name] = tensor.float()
    if shape.tied:
        found["output.weight"] = found["tok_embeddings.weight"]
    return found


def _parameters(shape: Shape) -> dict[str, Any]:
    """Sizes under ExecuTorch's names."""
    return {
        "dim": shape.width,
        "hidden_dim": shape.inner,
        "n_layers": shape.layers,
        "n_heads": shape.heads,
        "n_kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocabulary,
        "norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_theta,
        "use_scaled_rope": False,
        "use_hf_rope": True,
        "attention_qkv_bias": False,
        "use_qk_norm": True,
        "qk_norm_before_rope": True,
    }


def _beside(model: Path, chat: Chat, folder: Path) -> None:
    """What the program is read and asked with."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (model / name).is_file():
            shutil.copyfile(model / name, folder / name)
    (folder / "chat_template.jinja").write_text(chat.template, encoding="utf-8")


def _version(python: str) -> str:
    try:
        done = subprocess.run([python, "-c", VERSION], capture_output=True, check=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ResourceError(
            "this interpreter has no package 'executorch'",
            where=python,
            fix=f"install it there: {INSTALL}",
        ) from error
    return done.stdout.decode().strip()


plugin: type[Exporter] = Executorch
