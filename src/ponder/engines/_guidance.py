"""JSON schemas as llguidance compiles them: what an answer may begin with, and what is too much work."""

from __future__ import annotations

import json
from functools import cache, lru_cache
from typing import Any

from ponder.core.errors import ConfigurationError, ResourceError
from ponder.engines._schema import checked

try:
    import llguidance
except ImportError:
    llguidance = None

START = "start: /[ \\n]{0,2}/ answer\n"
"""Models begin a new line behind their thought."""
ANSWER = "answer: %json "
LIMITS = {"initial_lexer_fuel": 500_000, "step_lexer_fuel": 200_000, "step_max_items": 50_000,
          "max_lexer_states": 50_000, "max_grammar_size": 100_000, "verbose_errors": False}  # fmt: skip
"""Of the compiler and of one token: some 50 ms and 100 MB at the worst."""
TIGHT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""One way to lay JSON out: llama.cpp's llguidance lets a model write spaces for ever otherwise."""
MAX_KNOWN = 16
"""Grammars that are kept."""


def tokenizer_of(tokens: str, vocabulary: int | None = None, ends: list[int] | None = None) -> Any:
    """A tokenizer as llguidance has it.

    Args:
        tokens: A `tokenizer.json`, or `byte`.
        vocabulary: Logits of the model.
        ends: Tokens that end a turn.

    Raises:
        ResourceError: If the package that does it is missing.
    """
    if llguidance is None:
        raise ResourceError(
            "answers cannot be held to a JSON schema: llguidance is not installed",
            fix="pip install 'ponder[serve]'",
        )
    return llguidance.LLTokenizer(tokens, n_vocab=vocabulary, eos_token=ends)


def compiled(tokenizer: Any, schema: str, layout: dict[str, Any]) -> tuple[Any, str]:
    """What follows an answer, token by token, to be copied and not used up; and the grammar it follows.

    Args:
        tokenizer: See `tokenizer_of`.
        schema: JSON of a schema.
        layout: llguidance's settings for spaces between the parts.

    Raises:
        ConfigurationError: If the schema is too large, asks for what is not known, or can never be met.
    """
    text = ANSWER + json.dumps(checked(schema) | {"x-guidance": layout | {"lenient": False}})
    _matcher(tokenizer, "start: answer\n" + text)  # space in front would hide that nothing can follow
    return _matcher(tokenizer, START + text), START + text


@lru_cache(MAX_KNOWN)
def llama_grammar(schema: str) -> str:
    """A grammar for llama.cpp, compiled here first: it draws without any where it cannot compile one, and says nothing.

    Raises:
        ConfigurationError: See `compiled`.
        ResourceError: If the package that does it is missing.
    """
    return "%llguidance {}\n" + compiled(_bytes(), schema, TIGHT)[1]


@cache
def _bytes() -> Any:
    return tokenizer_of("byte")


def _matcher(tokenizer: Any, grammar: str) -> Any:
    assert llguidance is not None
    found = llguidance.LLMatcher(tokenizer, grammar, log_level=0, limits=llguidance.LLParserLimits(**LIMITS))
    if not found.is_error():
        found.compute_bitmask()
    if found.is_error():
        raise _unusable(found)
    return found


def _unusable(matcher: Any) -> ConfigurationError:
    why = matcher.get_error().partition("\n")[0][:200]
    known = ("Unimplemented", "Unsatisfiable", "Invalid", "schema too large")
    return ConfigurationError(
        "the JSON schema cannot be used" + (f": {why}" if why.startswith(known) else ""),
        where="json_schema",
        fix="use types, properties, required, items, enum, const, anyOf, $ref within the schema, and simple patterns",
    )
