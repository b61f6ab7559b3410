"""Makes a smaller student from a model: cuts it down, for distillation to restore what was lost."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from ponder.backends.local import model_parameters
from ponder.core.types import Json
from ponder.models.load import load_model, parameter_count, save_model
from ponder.models.prune import prune
from ponder.stages._stage import Context, Estimate, Stage


class Prune(Stage):
    """Cuts units and layers."""

    inputs: ClassVar[tuple[str, ...]] = ("model",)

    model: str
    """The model that is cut."""
    intermediate_size: int | None = Field(default=None, ge=1)
    """Units of each layer that are kept; None keeps all."""
    layers: int | None = Field(default=None, ge=1)
    """Layers that are kept; None keeps all."""

    def __call__(self, context: Context) -> Json:
        """Save `model/`."""
        loaded = load_model(context.artefact(self.model, "model"))
        before = parameter_count(loaded.model)
        small = prune(loaded.model, self.intermediate_size, self.layers)
        save_model(small, loaded.chat, context.folder.path / "model")
        return {"parameters": parameter_count(small), "parameters_before": before, "template": loaded.chat.digest}

    def estimate(self, context: Context) -> Estimate:
        """Loading and saving: seconds."""
        parameters = model_parameters(context.artefact(self.model, "model"))
        return Estimate(0, 0, 450 * 1024**2 + 8 * parameters, 2.0, "loads and saves")


plugin: type[Stage] = Prune
