"""What a training stage leaves behind: the whole model, and the adapter that made it where one was trained."""

from __future__ import annotations

from pathlib import Path

from ponder.core.types import Json
from ponder.learn.train import LocalTrainer
from ponder.models.adapters import save_adapter
from ponder.models.load import LoadedModel, lasting_name, parameter_count, save_model
from ponder.models.merged import check_merged

MODEL = "model"
ADAPTER = "adapter"


def save_trained(trainer: LocalTrainer, loaded: LoadedModel, base: str, folder: Path) -> Json:
    """Save `model/` and, of a trained adapter, `adapter/` in PEFT's form; read both back and compare them.

    Returns:
        What the summary says of the model.

    Raises:
        PonderError: If the adapter changes nothing, or does not give the merged model.
    """
    save_model(loaded.model, loaded.chat, folder / MODEL)
    summary: Json = {"parameters": parameter_count(loaded.model), "template": loaded.chat.digest}
    if trainer.lora is not None:
        save_adapter(trainer.lora, lasting_name(base), folder / ADAPTER)
        checked = check_merged(base, folder / ADAPTER, folder / MODEL)
        summary["adapter"] = {"layers": len(trainer.lora.layers), **trainer.lora.memory(loaded.model), **checked}
    return summary
