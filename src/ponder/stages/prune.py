"""Makes a smaller student from a model: cuts it down, for distillation to restore what was lost."""

from __future__ import annotations

import copy
from typing import ClassVar

from pydantic import Field

from ponder.core.types import Json
from ponder.models.load import load_model, parameter_count, save_model
from ponder.models.prune import prune
from ponder.stages._estimates.machine import PROCESS_BYTES
from ponder.stages._estimates.sources import source_of
from ponder.stages._outlook import Leaves
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
        source = source_of(context, self.model)
        config = copy.deepcopy(source.config)
        config.intermediate_size = self.intermediate_size or config.intermediate_size
        config.num_hidden_layers = self.layers or config.num_hidden_layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[: config.num_hidden_layers]
        size = 4 * source.parameters
        memory = PROCESS_BYTES + 2 * size
        leaves = Leaves(config=config)
        return Estimate(0, 0, memory, 2.0, "loads and saves", 1.0, 6.0, disk_bytes=size, left_bytes=size, leaves=leaves)


plugin: type[Stage] = Prune
