"""What a run was made with: versions, machine and keys, for whoever must reproduce or doubt it."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from ponder.core.types import Json
from ponder.runs.keys import code_version

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pydantic", "pyarrow", "sympy")


def package_versions(more: Sequence[str] = ()) -> dict[str, str | None]:
    """Versions of the packages that results depend on, and of others, without importing them; None: not installed."""
    return {name: _version(name) for name in (*PACKAGES, *more)}


def environment() -> Json:
    """Code, packages and machine."""
    return {
        "ponder": code_version(),
        "python": platform.python_version(),
        "packages": package_versions(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
