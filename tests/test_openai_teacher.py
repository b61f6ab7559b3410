"""A served teacher: what it says of a student's tokens, and what becomes of an answer that cannot be true."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from chaos_server import Asked, ChaosServer
from ponder.core.errors import ConfigurationError, ResourceError
from ponder.core.types import Completion, Problem, Trace, Verdict
from ponder.engines._openai import patience, waiting
from ponder.engines._openai.teacher import ServedTeacher, scores_of, top_of

K = 3


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FIRST", 0.002)
    monkeypatch.setattr(patience, "FIRST_CONTACT", 0.2)


def trace(prompt: tuple[int, ...], tokens: tuple[int, ...]) -> Trace:
    completion = Completion(text="x", prompt_tokens=prompt, tokens=tokens)
    return Trace(problem=Problem(id="p", task="t", prompt="q"), completion=completion, verdict=Verdict.correct())


def told(ids: list[int], k: int) -> dict[str, Any]:
    """A server whose distribution at place t gives token (ids[t] + j) the probability 0.5 / 2 ** j."""
    tops = [{f"token_id:{i + j}": math.log(0.5 / 2**j) for j in range(k)} for i in ids]
    return {
        "tokens": [f"token_id:{i}" for i in ids],
        "token_logprobs": [None, *[math.log(0.5)] * (len(ids) - 1)],
        "top_logprobs": [None, *tops[1:]],
    }


@contextmanager
def serving(change: Callable[[Asked, dict[str, Any]], Any] = lambda asked, said: said) -> Iterator[ChaosServer]:
    def route(asked: Asked, raw: bytes) -> tuple[int, bytes]:
        said = change(asked, told(asked.body["prompt"], asked.body["logprobs"]))
        if isinstance(said, tuple):
            return said
        return 200, json.dumps({"choices": [{"index": 0, "text": "", "logprobs": said}]}).encode()

    with ChaosServer() as server:
        server.routes["POST /v1/completions"] = route
        yield server


def teacher_at(server: ChaosServer, options: str = "") -> ServedTeacher:
    return ServedTeacher(f"openai:m@{server.url}{options}", environment={})


def test_what_it_says_is_aligned_with_the_tokens() -> None:
    traces = [trace((1, 2), (10, 20, 30)), trace((5,), (7,))]
    with serving() as server:
        teacher = teacher_at(server)
        logprobs, tops = teacher.logprobs(traces), teacher.top(traces, K)
        asked = server.asked[-1].body
    fixed = {"model": "m", "echo": True, "max_tokens": 0, "logprobs": K, "return_tokens_as_token_ids": True}
    assert {name: asked[name] for name in fixed} == fixed and asked["prompt"] in ([1, 2, 10, 20, 30], [5, 7])
    assert np.isnan(logprobs[0][0]) and np.allclose(logprobs[0][1:], math.log(0.5)) and len(logprobs[1]) == 2
    assert tops[0].ids.tolist() == [[-1] * 3, [-1] * 3, [10, 11, 12], [20, 21, 22], [30, 31, 32]]
    assert np.allclose(tops[0].logprobs[2], np.log([0.5, 0.25, 0.125]))
    assert np.allclose(tops[0].tail, [0, 0, *[math.log(0.125)] * 3])
    assert np.allclose(np.exp(tops[0].logprobs[2:]).sum(1) + np.exp(tops[0].tail[2:]), 1)
    assert teacher.report == {"positions": 4, "masked": 0, "mean_mass": pytest.approx(0.875)}


@pytest.mark.parametrize(
    ("row", "ids", "mass"),
    [
        ({"token_id:4": -2.0, "token_id:3": -1.0}, [3, 4, -1], math.exp(-1) + math.exp(-2)),  # unsorted, short
        ({"token_id:4": None, "token_id:3": -1.0, "token_id:9": "x"}, [3, -1, -1], math.exp(-1)),
        ({"token_id:4": -math.inf, "token_id:3": -1.0, "token_id:5": math.nan}, [3, -1, -1], math.exp(-1)),
        ({f"token_id:{i}": -2.0 for i in range(6)}, [0, 1, 2], 3 * math.exp(-2)),  # more than were asked for
        ({"token_id:3": 0.0}, [3, -1, -1], 1.0),
        ({"token_id:3": 0.0005}, [3, -1, -1], 1.0),
        ({"token_id:3": 0.7}, [-1, -1, -1], None),  # no log-probability
        ({"token_id:3": -0.1, "token_id:4": -0.1}, [-1, -1, -1], None),  # no distribution
        ({"the": -0.1, "token_id:-4": -1.0, "token_id:x": -1.0}, [-1, -1, -1], None),
        ({}, [-1, -1, -1], None),
        (None, [-1, -1, -1], None),
        ([1, 2], [-1, -1, -1], None),
    ],
)
def test_h7_rows_that_cannot_be_used_are_masked(row: Any, ids: list[int], mass: float | None) -> None:
    said = {"tokens": ["token_id:8", "token_id:9"], "token_logprobs": [None, -1.0], "top_logprobs": [None, row]}
    top = top_of(scores_of({"choices": [{"logprobs": said}]}, [8, 9]).rows, K, 1)
    assert top.ids[1].tolist() == ids
    if mass is None:
        assert top.tail[1] == 0 and np.isneginf(top.logprobs[1]).all()
    else:
        assert math.exp(top.tail[1]) == pytest.approx(1 - mass, abs=1e-6) and np.isfinite(top.logprobs[1][0])
        assert list(top.logprobs[1]) == sorted(top.logprobs[1], reverse=True)


def test_h7_missing_and_short_lists_are_masked_and_counted() -> None:
    def short(asked: Asked, said: dict[str, Any]) -> dict[str, Any]:
        return {**said, "token_logprobs": said["token_logprobs"][:3], "top_logprobs": said["top_logprobs"][:3]}

    with serving(short) as server:
        teacher = teacher_at(server)
        logprobs = teacher.logprobs([trace((1,), (2, 3, 4))])[0]
        top = teacher.top([trace((1,), (2, 3, 4))], K)[0]
    assert np.isnan(logprobs).tolist() == [True, False, False, True]
    assert (top.ids[:, 0] < 0).tolist() == [True, False, False, True] and teacher.report["masked"] == 1
    longer = {**told([1, 2], K), "tokens": ["token_id:1", "token_id:2", "token_id:3"]}
    assert len(scores_of({"choices": [{"logprobs": longer}]}, [1, 2]).logprobs) == 2


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["token_id:0", "token_id:1", "token_id:2"], "other tokens"),  # one was put in front
        (["a", "b"], "by their ids"),
        ([None, None], "by their ids"),
    ],
)
def test_a_server_with_other_tokens_is_refused(tokens: list[Any], message: str) -> None:
    renamed = serving(lambda asked, said: {**said, "tokens": tokens})
    with renamed as server, pytest.raises(ConfigurationError, match=message):
        teacher_at(server).top([trace((1,), (2,))], K)


def test_failures_pass_and_one_rejected_sequence_is_masked() -> None:
    def change(asked: Asked, said: dict[str, Any]) -> Any:
        if len(asked.body["prompt"]) > 4:
            return 400, b'{"error": {"message": "too long"}}'
        return (503, b"busy") if asked.nth < 2 else said

    with serving(change) as server:
        teacher = teacher_at(server)
        first, second = teacher.top([trace((1,), (2, 3)), trace((1, 2), (3, 4, 5))], K)
        assert (first.ids[1:, 0] >= 0).all() and (second.ids < 0).all()
        assert teacher.report == {"positions": 5, "masked": 3, "mean_mass": pytest.approx(0.875)}
        with pytest.raises(ConfigurationError, match="too long"):
            teacher.logprobs([trace((1, 2), (3, 4, 5))])
        assert teacher.logprobs([]) == []


@pytest.mark.parametrize("said", [None, {}, {"tokens": None}, "x"])
def test_a_server_that_does_not_score_is_named(said: Any) -> None:
    with serving(lambda asked, right: said) as server, pytest.raises(ConfigurationError, match="scores none"):
        teacher_at(server).logprobs([trace((1,), (2,))])


def test_a_server_that_is_not_there() -> None:
    with ChaosServer() as server:
        url = server.url
    with pytest.raises(ResourceError, match="no answers"):
        ServedTeacher(f"openai:m@{url}", environment={}).logprobs([trace((1,), (2,))])


def test_a_trace_without_tokens_is_refused() -> None:
    bare = Trace(
        problem=Problem(id="p", task="t", prompt="q"), completion=Completion(text="x"), verdict=Verdict.wrong()
    )
    with pytest.raises(ConfigurationError, match="has none"):
        ServedTeacher("openai:m@http://127.0.0.1:1", environment={}).logprobs([bare])
    with pytest.raises(ConfigurationError, match="at least 1"):
        ServedTeacher("openai:m@http://127.0.0.1:1", environment={}).top([], 0)
