"""Which JSON schemas a stranger may hold an answer to: small, without riddles, and read in bounded time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ponder.core.errors import ConfigurationError

MAX_CHARACTERS = 65_536
MAX_DEPTH = 64
MAX_VALUES = 10_000
"""Objects, lists and plain values of a schema together."""
MAX_PROPERTIES = 500
"""Of one object: thousands take seconds to compile."""
MAX_PATTERN = 256
"""Characters of a regular expression; they are run by an automaton, which does not go back."""
MAX_MULTIPLE = 10_000
"""The product of all `multipleOf`: an automaton that divides has a state for every remainder."""
MAX_COUNT = 100_000
"""Of `minLength`, `maxItems` and the like."""
MAX_NUMBER = 1e15
"""Of `minimum` and the like: wider ranges take a second and hundreds of megabytes to compile."""
COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def checked(schema: str) -> dict[str, Any]:
    """A schema, read and found harmless; whether it can be met at all is for the compiler to say.

    Args:
        schema: JSON of an object.

    Raises:
        ConfigurationError: If it is no JSON object, too large, or names something outside of itself.
    """
    if len(schema) > MAX_CHARACTERS:
        raise _refusal(f"has {len(schema)} characters, and may have {MAX_CHARACTERS}")
    try:
        found = json.loads(schema)
    except (ValueError, RecursionError):
        raise _refusal("is not JSON, or is nested too deeply") from None
    if not isinstance(found, dict):
        raise _refusal("must be an object")
    multiple = 1.0
    for seen, (depth, value) in enumerate(_values(found), start=1):
        if depth > MAX_DEPTH:
            raise _refusal(f"is nested more than {MAX_DEPTH} deep")
        if seen > MAX_VALUES:
            raise _refusal(f"has more than {MAX_VALUES} values")
        if isinstance(value, dict):
            _check_object(value)
            multiple *= _multiple(value)
            if multiple > MAX_MULTIPLE:
                raise _refusal(f"asks for multiples beyond {MAX_MULTIPLE}")
    return found


def _values(root: Any) -> Iterator[tuple[int, Any]]:
    """(depth, value) of everything inside, without recursion of our own."""
    waiting = [(1, root)]
    while waiting:
        depth, value = waiting.pop()
        yield depth, value
        if isinstance(value, dict):
            waiting += [(depth + 1, inner) for inner in value.values()]
        elif isinstance(value, list):
            waiting += [(depth + 1, inner) for inner in value]


def _check_object(part: dict[str, Any]) -> None:
    if "x-guidance" in part:
        raise _refusal("sets options of the compiler (x-guidance)")
    for name in ("$ref", "$dynamicRef", "$recursiveRef"):
        if isinstance(part.get(name), str) and not part[name].startswith("#"):
            raise _refusal(f"refers to something outside of itself ({name})")
    if isinstance(part.get("$id"), str):
        raise _refusal("renames itself ($id)")
    properties = part.get("properties")
    if isinstance(properties, dict) and len(properties) > MAX_PROPERTIES:
        raise _refusal(f"has an object of more than {MAX_PROPERTIES} properties")
    patterns = [part.get("pattern"), *_keys(part.get("patternProperties"))]
    if any(isinstance(pattern, str) and len(pattern) > MAX_PATTERN for pattern in patterns):
        raise _refusal(f"has a pattern of more than {MAX_PATTERN} characters")
    for names, limit in ((COUNTS, MAX_COUNT), (BOUNDS, MAX_NUMBER)):
        for name in names:
            if isinstance(part.get(name), int | float) and not -limit <= part[name] <= limit:
                raise _refusal(f"has a {name} beyond {limit:g}")


def _multiple(part: dict[str, Any]) -> float:
    """What `multipleOf` adds to the work: 0.25 asks as much as 25 does."""
    value = part.get("multipleOf")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 1.0
    if not 1e-6 <= value <= MAX_MULTIPLE:
        raise _refusal(f"has a multipleOf beyond 0.000001 to {MAX_MULTIPLE}")
    digits = f"{value:.12f}".strip("0").replace(".", "")
    return float(max(1, int(digits or 1)))


def _keys(value: Any) -> list[Any]:
    return list(value) if isinstance(value, dict) else []


def _refusal(why: str) -> ConfigurationError:
    return ConfigurationError(f"the JSON schema {why}", where="json_schema", fix="use a smaller, plain schema")
