"""Answers held to JSON schemas: they parse or are cut, whatever the weights, and no schema is a bomb."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest

from engine_models import NATIVE, chat, model, need_kernels, user
from ponder.core.answers import split_thinking
from ponder.core.errors import ConfigurationError
from ponder.core.types import Completion, Finish, Sampling
from ponder.engines.local import LocalSampler

pytest.importorskip("llguidance")

from ponder.engines._constraint import Grammars

FIELDS: dict[str, Any] = {
    "type": "object",
    "properties": {"answer": {"type": "integer", "minimum": 0, "maximum": 999}, "sure": {"type": "boolean"}},
    "required": ["answer", "sure"],
    "additionalProperties": False,
}
TREE = {
    "$defs": {"node": {"type": "object", "properties": {"v": {"enum": ["a", "b"]}, "next": {"$ref": "#/$defs/node"}},
                       "required": ["v"], "additionalProperties": False}},
    "$ref": "#/$defs/node",
}  # fmt: skip
FREE = {"type": "object"}


def sample(schema: Any, samples: int = 8, family: str = "qwen3", **fields: Any) -> list[Completion]:
    sampling = Sampling(
        **{"temperature": 1.2, "max_new_tokens": 120, "seed": 3, "json_schema": json.dumps(schema)} | fields
    )
    return LocalSampler(model(family), chat()).generate([user("Anna has 12 coins.")], samples, sampling)[0]


def thought_and_answer(completion: Completion) -> tuple[list[int], list[int], bool]:
    """Tokens of the thought with its tags, those of the answer, and whether the thought is closed."""
    tokens = list(completion.tokens or ())
    if not tokens or tokens[0] != chat().think_open:
        return [], tokens, True
    if chat().think_close not in tokens:
        return tokens, [], False
    cut = tokens.index(chat().think_close) + 1
    return tokens[:cut], tokens[cut:], True


def test_an_answer_parses_and_fits_or_is_cut() -> None:
    ended = 0
    for schema, keys in ((FIELDS, {"answer", "sure"}), (TREE, {"v", "next"}), (FREE, None)):
        for completion in sample(schema):
            _, answer, _ = thought_and_answer(completion)
            if completion.finish is Finish.STOP:
                found = json.loads(chat().decode(answer))
                assert isinstance(found, dict) and (keys is None or found.keys() <= keys)
                if schema is FIELDS:
                    assert 0 <= found["answer"] <= 999 and isinstance(found["sure"], bool)
                ended += 1
            else:
                assert completion.finish is Finish.LENGTH and len(completion.tokens or ()) == 120
    assert ended >= 8


def test_a_thought_is_free_and_closed_before_the_answer() -> None:
    """With a budget of 6 tokens every thought that is begun is closed, and JSON follows."""
    found = sample(FIELDS, 64, max_thinking_tokens=6, temperature=3.0)
    thoughts = [completion for completion in found if (completion.tokens or (0,))[0] == chat().think_open]
    assert thoughts, "no sample began a thought: the test shows nothing"
    for completion in thoughts:
        thought, answer, closed = thought_and_answer(completion)
        assert closed and len(thought) <= 8
        assert not chat().stop_ids & set(thought)
        if completion.finish is Finish.STOP:
            assert json.loads(chat().decode(answer)).keys() == {"answer", "sure"}
            assert split_thinking(completion.text).closed


def test_a_prompt_that_opens_the_thought_waits_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(chat().__dict__, "prompt_opens_thinking", True)
    for completion in sample(FIELDS, max_thinking_tokens=5):
        tokens = list(completion.tokens or ())
        cut = tokens.index(chat().think_close)
        assert cut <= 5 and not chat().stop_ids & set(tokens[:cut])
        if completion.finish is Finish.STOP:
            assert json.loads(chat().tokenizer.decode(tokens[cut + 1 : -1])).keys() == {"answer", "sure"}


def test_no_turn_ends_inside_a_thought(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that draws almost evenly would end one thought in a hundred tokens in five."""
    monkeypatch.setitem(chat().__dict__, "prompt_opens_thinking", True)
    for completion in sample(FIELDS, 48, temperature=50.0, max_new_tokens=60):
        tokens = list(completion.tokens or ())
        cut = tokens.index(chat().think_close) if chat().think_close in tokens else len(tokens)
        assert not chat().stop_ids & set(tokens[:cut])


def test_company_changes_nothing() -> None:
    sampling = Sampling(temperature=1.0, max_new_tokens=60, seed=5, json_schema=json.dumps(FIELDS))
    sampler = LocalSampler(model("qwen3"), chat())
    prompts = [user(text) for text in ("x", "12 coins", "Step by step")]
    together = sampler.generate(prompts, 3, sampling)
    alone = [sampler.generate([prompt], 3, sampling)[0] for prompt in prompts]
    assert [[c.tokens for c in row] for row in together] == [[c.tokens for c in row] for row in alone]


def test_native_kernels_draw_from_what_is_left() -> None:
    need_kernels()
    for temperature in (0.0, 1.0):
        for completion in sample(FIELDS, 4, NATIVE[0], temperature=temperature):
            if completion.finish is Finish.STOP:
                assert json.loads(chat().decode(thought_and_answer(completion)[1])).keys() == {"answer", "sure"}


def test_stop_strings_do_not_go_with_a_schema() -> None:
    with pytest.raises(ConfigurationError, match="stop strings"):
        sample(FIELDS, stop=("}",))


def nested(depth: int) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


REFUSED: Sequence[tuple[str, Any]] = [
    ("no object", "[]"), ("no JSON", "{"), ("brackets", "[" * 50_000), ("deep", nested(70)), ("deeper", nested(2000)),
    ("large", {"enum": ["x" * 1000] * 100}), ("many", {"enum": list(range(10_001))}),
    ("refers to itself", {"$ref": "#"}),
    ("circle", {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
    ("another host", {"$ref": "http://evil.example/x.json"}), ("a file", {"$ref": "file:///etc/passwd"}),
    ("renamed", {"$id": "http://evil.example/", "$ref": "x"}), ("options", {"x-guidance": {"lenient": True}}),
    ("options inside", {"items": {"x-guidance": {}}}), ("divides", {"type": "integer", "multipleOf": 999_983}),
    ("divides often", {"allOf": [{"type": "integer", "multipleOf": p} for p in (97, 89, 83, 79)]}),
    ("divides finely", {"type": "number", "multipleOf": 0.999983}),
    ("by nothing", {"type": "integer", "multipleOf": 0}),
    ("wide", {"type": "number", "minimum": -1e300, "maximum": 1e300}),
    ("long", {"type": "string", "minLength": 10**9}), ("longer", {"type": "array", "minItems": 10**30}),
    ("pattern", {"type": "string", "pattern": "a" * 300}), ("looks back", {"type": "string", "pattern": "(?<=a)b"}),
    ("refers back", {"type": "string", "pattern": r"(a)\1"}),
    ("wide object", {"type": "object", "properties": {f"p{i}": {} for i in range(501)}}),
    ("cannot be met", {"type": "integer", "minimum": 5, "maximum": 3}), ("nothing", {"enum": []}),
    ("not known", {"not": {"type": "string"}}), ("no such type", {"type": "riddle"}),
]  # fmt: skip
BOUNDED: Sequence[tuple[str, Any]] = [
    ("tower of alternatives", {"$defs": {
        **{f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"},
                               {"type": "array", "items": {"$ref": f"#/$defs/d{i + 1}"}}]}
           for i in range(60)}, "d60": {"type": "string"}}, "$ref": "#/$defs/d0"}),
    ("product", {"allOf": [{"anyOf": [{"properties": {f"p{i}_{j}": {"type": "string", "pattern": f"^[a-z]{{{j}}}x"}}}
                                      for j in range(8)]} for i in range(12)]}),
    ("evil pattern", {"type": "string", "pattern": "^(a+)+$"}),
    ("repetition", {"type": "string", "pattern": "^((a{1,1000}){1,1000}){1,1000}$"}),
    ("exponential", {"type": "string", "pattern": "^(.*a.{30})$"}),
    ("many patterns", {"type": "object", "properties": {f"p{i}": {"type": "string", "pattern": "^(.*a.{20})$"}
                                                        for i in range(300)}}),
    ("many names", {"type": "object",
                    "patternProperties": {f"^.*{i}.{{20}}$": {"type": "integer"} for i in range(30)}}),
    ("long enum", {"enum": [f"value {i}" for i in range(4000)]}),
    ("remainders", {"type": "integer", "multipleOf": 9973, "minimum": -1e15, "maximum": 1e15}),
    ("lengths", {"type": "array", "items": {"type": "string", "minLength": 99_999}, "minItems": 99_999}),
    ("deep", nested(30)),
    ("objects", {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(500)}}),
    ("ranges", {"type": "object", "properties": {f"p{i}": {"type": "number", "minimum": -1e15 + i, "maximum": 1e15 - i}
                                                 for i in range(200)}}),
]  # fmt: skip


def text_of(schema: Any) -> str:
    if isinstance(schema, str):
        return schema
    depth, inner = 0, schema
    while isinstance(inner, dict) and "items" in inner:
        depth, inner = depth + 1, inner["items"]
    return '{"items": ' * depth + "{}" + "}" * depth if depth > 900 else json.dumps(schema)


@pytest.mark.parametrize(("name", "schema"), REFUSED, ids=[name for name, _ in REFUSED])
def test_what_cannot_be_followed_is_refused_at_once(name: str, schema: Any) -> None:
    started = time.perf_counter()
    with pytest.raises(ConfigurationError, match="JSON schema"):
        Grammars(chat(), 320).matcher(text_of(schema))
    assert time.perf_counter() - started < 2.0


@pytest.mark.parametrize(("name", "schema"), BOUNDED, ids=[name for name, _ in BOUNDED])
def test_a_riddle_takes_bounded_time(name: str, schema: Any) -> None:
    """It is compiled and followed for forty tokens, or refused: within seconds and a few hundred megabytes."""
    started, before = time.perf_counter(), resident()
    try:
        matcher = Grammars(chat(), 320).matcher(text_of(schema)).deep_copy()
        for _ in range(40):
            bits = matcher.compute_bitmask()
            allowed = [token for token in range(300) if bits[token // 8] >> token % 8 & 1]
            if not allowed or matcher.is_error() or not matcher.consume_token(allowed[len(allowed) // 2]):
                break
    except ConfigurationError:
        pass
    assert time.perf_counter() - started < 5.0
    assert resident() - before < 500 * 2**20


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
