"""Which engine runs an exported model, known by its files."""

from __future__ import annotations

from pathlib import Path

GGUF = ".gguf"
MARKERS = {"genai_config.json": "onnx", "ponder-web.json": "browser", "ponder-executorch.json": "executorch"}
"""Files by which the folder of an artefact is known, and the engine that runs it."""


def artefact_engine(path: Path) -> str | None:
    """Name of the engine; None where it is no artefact, but a model folder or nothing."""
    if path.suffix == GGUF and path.is_file():
        return "gguf"
    return next((engine for marker, engine in MARKERS.items() if (path / marker).is_file()), None)
