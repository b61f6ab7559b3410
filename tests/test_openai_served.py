"""How a served model is named, whom its key is sent to, and that nothing shows the key."""

from __future__ import annotations

import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest

from chaos_server import MODEL, ChaosServer, error, user
from ponder.backends.local import model_parameters, open_sampler
from ponder.core.errors import ConfigurationError, Interrupted, ResourceError
from ponder.core.types import Caps, Completion, Sampling, Usage
from ponder.engines._openai.asks import asks_for, request_body
from ponder.engines._openai.keys import Key, key_for, key_variable
from ponder.engines._openai.served import HOSTED, Served, read_served
from ponder.engines.openai import OpenAISampler
from ponder.runs.caps import CapWatch


@pytest.mark.parametrize(
    ("text", "model", "url"),
    [
        ("openai:gpt-5", "gpt-5", HOSTED),
        ("openai:gpt-5?stream=true", "gpt-5", HOSTED),
        ("openai:qwen3:8b@http://127.0.0.1:11434", "qwen3:8b", "http://127.0.0.1:11434/v1"),
        ("openai:@cf/meta/llama@https://h.example/x/v1/", "@cf/meta/llama", "https://h.example/x/v1"),
        ("openai:org/m@http://[::1]:8000/v1/chat/completions", "org/m", "http://[::1]:8000/v1"),
    ],
)
def test_an_address_in_one_line(text: str, model: str, url: str) -> None:
    served = read_served(text, {})
    assert (served.model, served.url) == (model, url)
    assert read_served(served.name, {}) == served.model_copy(update={"stream": False})


def test_the_server_of_the_environment() -> None:
    assert read_served("openai:m", {"OPENAI_BASE_URL": "http://localhost:8000/v1"}).url == "http://localhost:8000/v1"


def test_options_are_read_by_type() -> None:
    served = read_served(
        'openai:m@http://h/v1?concurrency=4&timeout=1.5&batch=yes&omit=seed,top_p&extra={"reasoning":{"max":3}}', {}
    )
    assert (served.concurrency, served.timeout, served.batch) == (4, 1.5, True)
    assert served.omit == ("seed", "top_p") and served.extra == {"reasoning": {"max": 3}}
    body = request_body(served, asks_for(served, [user("x")], 1, [Sampling()])[0])
    assert "seed" not in body and "top_p" not in body and body["reasoning"] == {"max": 3}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("openai:m@http://h/v1?concurency=4", "concurency"),
        ("openai:m@http://h/v1?concurrency=0", "concurrency"),
        ("openai:m@http://h/v1?concurrency=1&concurrency=2", "twice"),
        ("openai:m@http://h/v1?extra={", "JSON"),
        ("openai:m@https://name:pass@h/v1", "must not carry"),
        ("openai:m@https://sk-secret@h/v1", "must not carry"),
        ("openai:m@http:///v1", "host"),
        ("openai:m@http://h/v1#top", "fragment"),
        ("openai:m@http://h/v1?key=sk-secret", "name of an environment variable"),
        ("openai:m@http://h/v1?key=topsecret", "name of an environment variable"),
        ("openai:", "model"),
        ("openai:m@http://h/v1?url=http://x", "url"),
    ],
)
def test_what_cannot_be_used_is_named_without_its_value(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as caught:
        read_served(text, {})
    shown = "".join(traceback.format_exception(caught.value))
    assert "secret" not in str(caught.value) and "pass@" not in str(caught.value)
    assert "input_value" not in shown


@pytest.mark.parametrize(
    ("text", "environment", "variable"),
    [
        ("openai:m", {}, "OPENAI_API_KEY"),
        ("openai:m@https://api.openai.com/v1", {}, "OPENAI_API_KEY"),
        ("openai:m@https://other.example/v1", {}, "PONDER_API_KEY"),
        ("openai:m@https://other.example/v1", {"OPENAI_BASE_URL": "https://other.example/v1"}, "OPENAI_API_KEY"),
        ("openai:m@https://other.example/v1?key=OTHER_KEY", {}, "OTHER_KEY"),
        ("openai:m@https://api.openai.com.evil.example/v1", {}, "PONDER_API_KEY"),
        ("openai:m@http://127.0.0.1:1/v1", {}, "PONDER_API_KEY"),
    ],
)
def test_a_key_is_for_one_host(text: str, environment: dict[str, str], variable: str) -> None:
    assert key_variable(read_served(text, environment), environment) == variable


def test_keys_are_sent_as_the_rule_says() -> None:
    keys = {"OPENAI_API_KEY": "sk-openai12345", "PONDER_API_KEY": "ponder-key-1"}
    assert key_for(read_served("openai:m@https://x.example/v1", {}), keys).headers == {
        "authorization": "Bearer ponder-key-1"
    }
    assert key_for(read_served("openai:m@https://x.example/v1", {}), {"OPENAI_API_KEY": "a"}).headers == {}
    with pytest.raises(ConfigurationError, match="MY_KEY is not set"):
        key_for(read_served("openai:m@https://x.example/v1?key=MY_KEY", {}), keys)
    for bad in ("a\nb", "schlüssel"):
        with pytest.raises(ConfigurationError, match="characters") as caught:
            key_for(read_served("openai:m@https://x.example/v1", {}), {"PONDER_API_KEY": bad})
        assert bad not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "more", "allowed"),
    [
        ("http://10.0.0.2:8000/v1", {}, False),
        ("http://localhost.evil.example/v1", {}, False),
        ("http://0.0.0.0:8000/v1", {}, False),
        ("http://10.0.0.2:8000/v1?plain=true", {}, True),
        ("http://10.0.0.2:8000/v1", {"PONDER_ALLOW_PLAIN_HTTP": "1"}, True),
        ("http://127.0.0.1:8000/v1", {}, True),
        ("http://127.8.9.1:8000/v1", {}, True),
        ("http://localhost:8000/v1", {}, True),
        ("http://[::1]:8000/v1", {}, True),
        ("https://10.0.0.2:8000/v1", {}, True),
    ],
)
def test_a_key_does_not_travel_unencrypted(url: str, more: dict[str, str], allowed: bool) -> None:
    served = read_served(f"openai:m@{url}", {})
    assert not key_for(served, more)  # without a key there is nothing to protect
    if allowed:
        assert key_for(served, {"PONDER_API_KEY": "k1234567", **more})
        return
    with pytest.raises(ConfigurationError, match="unencrypted") as caught:
        key_for(served, {"PONDER_API_KEY": "k1234567", **more})
    assert "k1234567" not in str(caught.value)


def test_a_key_shows_itself_nowhere() -> None:
    key = Key("sk-verysecret99", "PONDER_API_KEY")
    assert (
        "secret" not in f"{key} {key!r} {[key]}"
        and key.redact("a sk-verysecret99 b sk-othersecret1") == "a [key] b [key]"
    )
    assert Key("", "X").redact("Bearer abc.def") == "Bearer [key]" and not Key("", "X")
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_what_a_server_echoes_is_redacted() -> None:
    def echo(asked: Any) -> Any:
        return error(400, f"bad request with {asked.headers['authorization']}")

    with ChaosServer(echo) as server, pytest.raises(ConfigurationError, match="bad request") as caught:
        sampler = OpenAISampler(f"openai:m@{server.url}", environment={"PONDER_API_KEY": "plainlooking"})
        sampler.generate([user("x")], 1, Sampling())
    assert "plainlooking" not in "".join(traceback.format_exception(caught.value))


def test_the_backend_opens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "PONDER_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with ChaosServer() as server:
        model = f"openai:{MODEL}@{server.url}?tokenizer=pocket-base"
        sampler = open_sampler(model, purchases=tmp_path / "purchases", caps=Caps(tokens=10_000))
        assert sampler.name == f"openai:{MODEL}@{server.url}" and model_parameters(model) == 0
        assert sampler.generate([user("hi")], 1, Sampling())[0][0].text.startswith("<think>\n")
        with pytest.raises(ConfigurationError, match="cut it"):  # the tokenizer counts more than 7 tokens
            sampler.generate([user("one two three four " * 9)], 1, Sampling())
        with pytest.raises(Interrupted, match="tokens"):
            open_sampler(model, purchases=tmp_path / "purchases", caps=Caps(tokens=1)).generate(
                [user("ho")], 1, Sampling()
            )
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert open_sampler(f"openai:{MODEL}").name == sampler.name
    assert (tmp_path / "purchases" / "purchases.jsonl").exists()


@pytest.mark.parametrize(
    "asked",
    [{"max_thinking_tokens": 5}, {"max_thinking_tokens": 0}, {"waits": 1}, {"break_loops": True}, {"commit": "So"},
     {"json_schema": "{}"}],
    ids=str,
)  # fmt: skip
def test_a_served_models_answer_cannot_be_steered(asked: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(asked))):
        asks_for(Served(model="m", url="http://h"), [user("x")], 1, [Sampling(**asked)])


def test_the_watch_of_caps_for_models_of_this_machine() -> None:
    watch = CapWatch(Caps(tokens=30), where="here")
    used = Completion(text="x", usage=Usage(prompt_tokens=5, completion_tokens=10))
    watch.count([[used]])
    watch.check()
    watch.count([[used]])
    with pytest.raises(Interrupted, match="30 used") as caught:
        watch.check()
    assert "--token-limit" in caught.value.fix and caught.value.where == "here"
    CapWatch(None).check()
    with pytest.raises(Interrupted, match="seconds"):
        CapWatch(Caps(seconds=5), seconds=6).check()
    paused = CapWatch(Caps(seconds=5), seconds=1)
    paused.pause()
    assert paused.seconds == paused.seconds < 2 and paused.reached() is None


def test_a_server_that_wants_a_key_says_which_variable() -> None:
    with ChaosServer([error(401, "no")]) as server, pytest.raises(ResourceError, match="none is set") as caught:
        OpenAISampler(f"openai:m@{server.url}", environment={}).generate([user("x")], 1, Sampling())
    assert "PONDER_API_KEY" in caught.value.fix
