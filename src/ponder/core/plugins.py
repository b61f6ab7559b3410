"""Finds a plug-in by name: `rloo` is `ponder.objectives.rloo`, a dotted name is anyone's module.

A plug-in is a module whose last line assigns `plugin`. There is no registry and no decorator.
"""

from __future__ import annotations

import importlib
import pkgutil
from difflib import get_close_matches
from typing import Any

from ponder.core.errors import ConfigurationError, ResourceError

KINDS = ("tasks", "verifiers", "rewards", "engines", "objectives", "exporters")


def load_plugin(kind: str, name: str) -> Any:
    """The `plugin` of a module: a class to be configured, or a function.

    Args:
        kind: Folder of the plug-in, one of `KINDS`.
        name: A bare name in that folder, or the dotted name of any importable module.

    Raises:
        ConfigurationError: If there is no such plug-in; names the nearest.
        ResourceError: If the plug-in needs a package that is not installed.
    """
    module_name = name if "." in name else f"ponder.{kind}.{name}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing != module_name and not module_name.startswith(f"{missing}."):
            raise ResourceError(
                f"{kind[:-1]} {name!r} needs the package {missing!r}, which is not installed",
                fix=f"pip install {missing}",
            ) from error
        raise ConfigurationError(f"there is no {kind[:-1]} {name!r}", fix=_suggest(kind, name)) from error
    if not hasattr(module, "plugin"):
        raise ConfigurationError(
            f"{module_name} is not a {kind[:-1]}: it has no line `plugin = ...`", fix=_suggest(kind, name)
        )
    return module.plugin


def plugin_names(kind: str) -> list[str]:
    """Names of the plug-ins that ship in a folder; modules that begin with `_` are not plug-ins."""
    package = importlib.import_module(f"ponder.{kind}")
    names = (info.name for info in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in names if not name.startswith("_"))


def _suggest(kind: str, name: str) -> str:
    names = plugin_names(kind)
    near = get_close_matches(name, names, n=1)
    lead = f"did you mean {near[0]!r}? " if near else ""
    return f"{lead}choose one of: {', '.join(names)}; or a dotted module name of your own"
