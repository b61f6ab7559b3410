"""How large a model is as its folder holds it; an adapter counts with the model that it changes."""

from __future__ import annotations

from pathlib import Path

from ponder.measure.resources import Footprint, footprint
from ponder.models.load import weights_folder


def size_of(folder: Path) -> Footprint:
    """Parameters of the model that is run, and bytes of all that is needed to run it.

    Raises:
        ConfigurationError: If an adapter does not say which model it changes, or it is nowhere.
        ValueError: If a safetensors file has no readable header.
    """
    whole = weights_folder(folder)
    size = footprint(whole)
    if whole == folder:
        return size
    return Footprint(size.parameters, size.disk_bytes + footprint(folder).disk_bytes)
