"""Turns what pydantic says into what a person needs: the key, the line, the value, the nearest right name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ponder.core.errors import ConfigurationError

MAX_SHOWN = 5
"""Problems listed at once."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where keys were written."""

    source: str = ""
    lines: dict[tuple[str, ...], int] = field(default_factory=dict)
    overridden: dict[tuple[str, ...], str] = field(default_factory=dict)
    """Keys set on the command line, and by which option."""

    def of(self, path: tuple[str, ...]) -> str:
        """`recipe.yaml:12` of the key or of the nearest key around it, or the option that set it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.overridden:
                return self.overridden[path[:length]]
            if path[:length] in self.lines:
                return f"{self.source}:{self.lines[path[:length]]}"
        return self.source or ".".join(path)


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The name that was most likely meant, if any is near enough."""
    return next(iter(get_close_matches(name, list(names), n=1, cutoff=cutoff)), None)


def explain(
    error: ValidationError,
    model: type[BaseModel],
    content: Any,
    place: Place,
    prefix: tuple[str, ...] = (),
) -> ConfigurationError:
    """One error for the user out of all that validation found."""
    found = [_problem(details, model, content, place, prefix) for details in error.errors(include_url=False)]
    unique = list(dict.fromkeys(found))
    what = "; ".join(problem[0] for problem in unique[:MAX_SHOWN])
    if len(unique) > MAX_SHOWN:
        what += f"; and {len(unique) - MAX_SHOWN} more"
    where = ", ".join(dict.fromkeys(problem[1] for problem in unique[:MAX_SHOWN]))
    fix = "; ".join(dict.fromkeys(problem[2] for problem in unique if problem[2]))
    return ConfigurationError(what, where=where, fix=fix)


def _problem(
    details: Any, model: type[BaseModel], content: Any, place: Place, prefix: tuple[str, ...]
) -> tuple[str, str, str]:
    """(what, where, fix) of one finding."""
    written = _written_path(details["loc"], content)
    path = (*prefix, *written)
    key = ".".join(path)
    if details["type"] == "extra_forbidden":
        return f"unknown key {key}", place.of(path), _suggestion(written, model, prefix)
    if details["type"] == "missing":
        missing = (*path, str(details["loc"][-1]))
        return f"missing key {'.'.join(missing)}", place.of(missing), ""
    message = details["msg"].removeprefix("Value error, ").removeprefix("Input ").strip()
    return f"{key} {message}, not {_shown(details['input'])}", place.of(path), ""


def refuse_coercion(given: Any, checked: Any, place: Place, path: tuple[str, ...]) -> None:
    """Refuse what validation would bend: `true` or text for a number, text for a truth value.

    Args:
        given: The content as it was written.
        checked: The same after validation, as JSON.
        place: Where keys were written.
        path: Key of `given`.
    """
    if isinstance(given, dict) and isinstance(checked, dict):
        for key, value in given.items():
            refuse_coercion(value, checked.get(key), place, (*path, str(key)))
    elif isinstance(given, list) and isinstance(checked, list):
        for index, (value, bent) in enumerate(zip(given, checked, strict=False)):
            refuse_coercion(value, bent, place, (*path, str(index)))
    elif isinstance(given, str | bool) and isinstance(checked, int | float) and type(given) is not type(checked):
        wanted = "true or false" if isinstance(checked, bool) else "a number"
        raise ConfigurationError(f"{'.'.join(path)} should be {wanted}, not {_shown(given)}", where=place.of(path))


def _written_path(location: tuple[int | str, ...], content: Any) -> tuple[str, ...]:
    """The part of pydantic's location that exists in the file: unions add names of their own."""
    path: list[str] = []
    for part in location:
        inner: Any = dict(enumerate(content)) if isinstance(content, list) else content
        if isinstance(inner, dict) and part in inner:
            content = inner[part]
            path.append(str(part))
    return tuple(path)


def _suggestion(path: tuple[str, ...], model: type[BaseModel], prefix: tuple[str, ...]) -> str:
    """Names the nearest key, also when it belongs one level deeper."""
    around: type[BaseModel] = model
    for part in path[:-1]:
        inner = around.model_fields.get(part)
        deeper = next(_models(inner.annotation), None) if inner is not None else None
        if deeper is None:
            break
        around = deeper
    names = list(_names(around))
    exact = next((name for name in names if name.rpartition(".")[2] == path[-1]), None)
    near = exact or nearest(path[-1], names) or _nearest_leaf(path[-1], names)
    if near:
        return "did you mean " + ".".join((*prefix, *path[:-1], near)) + "?"
    return "known keys: " + ", ".join(around.model_fields) if around.model_fields else "it takes no keys"


def _nearest_leaf(name: str, names: list[str]) -> str | None:
    leaves = {full.rpartition(".")[2]: full for full in reversed(names)}
    near = nearest(name, leaves)
    return leaves[near] if near else None


def _names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Keys of a record, and of the records in its fields, dotted."""
    for name, info in model.model_fields.items():
        yield prefix + name
        for inner in _models(info.annotation):
            yield from _names(inner, f"{prefix}{name}.")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
