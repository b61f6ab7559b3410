"""The `ponder-executorch.json` beside a `.pte`: what a program must know to run it, and where ExecuTorch is here."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from pydantic import Field, ValidationError

from ponder.core.errors import DataError, ResourceError
from ponder.core.types import Record

CONFIG = "ponder-executorch.json"
PYTHON = "PONDER_EXECUTORCH_PYTHON"
"""Environment variable that names an interpreter which has the package `executorch`."""
INSTALL = "pip install 'executorch==1.5.1' safetensors"
"""It brings 1.5 GB of its own, so no extra of Ponder installs it."""


class ExecutorchConfig(Record):
    """What a runner is told."""

    program: str = "model.pte"
    """File with the graph and weights, in the same folder."""
    form: str
    context: int = Field(ge=1, lt=2**31)
    """Positions of prompt and answer together."""
    vocabulary: int = Field(ge=1, lt=2**31)
    ends: tuple[int, ...] = Field(min_length=1)
    """Tokens that end a turn."""
    version: str
    """Of ExecuTorch, whose runtime must be as new."""


def read_executorch_config(folder: Path) -> ExecutorchConfig:
    """The checked configuration of a folder.

    Raises:
        DataError: If it is not there, or says something else than Ponder writes.
    """
    path = folder / CONFIG
    try:
        found = ExecutorchConfig.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DataError(f"{CONFIG} cannot be read", where=str(path)) from error
    if Path(found.program).name != found.program or not (folder / found.program).is_file():
        raise DataError(f"the program {found.program!r} is no file of this folder", where=str(path))
    return found


def executorch_python() -> str:
    """The interpreter that has ExecuTorch: the one that `PONDER_EXECUTORCH_PYTHON` names, or this one.

    Raises:
        ResourceError: If there is none.
    """
    named = os.environ.get(PYTHON, "")
    if named:
        if (found := shutil.which(named)) is None:
            raise ResourceError(f"{PYTHON} names no program", where=named)
        return found
    if importlib.util.find_spec("executorch") is None:
        raise ResourceError(
            "this needs the package 'executorch', which is not installed",
            fix=f"install it in an interpreter of its own ({INSTALL}) and name that one by {PYTHON}",
        )
    return sys.executable
