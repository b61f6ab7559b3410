"""Makes a whole model of an adapter and the model it changes, and checks that it is their sum."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ponder.backends.local import model_parameters
from ponder.core.errors import ConfigurationError
from ponder.core.types import Json
from ponder.models.adapters import CONFIG, base_of, is_adapter
from ponder.models.load import load_model, parameter_count, resolve_model, save_model
from ponder.models.merged import check_merged
from ponder.stages._saving import ADAPTER, MODEL
from ponder.stages._stage import Context, Estimate, Stage


class Merge(Stage):
    """Adds an adapter to its model for good."""

    inputs: ClassVar[tuple[str, ...]] = ("adapter",)

    adapter: str
    """An earlier stage that trained one, or a folder in PEFT's form; it names the model that it changes."""

    def __call__(self, context: Context) -> Json:
        """Save `model/`, read it back, and compare it with the base with and without the adapter."""
        path = self._folder(context)
        loaded = load_model(str(path))
        merged = context.folder.path / MODEL
        save_model(loaded.model, loaded.chat, merged)
        parameters = parameter_count(loaded.model)
        base, digest = base_of(path), loaded.chat.digest
        del loaded
        return {"parameters": parameters, "template": digest, "base": base, "adapter": check_merged(base, path, merged)}

    def estimate(self, context: Context) -> Estimate:
        """Loading and saving: seconds."""
        parameters = model_parameters(context.artefact(self.adapter, ADAPTER))
        return Estimate(0, 0, 450 * 1024**2 + 8 * parameters, 3.0, "loads, saves and reads back")

    def _folder(self, context: Context) -> Path:
        """The adapter's folder.

        Raises:
            ConfigurationError: If there is none.
        """
        path = resolve_model(context.artefact(self.adapter, ADAPTER))
        if not is_adapter(path):
            raise ConfigurationError(
                f"this is no folder of an adapter: it has no {CONFIG}, or is a whole model",
                where=str(path),
                fix="name a stage that trained with `adapter`, or a folder that PEFT saved",
            )
        return path


plugin: type[Stage] = Merge
