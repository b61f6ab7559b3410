"""YAML as people mean it: the core schema of YAML 1.2, no tags, no duplicate keys.

`1e-5` is a number; `no`, `off` and `2026-01-01` are text; `010` is ten. Aliases are allowed, bombs are not.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any, ClassVar

import yaml
from yaml.scanner import ScannerError

from ponder.core.errors import ConfigurationError

MAX_VALUES = 100_000
"""Values in one file once aliases are expanded."""
MAX_DEPTH = 50
Lines = dict[tuple[str, ...], int]
"""1-based line of every key."""


class _Loader(yaml.SafeLoader):
    """The safe loader with another idea of scalars, and mappings whose keys are distinct strings."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # pyright: ignore[reportIncompatibleVariableOverride]

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        """Refuse deep nesting while reading, because the scanner's work grows with its square."""
        if self.flow_level > MAX_DEPTH:
            raise ScannerError(None, None, "this file is nested too deeply", self.get_mark())
        super().fetch_flow_collection_start(TokenClass)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse duplicate keys and keys that are not text."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is not text; put it in quotes", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} appears twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
        return int(text, 0) if text.lower().lstrip("+-").startswith(("0x", "0o")) else int(text)

    def construct_number(self, node: yaml.ScalarNode) -> float:
        return float(self.construct_scalar(node).lower().replace(".inf", "inf").replace(".nan", "nan"))

    def construct_unknown(self, node: yaml.Node) -> Any:
        raise yaml.constructor.ConstructorError(
            None, None, f"the tag {node.tag!r} is not allowed; write plain values", node.start_mark
        )


_TAG = "tag:yaml.org,2002:"
for _name, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor(_TAG + "int", _Loader.construct_integer)
_Loader.add_constructor(_TAG + "float", _Loader.construct_number)
for _name in ("timestamp", "binary", "set", "omap", "pairs"):
    _Loader.add_constructor(_TAG + _name, _Loader.construct_unknown)
_Loader.add_constructor(None, _Loader.construct_unknown)  # pyright: ignore[reportArgumentType]


def parse_yaml(data: bytes, source: str, *, mapping: bool = True) -> tuple[Any, Lines]:
    """Content of one YAML document and the line of each of its keys.

    Args:
        data: UTF-8 text, with or without a byte order mark.
        source: Name for messages.
        mapping: Whether anything but a mapping at the top is refused.

    Raises:
        ConfigurationError: If it is not YAML of this kind; names source and line.
    """
    try:
        loader = _Loader(data.decode("utf-8-sig"))
        node = loader.get_single_node()
        if node is None and mapping:
            raise ConfigurationError("this file is empty", where=source, fix="write a mapping, `key: value`")
        if mapping and not isinstance(node, yaml.MappingNode):
            kind = "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
            raise ConfigurationError(f"the top level is {kind}", where=source, fix="write a mapping, `key: value`")
        lines = _lines(node, source) if node is not None else {}
        return (loader.construct_document(node) if node is not None else None), lines
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"this is not UTF-8 text (byte {error.start})", where=source) from error
    except yaml.MarkedYAMLError as error:
        raise _explained(error, source) from error
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError("this is not YAML: " + str(error).splitlines()[0], where=source) from error
    except RecursionError as error:
        raise ConfigurationError("this file is nested too deeply", where=source) from error


def _lines(root: yaml.Node, source: str) -> Lines:
    """Walk the nodes with aliases expanded, so that a bomb is met here and not later."""
    lines: Lines = {}
    pending: list[tuple[tuple[str, ...], yaml.Node]] = [((), root)]
    visited = 0
    while pending:
        path, node = pending.pop()
        visited += 1
        if len(path) > MAX_DEPTH:
            raise ConfigurationError("this file is nested too deeply", where=source)
        if visited > MAX_VALUES:
            raise ConfigurationError(f"this file expands to more than {MAX_VALUES:,} values", where=source)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = (*path, str(key.value))
                lines[inner] = key.start_mark.line + 1
                pending.append((inner, value))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                inner = (*path, str(index))
                lines[inner] = value.start_mark.line + 1
                pending.append((inner, value))
    return lines


def _explained(error: yaml.MarkedYAMLError, source: str) -> ConfigurationError:
    mark = error.problem_mark or error.context_mark
    where = f"{source}:{mark.line + 1}" if mark is not None else source
    problem = error.problem or "this is not YAML"
    if "'\\t'" in problem:
        return ConfigurationError("a tab is used for indentation", where=where, fix="indent with spaces")
    return ConfigurationError(problem, where=where)
