"""How much each input of a model's matrices matters along texts: where a quantiser should spend its bits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from ponder.core.types import FloatArray
from ponder.models.load import check_folder

EMBEDDING = "model.embed_tokens.weight"


@torch.inference_mode()
def importance_of(folder: Path, sequences: Sequence[Sequence[int]]) -> dict[str, FloatArray]:
    """(columns,) mean square of every input of each linear layer over all tokens, by the name of its weights.

    A tied output layer is found under the name of the embedding.

    Args:
        folder: Of the model.
        sequences: Token ids of prompts with their answers, such as reasoning traces.

    Raises:
        ConfigurationError: If the folder is unsafe or incomplete.

    Source:
        llama.cpp's importance matrix (PR 4861): an error weighs as the square of what the column is multiplied with.
    """
    check_folder(folder)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
    ).eval()
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def watch(name: str) -> object:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            rows = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).double()
            sums[name] = sums.get(name, torch.zeros(rows.shape[1], dtype=torch.float64)) + (rows**2).sum(0)
            counts[name] = counts.get(name, 0) + len(rows)

        return hook

    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(watch(f"{name}.weight"))  # type: ignore[arg-type]
    for tokens in sequences:
        model(torch.tensor([list(tokens)]), use_cache=False)
    found = {name: (total / counts[name]).float().numpy() for name, total in sums.items()}
    if model.config.tie_word_embeddings and "lm_head.weight" in found:
        found[EMBEDDING] = found.pop("lm_head.weight")
    return found
