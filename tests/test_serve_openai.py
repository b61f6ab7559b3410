"""The official OpenAI client against the server: everything that it reads has the shape that it knows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from serving import NAME, Served, serving

openai = pytest.importorskip("openai")

from ponder.serve.limits import Limits  # noqa: E402

KEY = "sk-test-key"
ASKED: Any = {"model": NAME, "messages": [{"role": "user", "content": "12 coins"}], "seed": 1, "max_tokens": 12}
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["answer"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(Limits(samples=8), key=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{served.port}/v1", api_key=KEY, max_retries=0) as found:
        yield found


def test_models(client: Any) -> None:
    found = client.models.list()
    assert [(one.id, one.object) for one in found] == [(NAME, "model")]


def test_answers_and_usage(client: Any) -> None:
    whole = client.chat.completions.create(**ASKED, n=3, stop=["zzz"])
    assert [choice.index for choice in whole.choices] == [0, 1, 2] and whole.id.startswith("chatcmpl-")
    assert all(choice.finish_reason in ("stop", "length") for choice in whole.choices)
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert whole.usage.completion_tokens_details.reasoning_tokens >= 0
    assert whole.usage.seconds > 0 and whole.usage.energy_origin in ("measured", "estimated", "mixed", None)
    again = client.chat.completions.create(**ASKED, n=3, stop=["zzz"])
    assert [c.message.content for c in again.choices] == [c.message.content for c in whole.choices]


def test_a_stream_and_its_usage(client: Any) -> None:
    whole = client.chat.completions.create(**ASKED)
    pieces = list(client.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True}))
    assert pieces[0].choices[0].delta.role == "assistant"
    deltas = [piece.choices[0].delta for piece in pieces[:-1]]
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    thought = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    assert thought == (getattr(whole.choices[0].message, "reasoning_content", None) or "")
    assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens and not pieces[-1].choices
    with client.chat.completions.create(**(ASKED | {"max_tokens": 300}), stream=True) as leaving:
        next(iter(leaving))


def test_log_probabilities(client: Any) -> None:
    whole = client.chat.completions.create(**ASKED, logprobs=True, top_logprobs=4)
    entries = whole.choices[0].logprobs.content
    assert len(entries) == whole.usage.completion_tokens
    assert all(entry.logprob <= 0 and len(entry.top_logprobs) == 4 for entry in entries)


def test_answers_that_are_held_to_a_form(client: Any) -> None:
    pytest.importorskip("llguidance")
    form = {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": SCHEMA}}
    asked = ASKED | {"max_tokens": 200, "max_completion_tokens": 200, "temperature": 1.0, "response_format": form}
    whole = client.chat.completions.create(**asked, n=4)
    stopped = [choice for choice in whole.choices if choice.finish_reason == "stop"]
    assert stopped
    for choice in stopped:
        assert 0 <= json.loads(choice.message.content)["answer"] <= 99
    streamed: dict[int, str] = {}
    for piece in client.chat.completions.create(**asked, n=4, stream=True):
        for choice in piece.choices:
            streamed[choice.index] = streamed.get(choice.index, "") + (choice.delta.content or "")
    assert [streamed[i] for i in range(4)] == [choice.message.content for choice in whole.choices]
    free = client.chat.completions.create(**(asked | {"response_format": {"type": "json_object"}}))
    if free.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(free.choices[0].message.content), dict)


def test_effort_and_what_clients_send_back(client: Any) -> None:
    """Reasoning of earlier turns comes back; a system turn stands in the middle (K18)."""
    talk = [
        *ASKED["messages"],
        {"role": "assistant", "content": "19", "reasoning_content": "12 + 7"},
        {"role": "system", "content": "be short"},
        {"role": "user", "content": [{"type": "text", "text": "and now?"}]},
    ]
    for effort in ("none", "minimal", "low", "medium", "high"):
        found = client.chat.completions.create(**(ASKED | {"messages": talk}), reasoning_effort=effort)
        assert found.usage.completion_tokens <= 12
    with pytest.raises(openai.BadRequestError, match="role"):
        client.chat.completions.create(
            **(ASKED | {"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]})
        )
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**(ASKED | {"messages": [{"role": "user", "content": [picture]}]}))


def test_errors_are_of_the_kinds_that_it_knows(client: Any, served: Served) -> None:
    create = client.chat.completions.create
    with pytest.raises(openai.NotFoundError) as missing:
        create(**(ASKED | {"model": "other"}))
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as tools:
        create(**ASKED, tools=[{"type": "function", "function": {"name": "f"}}])
    assert tools.value.code == "unsupported_parameter" and tools.value.param == "tools"
    with pytest.raises(openai.BadRequestError) as long:
        create(**(ASKED | {"messages": [{"role": "user", "content": "12 coins " * 300}]}))
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as bomb:
        schema = {"name": "x", "schema": {"type": "integer", "multipleOf": 999983}}
        create(**ASKED, response_format={"type": "json_schema", "json_schema": schema})
    assert "schema" in bomb.value.message
    stranger = openai.OpenAI(base_url=f"http://127.0.0.1:{served.port}/v1", api_key="no", max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()
