"""The fake engine answers from what it was given, and only from that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine_models import user
from ponder.core.errors import ConfigurationError, DataError
from ponder.core.plugins import load_plugin
from ponder.core.types import Sampling

SAMPLING = Sampling(stop=("STOP",))
engine = load_plugin("engines", "scripted")


def texts(sampler: object, prompts: list[str], samples: int) -> list[list[str]]:
    groups = sampler.generate([user(prompt) for prompt in prompts], samples, SAMPLING)  # type: ignore[attr-defined]
    assert all(completion.tokens is None for group in groups for completion in group)
    return [[completion.text for completion in group] for group in groups]


def test_a_mapping_a_function_and_a_file(tmp_path: Path) -> None:
    assert texts(engine({"a": "1", "b": ["2", "3"]}), ["b", "a"], 3) == [["2", "3", "2"], ["1", "1", "1"]]
    assert texts(engine(lambda messages, sample: f"{messages[-1].content}{sample}STOP!"), ["x"], 2) == [["x0", "x1"]]
    path = tmp_path / "script.jsonl"
    rows = [
        {"prompt": "a", "response": "1"},
        {"prompt": "b", "responses": ["2"]},
        {"prompt": "a", "response": "4"},
    ]
    path.write_text("\n\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    for source in (path, str(path)):
        assert texts(engine(source), ["a", "b"], 2) == [["1", "4"], ["2", "2"]]


def test_watch_and_empty_requests() -> None:
    calls: list[tuple[int, int]] = []
    assert engine({}).generate([], 2, SAMPLING, lambda *counts: calls.append(counts)) == []
    assert calls == [(0, 0)]
    with pytest.raises(ConfigurationError, match="at least 1"):
        engine({}).generate([], 0, SAMPLING)


@pytest.mark.parametrize(
    "row",
    ['{"prompt": "a"}', "[]", "{", '{"prompt": 1, "response": "x"}', '{"prompt": "a", "responses": []}'],
)
def test_bad_rows_are_named(tmp_path: Path, row: str) -> None:
    path = tmp_path / "script.jsonl"
    path.write_text('{"prompt": "a", "response": "1"}\n' + row, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        engine(path)
    assert caught.value.where.endswith("script.jsonl:2")


def test_what_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        engine(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="no answer"):
        engine({"a": "1"}).generate([user("b")], 1, SAMPLING)
    with pytest.raises(DataError, match="empty list"):
        engine({"a": []})
