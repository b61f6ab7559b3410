"""What `ponder export` does: a model as an artefact for another runtime."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from ponder.core.errors import ConfigurationError
from ponder.core.plugins import load_plugin
from ponder.core.protocols import Exporter
from ponder.models.load import resolve_model
from ponder.runs.files import megabytes


def export_model(model: str, to: str, out: Path) -> str:
    """Write the artefact, and say where it lies and how large it is.

    Args:
        model: As for `ponder.models.load.resolve_model`.
        to: Name of an exporter, or NAME:FORM.
        out: Folder.

    Raises:
        ConfigurationError: If there is no such exporter or form, or the model does not suit it.
    """
    path = exporter(to)(resolve_model(model), out)
    return f"{path} ({megabytes(path.stat().st_size)})"


def exporter(to: str) -> Exporter:
    """An exporter by its name and form, such as `gguf:q8_0`."""
    name, colon, form = to.partition(":")
    kind = load_plugin("exporters", name)
    try:
        return kind(form=form) if colon else kind()
    except ValidationError as error:
        raise ConfigurationError(f"{name} has no form {form!r}", where="--to", fix=error.errors()[0]["msg"]) from error
