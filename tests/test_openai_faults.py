"""A served model that misbehaves, fault by fault: the rows C1-C28 of the list of faults, against a scripted server."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

import chaos_server as chaos
from chaos_server import MODEL, Act, Asked, ChaosServer, answer_to, choice, error, reply, user
from ponder.core.answers import final_answer
from ponder.core.errors import ConfigurationError, Interrupted, ResourceError
from ponder.core.types import Caps, Completion, Finish, Sampling
from ponder.engines._openai import buying, waiting, wire
from ponder.engines._openai.asks import asks_for
from ponder.engines._openai.pace import Pace
from ponder.engines._openai.served import Served
from ponder.engines.openai import OpenAISampler
from ponder.measure.costs.prices import Price, PriceSheet

SAMPLING = Sampling(seed=5, max_new_tokens=64)
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
PRICED = PriceSheet((), (Price(model=MODEL, input=1000, output=1000, date=NOW.date(), source="test"),))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FIRST", 0.005)
    monkeypatch.setattr(buying, "TICK", 0.02)
    monkeypatch.setattr(buying, "FIRST_CONTACT", 0.3)


def open_at(server: ChaosServer, options: str = "", model: str = MODEL, **more: Any) -> OpenAISampler:
    return OpenAISampler(f"openai:{model}@{server.url}{options}", environment=more.pop("environment", {}), **more)


def ask(sampler: OpenAISampler, prompts: int = 1, samples: int = 1, **sampling: Any) -> list[list[Completion]]:
    return sampler.generate([user(f"q{i}") for i in range(prompts)], samples, SAMPLING.model_copy(update=sampling))


def one(script: chaos.Script | list[Act | None], options: str = "", **more: Any) -> tuple[Completion, ChaosServer]:
    """One completion through a script."""
    with ChaosServer(script) as server:
        return ask(open_at(server, options, **more))[0][0], server


def calm_text(server: ChaosServer) -> str:
    return answer_to("q0", server.asked[-1].body["seed"])


# C1, C2: waits


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=20), usegmt=True)}, 20.0),
        ({"retry-after": format_datetime(NOW - timedelta(seconds=20), usegmt=True)}, 0.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
        ({"retry-after": "99999"}, waiting.LONGEST),
        ({"retry-after-ms": "250"}, 0.25),
        ({"x-ratelimit-reset-requests": "1m30s", "x-ratelimit-reset-tokens": "6ms"}, 90.0),
        ({"x-ratelimit-reset-requests": "2h", "x-ratelimit-remaining-requests": "5", "retry-after": "3"}, 3.0),
        ({"x-ratelimit-reset-tokens": "2026-11-28T12:00:42Z"}, 42.0),
        ({"x-ratelimit-reset": str(int(NOW.timestamp()) + 9)}, 9.0),
        ({"x-ratelimit-reset": str((int(NOW.timestamp()) + 9) * 1000)}, 9.0),
        ({"retry-after": "2", "x-ratelimit-reset-tokens": "11s", "x-ratelimit-remaining-tokens": "0"}, 11.0),
        ({"x-ratelimit-reset-tokens": "1m-3s"}, None),
        ({"retry-after": "9" * 400}, None),
    ],
)
def test_c1_c2_waits_are_read(headers: dict[str, str], wait: float | None) -> None:
    assert waiting.asked_wait(headers, NOW) == (None if wait is None else pytest.approx(wait))


def test_c1_the_clock_of_the_server_counts() -> None:
    late = NOW - timedelta(hours=3)
    headers = {"date": format_datetime(late, usegmt=True)}
    headers["retry-after"] = format_datetime(late + timedelta(seconds=8), usegmt=True)
    assert waiting.asked_wait(headers, NOW) == 8.0


def test_c2_a_limit_that_is_used_up_is_waited_for_before_it_is_refused() -> None:
    assert (
        waiting.asked_wait({"x-ratelimit-reset-requests": "4s", "x-ratelimit-remaining-requests": "3"}, NOW, False)
        is None
    )
    assert (
        waiting.asked_wait({"x-ratelimit-reset-requests": "4s", "x-ratelimit-remaining-requests": "0"}, NOW, False)
        == 4.0
    )


def test_c1_a_refusal_is_waited_for_as_asked() -> None:
    began = time.monotonic()
    completion, server = one([error(429, retry_after="0.4")])
    assert time.monotonic() - began >= 0.4
    assert completion.text == calm_text(server) and len(server.asked) == 2


@pytest.mark.parametrize("value", ["-5", "soon", None])
def test_c1_useless_headers_fall_back_to_growing_waits(value: str | None) -> None:
    completion, server = one([error(429, **({"retry_after": value} if value else {}))] * 4)
    assert completion.text == calm_text(server) and len(server.asked) == 5


def test_waits_grow_and_spread() -> None:
    rng = buying.python_rng(1)
    waits = [[waiting.backoff(attempt, rng) for _ in range(50)] for attempt in (1, 2, 3, 60)]
    for attempt, drawn in enumerate(waits[:3]):
        assert 0.5 * 0.005 * 2**attempt <= min(drawn) < max(drawn) <= 0.005 * 2**attempt
    assert max(waits[3]) <= waiting.LONGEST and len(set(waits[0])) > 40


# C3, C5: failures that stay


def test_c3_a_used_up_account_stops_and_can_be_resumed(tmp_path: Path) -> None:
    broke = error(429, "You exceeded your current quota", "insufficient_quota")
    with ChaosServer(lambda asked: broke if asked.order == 3 else None) as server:
        with pytest.raises(Interrupted, match="used up"):
            ask(open_at(server, "?concurrency=1", purchases=tmp_path), 8)
        assert len(server.asked) == 4
        server.script = lambda asked: None
        assert len(ask(open_at(server, purchases=tmp_path), 8)) == 8
        assert len(server.asked) == 9 and set(server.sold.values()) == {1}


@pytest.mark.parametrize("status", [401, 403])
def test_c5_a_refused_key_stops_the_job_at_once(status: int) -> None:
    with ChaosServer(lambda asked: error(status, "bad key sk-abcdefghijk")) as server:
        with pytest.raises(ResourceError, match="key") as caught:
            ask(open_at(server, "?concurrency=2", environment={"PONDER_API_KEY": "very-secret-key"}), 500)
        assert len(server.asked) <= 2
        assert "sk-abc" not in str(caught.value) and "very-secret" not in str(caught.value)
        assert "PONDER_API_KEY" in caught.value.fix


def test_c5_an_unknown_model_stops_the_job() -> None:
    with ChaosServer(lambda asked: error(404, "no such model", "model_not_found")) as server:
        with pytest.raises(ConfigurationError, match="does not know"):
            ask(open_at(server), 50)
        assert len(server.asked) <= 8


@pytest.mark.parametrize("status", [400, 413, 422])
def test_c5_a_wrong_request_is_marked_and_not_tried_again(status: int) -> None:
    with ChaosServer(lambda asked: error(status, "too long") if asked.prompt == "q1" else None) as server:
        groups = ask(open_at(server), 4)
    assert [group[0].finish for group in groups] == [Finish.STOP, Finish.ERROR, Finish.STOP, Finish.STOP]
    assert len(server.asked) == 4


def test_c5_when_all_are_rejected_the_settings_are_at_fault() -> None:
    with ChaosServer(lambda asked: error(400, "unknown field: seed")) as server:
        with pytest.raises(ConfigurationError, match="unknown field: seed"):
            ask(open_at(server), 300)
        assert len(server.asked) < 20
        with pytest.raises(ConfigurationError, match="rejects every"):
            ask(open_at(server))


def test_a_redirect_is_not_followed_with_the_key() -> None:
    away = Act(302, {"location": "http://127.0.0.1:9/"}, b"")
    with ChaosServer(lambda asked: away) as server, pytest.raises(ConfigurationError, match="HTTP 302"):
        ask(open_at(server, environment={"PONDER_API_KEY": "k" * 20}))


# C4, C6, C7, C8: failures that pass


@pytest.mark.parametrize(
    "act",
    [
        *(error(status, "busy") for status in (408, 429, 500, 502, 503, 504, 520, 529)),
        Act(close=True),
        Act(cut=0),
        Act(cut=40),
        error(200, "overloaded", "rate_limit_exceeded"),
        error(200, "internal"),
        Act(body=b'{"error": "out of memory"}'),
        Act(body=reply()),
        Act(body=reply({"index": 0, "message": None, "finish_reason": "stop"})),
        Act(body=reply(choice(None))),  # type: ignore[arg-type]
        Act(body=reply(choice("", finish="error"))),
        Act(body=b'{"choices": null}'),
        Act(body=b'{"choices": [null, 3]}'),
        Act(body=b"<html>please wait</html>"),
        Act(body=b""),
        Act(body=b"[]"),
        Act(body=b"null"),
        Act(body=b'{"choices": [{"mess'),
        Act(body=reply(choice("caf\u00e9")).replace(rb"\u00e9", "\u00e9".encode("latin-1"))),
        Act(body=b"[" * 100_000),
        Act(body=b"9" * 10_000),
        Act(headers={"content-encoding": "br"}, body=b"xx"),
        Act(headers={"content-encoding": "gzip"}, body=b"this is no gzip"),
    ],
    ids=repr,
)
def test_c4_c6_c7_c8_what_passes_is_tried_again(act: Act) -> None:
    completion, server = one([act, act])
    assert completion.text == calm_text(server) and completion.finish is Finish.STOP
    assert len(server.asked) == 3


def test_c4_the_total_budget_ends_it_when_nothing_gets_through() -> None:
    with ChaosServer(lambda asked: error(500, "broken")) as server:
        began = time.monotonic()
        with pytest.raises(ResourceError, match="broken"):
            ask(open_at(server, "?patience=0.3"))
        assert time.monotonic() - began < 2 and len(server.asked) > 2


def test_c4_nothing_listens() -> None:
    with ChaosServer() as server:
        url = server.url
    with pytest.raises(ResourceError, match="no answers") as caught:
        ask(OpenAISampler(f"openai:m@{url}", environment={}))
    assert caught.value.exit_code == 3 and url in str(caught.value)


def test_c24_no_such_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(wire, "require_here", lambda host: None)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)  # nobody is asked
    with pytest.raises(ResourceError, match="no answers"):
        ask(OpenAISampler("openai:m@http://no-such-host.invalid/v1", environment={}))


def test_c7_a_server_that_only_says_nothing_is_not_asked_for_ever() -> None:
    with ChaosServer(lambda asked: Act(body=reply()) if asked.prompt == "q1" else None) as server:
        groups = ask(open_at(server), 3)
    assert groups[1][0].finish is Finish.ERROR and groups[1][0].text == ""
    assert sum(asked.prompt == "q1" for asked in server.asked) == buying.EMPTY_TRIES


def test_c8_a_small_packed_body_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_BODY", 1 << 20)
    completion, server = one([chaos.bomb(30)])
    assert completion.text == calm_text(server)
    completion, server = one([Act(body=b" " * (3 << 20))])
    assert completion.text == calm_text(server) and len(server.asked) == 2


# C9: streams


def stream_of(server_body: bytes, **more: Any) -> Act:
    return Act(headers={"content-type": "text/event-stream"}, body=server_body, **more)


WHOLE = chaos.events(reply(choice("Zwölf – 十二 🦉 done")), size=3)


def test_c9_a_stream_is_put_together_wherever_the_network_cuts_it() -> None:
    completion, _ = one([stream_of(WHOLE[:300], drip=0.0005)], "?stream=true&patience=9")
    assert completion.text.startswith("<think>")  # the cut one was thrown away and asked again
    completion, server = one([stream_of(WHOLE, drip=0.0002)], "?stream=true")
    assert completion.text == "Zwölf – 十二 🦉 done" and completion.usage.completion_tokens == 11
    assert not completion.usage.estimated and len(server.asked) == 1


@pytest.mark.parametrize("cut", [0, 40, len(WHOLE) // 2])
def test_c9_a_cut_stream_is_partial_and_never_an_answer(cut: int) -> None:
    dropped = Act(headers={"content-type": "text/event-stream"}, body=WHOLE, cut=cut)
    ended = stream_of(WHOLE[:cut])
    for act in (dropped, ended):
        completion, server = one([act], "?stream=true")
        assert completion.text == calm_text(server) and len(server.asked) == 2


def test_c9_what_a_cut_stream_said_is_kept_as_partial_when_it_never_ends() -> None:
    def script(asked: Asked) -> Act | None:
        return stream_of(WHOLE[: len(WHOLE) // 2]) if asked.prompt == "q1" else None

    with ChaosServer(script) as server:
        sampler = open_at(server, "?stream=true&patience=0.2")
        groups = ask(sampler, 2)
    assert groups[1][0].finish is Finish.ERROR and "Zwölf".startswith(groups[1][0].text[:5]) and groups[1][0].text
    assert sampler.totals.wasted_tokens > 0 and sampler.totals.estimated_requests > 0


def test_c9_an_error_in_the_middle_of_a_stream() -> None:
    middle = (
        WHOLE[:200].rpartition(b"\n\n")[0]
        + b'\n\ndata: {"error": {"message": "overloaded", "type": "overloaded_error"}}\n\n'
    )
    completion, server = one([stream_of(middle)], "?stream=true")
    assert completion.text == calm_text(server) and len(server.asked) == 2


def test_c9_repeats_comments_and_line_ends() -> None:
    parts = [chaos.event({"choices": [{"index": 0, "delta": {"content": word}}]}) for word in ("ha", "ha", "!")]
    numbered = [f"id: {number}\n{part}" for number, part in zip((1, 1, 2), parts, strict=True)]
    end = chaos.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    for pieces, text in ((parts, "haha!"), (numbered, "ha!")):
        body = ("".join([": hello\n\n", *pieces, end, end]) + "data: [DONE]\n\n").replace("\n", "\r\n")
        assert one([stream_of(body.encode())], "?stream=true")[0].text == text
    without_end_mark = ("".join(parts) + end).encode()
    assert one([stream_of(without_end_mark)], "?stream=true")[0].text == "haha!"


def test_a_server_that_does_not_stream_after_all() -> None:
    completion, server = one(
        [Act(headers={"content-type": "application/json"}, body=reply(choice("plain")))], "?stream=true"
    )
    assert completion.text == "plain" and len(server.asked) == 1


# C10-C13: what an answer is


def test_c10_a_truncated_answer_is_stored_and_not_bought_again(tmp_path: Path) -> None:
    with ChaosServer([Act(body=reply(choice("half an ans", finish="length")))]) as server:
        first = ask(open_at(server, purchases=tmp_path))
        assert first[0][0].finish is Finish.LENGTH
        assert ask(open_at(server, purchases=tmp_path)) == first and len(server.asked) == 1


@pytest.mark.parametrize(
    "act",
    [
        Act(body=reply(choice("", finish="content_filter"))),
        Act(body=reply(choice(None, refusal="I cannot help with that."))),  # type: ignore[arg-type]
        error(400, "filtered", "content_filter"),
    ],
)
def test_c11_a_refusal_is_stored_as_one(act: Act, tmp_path: Path) -> None:
    with ChaosServer([act]) as server:
        sampler = open_at(server, purchases=tmp_path)
        assert ask(sampler)[0][0].finish is Finish.REFUSED
        assert ask(open_at(server, purchases=tmp_path))[0][0].finish is Finish.REFUSED
        assert len(server.asked) == 1 and sampler.totals.completions == 1


FORM = "<think>\n2 and 2\n</think>\n\nThe answer is 4."


@pytest.mark.parametrize(
    ("message", "raw"),
    [
        ({"content": FORM}, False),
        ({"content": "The answer is 4.", "reasoning_content": "2 and 2\n"}, True),
        ({"content": "\n\nThe answer is 4.", "reasoning": "2 and 2"}, True),
        ({"content": "<think>2 and 2</think>The answer is 4."}, True),
        ({"content": "2 and 2\n</think>\nThe answer is 4."}, True),
        ({"content": "<think>\n2 and 2\n</think>\n\nThe answer is 4.", "reasoning_content": "2 and 2"}, True),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "2 and 2"}]},
                    {"type": "text", "text": "The answer is 4."},
                ]
            },
            True,
        ),
    ],
)
def test_c12_thinking_has_one_form(message: dict[str, Any], raw: bool) -> None:
    body = reply({"index": 0, "finish_reason": "stop", "message": message})
    completion, _ = one([Act(body=body)])
    assert completion.text == FORM and final_answer(completion.text).text == "4"
    assert (completion.raw is not None) == raw
    if raw:  # what was served can be read again
        again = (
            json.loads(completion.raw or "")
            if completion.raw and completion.raw[0] == "{"
            else {"content": completion.raw}
        )
        assert again == {name: value for name, value in message.items()}


@pytest.mark.parametrize("text", ["The answer is 4.", "a < b and </b>", "", "<think>\n\n</think>\n\nok"])
def test_c12_text_without_thinking_keeps_its_words(text: str) -> None:
    completion, _ = one([Act(body=reply(choice(text, finish="length")))])
    assert completion.text == (text if "think" not in text else "ok")


@pytest.mark.parametrize("stream", ["", "?stream=true"])
def test_c12_streamed_thinking_too(stream: str) -> None:
    def pieces() -> Iterator[str]:
        for delta in (
            {"role": "assistant"},
            {"reasoning_content": "2 and"},
            {"reasoning_content": " 2"},
            {"content": "The answer"},
            {"content": " is 4."},
        ):
            yield chaos.event({"choices": [{"index": 0, "delta": delta}]})
        yield chaos.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})

    if stream:
        completion, _ = one([stream_of("".join(pieces()).encode() + b"data: [DONE]\n\n")], stream)
    else:
        completion, _ = one([Act(body=reply(choice("The answer is 4.", reasoning_content="2 and 2")))])
    assert completion.text == FORM


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_c13_a_thought_that_never_closes_is_truncated(finish: str) -> None:
    for message in (
        choice("<think>so the answer is 4", finish=finish),
        choice("", finish="length", reasoning="so the answer is 4"),
    ):
        completion, _ = one([Act(body=reply(message))])
        assert completion.finish is Finish.LENGTH and final_answer(completion.text).reason == "truncated"
        assert completion.text == "<think>\nso the answer is 4"


# C16-C18


def test_c16_whatever_decides_an_answer_is_in_its_name(tmp_path: Path) -> None:
    base = Served(model="m", url="http://127.0.0.1:1/v1")
    variants = [
        (base, user("q"), SAMPLING),
        (base.model_copy(update={"model": "n"}), user("q"), SAMPLING),
        (base.model_copy(update={"url": "http://127.0.0.1:2/v1"}), user("q"), SAMPLING),
        (base.model_copy(update={"extra": {"reasoning_effort": "low"}}), user("q"), SAMPLING),
        (base.model_copy(update={"omit": ("seed",)}), user("q"), SAMPLING.model_copy(update={"seed": 6})),
        (base, user("r"), SAMPLING),
        (base, (*user("q")[:0], *chaos_system(), *user("q")), SAMPLING),
        *(
            (base, user("q"), SAMPLING.model_copy(update=change))
            for change in (
                {"temperature": 0.5},
                {"top_p": 0.9},
                {"top_k": 3},
                {"max_new_tokens": 9},
                {"seed": 6},
                {"stop": ("x",)},
            )
        ),
    ]
    keys = [
        key
        for served, prompt, sampling in variants
        for a in asks_for(served, [prompt], 2, [sampling])
        for key in a.keys
    ]
    assert len(set(keys)) == len(keys) == 2 * len(variants)
    same = base.model_copy(update={"stream": True, "concurrency": 3, "timeout": 5.0, "n": 2})
    assert [k for a in asks_for(same, [user("q")], 2, [SAMPLING]) for k in a.keys] == keys[:2]
    with ChaosServer() as server:
        for temperature in (1.0, 0.5, 1.0):
            ask(open_at(server, purchases=tmp_path), 2, temperature=temperature)
        assert len(server.asked) == 4


def chaos_system() -> Any:
    return (user("q")[0].model_copy(update={"role": "system", "content": "be brief"}),)


def test_c17_equal_questions_are_bought_once_and_all_answered(tmp_path: Path) -> None:
    with ChaosServer() as server:
        sampler = open_at(server, purchases=tmp_path)
        groups = sampler.generate([user("a"), user("b"), user("a")], 2, SAMPLING)
    assert [len(group) for group in groups] == [2, 2, 2] and groups[0] == groups[2] != groups[1]
    assert len(server.asked) == 4 and groups[0][0] != groups[0][1]


def fewer(asked: Asked) -> Act | None:
    """A server that never gives more than two choices."""
    n = asked.body.get("n", 1)
    return None if n <= 2 else Act(body=chaos.calm({**asked.body, "n": 2}))


def more(asked: Asked) -> Act | None:
    return Act(body=chaos.calm({**asked.body, "n": asked.body.get("n", 1) + 2}))


def never(asked: Asked) -> Act | None:
    return error(400, "n must be 1") if asked.body.get("n", 1) > 1 else None


@pytest.mark.parametrize("script", [fewer, more, never, None])
def test_c18_as_many_samples_as_were_asked_for(script: chaos.Script | None, tmp_path: Path) -> None:
    with ChaosServer(script) as server:
        groups = ask(open_at(server, "?n=4", purchases=tmp_path), 3, samples=6)
        assert [len(group) for group in groups] == [6, 6, 6]
        assert all(each.finish is Finish.STOP for group in groups for each in group)
        assert all(len({each.text for each in group}) == 6 for group in groups)
        asked = len(server.asked)
        assert ask(open_at(server, "?n=4", purchases=tmp_path), 3, samples=6) == groups and len(server.asked) == asked


def test_c18_samples_that_cannot_be_had_are_marked() -> None:
    def script(asked: Asked) -> Act | None:
        return fewer(asked) if asked.body.get("n", 1) > 1 else error(400, "no more")

    with ChaosServer(script) as server:
        group = ask(open_at(server, "?n=4"), samples=4)[0]
    assert [each.finish for each in group] == [Finish.STOP, Finish.STOP, Finish.ERROR, Finish.ERROR]


# C20-C23, C25


def test_c21_a_cap_on_cost_needs_a_price() -> None:
    with ChaosServer() as server:
        with pytest.raises(ConfigurationError, match="unknown"):
            open_at(server, caps=Caps(cost=1.0))
        assert not server.asked
        sampler = open_at(server)
        ask(sampler)
        assert sampler.totals.cost is None
        sampler = open_at(server, caps=Caps(cost=1.0), sheet=PRICED)
        ask(sampler)
        assert sampler.totals.cost == pytest.approx(0.018)


@pytest.mark.parametrize("caps", [Caps(cost=0.1), Caps(tokens=100)])
def test_c20_a_cap_stops_what_is_new_and_keeps_what_is_under_way(caps: Caps, tmp_path: Path) -> None:
    with ChaosServer(lambda asked: Act(delay=0.02)) as server:
        sampler = open_at(server, "?concurrency=3", purchases=tmp_path, caps=caps, sheet=PRICED)
        with pytest.raises(Interrupted, match="cap on") as caught:
            ask(sampler, 40)
        spent = sampler.totals.cost if caps.cost else sampler.totals.tokens
        assert (caps.cost or caps.tokens) <= spent <= (caps.cost or caps.tokens) + 3 * (0.018 if caps.cost else 18)  # type: ignore[operator]
        assert caught.value.exit_code == 4 and "-limit" in caught.value.fix
        assert sampler.totals.completions == len(server.asked) == sum(server.sold.values())
        with pytest.raises(Interrupted):  # still reached after a restart: nothing is bought
            ask(open_at(server, purchases=tmp_path, caps=caps, sheet=PRICED), 40)
        assert len(server.asked) == sampler.totals.requests
        raised = Caps(cost=5.0) if caps.cost else Caps(tokens=5000)
        whole = open_at(server, purchases=tmp_path, caps=raised, sheet=PRICED)
        assert len(ask(whole, 40)) == 40 and set(server.sold.values()) == {1}
        assert whole.totals.requests == 40 and whole.totals.cost == pytest.approx(40 * 0.018)


def test_c20_a_cap_on_seconds_counts_all_attempts(tmp_path: Path) -> None:
    with ChaosServer(lambda asked: Act(delay=0.2)) as server:
        for _ in range(2):
            with pytest.raises(Interrupted, match="seconds"):
                ask(open_at(server, "?concurrency=1", purchases=tmp_path, caps=Caps(seconds=1.5)), 40)
        assert 1 <= len(server.asked) <= 8
        assert open_at(server, purchases=tmp_path).totals.seconds >= 1.5


def test_c22_another_model_answers(caplog: pytest.LogCaptureFixture) -> None:
    swapped = Act(body=reply(choice("x"), model="cheaper-model"))
    with ChaosServer(lambda asked: swapped) as server, caplog.at_level(logging.WARNING):
        groups = ask(open_at(server), 6)
    assert {group[0].model for group in groups} == {"cheaper-model"}
    assert len([record for record in caplog.records if "cheaper-model" in record.getMessage()]) == 1


def test_c22_a_dated_name_is_the_same_model_and_a_change_is_told(caplog: pytest.LogCaptureFixture) -> None:
    def script(asked: Asked) -> Act:
        return Act(body=reply(choice("x"), model=f"{MODEL}-2026-0{1 + asked.order // 3}-01"))

    with caplog.at_level(logging.WARNING), ChaosServer(script) as server:
        sampler = open_at(server, "?concurrency=1")
        ask(sampler, 2)
        assert not caplog.records
        ask(sampler, 8, seed=6)
    assert len(caplog.records) == 1 and "several models" in caplog.text


def test_c23_a_prompt_that_was_cut_is_an_error() -> None:
    long = [user("word " * 2000)]
    with ChaosServer(lambda asked: Act(body=reply(choice("x"), usage=(500, 3)))) as server:
        with pytest.raises(ConfigurationError, match="cut"):
            open_at(server).generate(long, 1, SAMPLING)
        with pytest.raises(ConfigurationError, match="cut"):
            open_at(server, count=lambda messages: 560).generate([user("short")], 1, SAMPLING)
        open_at(server, count=lambda messages: 520).generate([user("short")], 1, SAMPLING)
    with ChaosServer(lambda asked: Act(body=reply(choice("x"), usage=(2004, 3)))) as server:
        open_at(server).generate(long, 1, SAMPLING)


@pytest.mark.parametrize(
    "usage", [None, {}, {"prompt_tokens": "7"}, {"prompt_tokens": 7}, {"completion_tokens": -1}, []]
)
def test_c25_missing_counts_are_estimated_and_say_so(usage: Any) -> None:
    completion, _ = one([Act(body=reply(choice("x" * 40), usage=usage))])
    assert (
        completion.usage.estimated and completion.usage.completion_tokens == 10 and completion.usage.prompt_tokens > 0
    )


# C24, C28


def test_c24_thousands_of_requests_use_few_connections() -> None:
    with ChaosServer() as server:
        sampler = open_at(server, "?concurrency=6")
        assert len(ask(sampler, 150, samples=2)) == 150
    assert server.peak <= 6 and len(server.asked) == 300
    assert wire.connections(10**6) < 10**6


def test_c28_one_request_that_hangs_lets_the_others_go_on() -> None:
    def script(asked: Asked) -> Act | None:
        if asked.prompt == "q1":
            return Act(delay=30) if asked.nth % 2 == 0 else Act(drip=0.05)
        return None

    with ChaosServer(script) as server:
        began = time.monotonic()
        groups = ask(open_at(server, "?timeout=1.5&patience=4&concurrency=4"), 12)
    assert time.monotonic() - began < 20
    assert [group[0].finish is Finish.ERROR for group in groups] == [i == 1 for i in range(12)]


def test_the_pace_is_halved_once_for_refusals_of_one_moment_and_grows_again() -> None:
    pace = Pace(32)
    assert pace.limit == 8
    sent_together = time.monotonic()
    for _ in range(8):
        pace.was_refused(sent_together, wait=0)
    assert pace.limit == 4
    pace.was_refused(time.monotonic(), wait=0)
    assert pace.limit == 2
    for _ in range(2000):
        pace.went_well()
    assert pace.limit == 32


def test_fewer_requests_at_once_when_the_server_is_busy() -> None:
    def script(asked: Asked) -> Act | None:
        return Act(delay=0.02) if server.open <= 3 else error(429, "slow down")

    with ChaosServer(script) as server:
        sampler = open_at(server)
        assert len(ask(sampler, 60)) == 60
    assert set(server.sold.values()) == {1} and len(server.asked) < 120


def test_the_user_can_stop_and_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ChaosServer(lambda asked: Act(delay=0.01)) as server:
        monkeypatch.setattr(buying, "stop_requested", lambda: len(server.asked) >= 10)
        with pytest.raises(Interrupted):
            ask(open_at(server, purchases=tmp_path), 50)
        assert sum(server.sold.values()) < 30
        monkeypatch.undo()
        assert len(ask(open_at(server, purchases=tmp_path), 50)) == 50 and set(server.sold.values()) == {1}


def obedient(asked: Asked) -> Act:
    seed = 0 if asked.body["temperature"] == 0 else asked.body["seed"]
    return Act(body=reply(choice(answer_to(asked.prompt, seed))))


def seedless(asked: Asked) -> Act:
    return Act(body=reply(choice("same" if asked.body["temperature"] == 0 else f"{asked.order}")))


def feverish(asked: Asked) -> Act:
    return Act(body=reply(choice(answer_to(asked.prompt, asked.body["seed"]))))


@pytest.mark.parametrize(
    ("script", "seed", "temperature"),
    [
        (obedient, "honoured", "honoured"),
        (seedless, "ignored", "honoured"),
        (feverish, "honoured", "ignored"),
        (lambda asked: Act(body=reply(choice("same"))), "unclear", "ignored"),
    ],
)
def test_c19_settings_that_a_server_ignores_are_noted(
    script: chaos.Script, seed: str, temperature: str, tmp_path: Path
) -> None:
    with ChaosServer(script) as server:
        sampler = open_at(server, "?probe=true&logprobs=true", purchases=tmp_path)
        ask(sampler)
        assert sampler.notes["probe"] == {"seed": seed, "temperature": temperature, "logprobs": "ignored"}
        assert any("logprobs" in text for text in sampler.notes["warnings"])
        again = open_at(server, "?probe=true&logprobs=true", purchases=tmp_path)
        ask(again, 2)
        assert again.notes["probe"] == sampler.notes["probe"] and len(server.asked) == 5 + 2


def test_log_probabilities_are_read() -> None:
    content = [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.5}]
    body = reply(choice("ab") | {"logprobs": {"content": content}})
    assert one([Act(body=body)], "?logprobs=true")[0].logprobs == (-0.5, -1.5)
    broken = reply(choice("ab") | {"logprobs": {"content": [*content, {"token": "c", "logprob": None}]}})
    assert one([Act(body=broken)], "?logprobs=true")[0].logprobs is None
