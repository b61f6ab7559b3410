"""Plug-ins as a recipe names them: a name under `use`, and the plug-in's own settings beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue, ValidationError

from ponder.core.errors import ConfigurationError
from ponder.core.plugins import load_plugin, plugin_names
from ponder.core.protocols import Objective, Reward


def open_objective(choice: Mapping[str, JsonValue]) -> Objective:
    """An objective with its settings.

    Raises:
        ConfigurationError: If there is none of that name, or a setting does not fit it.
    """
    config = dict(choice)
    return configured("objectives", str(config.pop("use", "")), config)


def says(objective: object, trait: str) -> bool:
    """Whether an objective's class says `asks_teacher`, `learns_stored` or `compares_group` of itself."""
    return bool(getattr(objective, trait, False))


def shipped_that_say(trait: str) -> str:
    """Names of Ponder's own objectives of which a trait holds, for a message."""
    names = plugin_names("objectives")
    return ", ".join(name for name in names if says(load_plugin("objectives", name), trait))


def open_reward(name: str, choice: float | Mapping[str, JsonValue]) -> tuple[Reward, float]:
    """A reward with its weight."""
    config = dict(choice) if isinstance(choice, Mapping) else {"weight": choice}
    weight = config.pop("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise ConfigurationError(f"the weight of reward {name!r} is not a number", where=f"rewards.{name}.weight")
    return configured("rewards", name, config), float(weight)


def configured(kind: str, name: str, config: dict[str, Any]) -> Any:
    """A plug-in made with its settings; one that is a plain function takes none."""
    plugin: Any = load_plugin(kind, name)
    if not isinstance(plugin, type):
        if config:
            raise ConfigurationError(f"{name!r} has no settings", where=f"{kind}.{name}.{next(iter(config))}")
        return plugin
    try:
        return plugin(**config)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([kind, name, *map(str, first["loc"])])
        raise ConfigurationError(first["msg"], where=where) from error
