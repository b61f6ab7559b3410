"""Nothing is bought twice: whatever the server does and whenever the process dies, the answers are the calm ones."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import chaos_server as chaos
from chaos_server import MODEL, Act, ChaosServer, error, user
from ponder.core.errors import ConfigurationError, DataError, Interrupted, ResourceError
from ponder.core.types import Caps, Completion, Sampling, Usage
from ponder.engines._openai import buying, waiting
from ponder.engines._openai.purchases import Purchases
from ponder.engines.openai import OpenAISampler

ROOT = Path(__file__).resolve().parents[1]
PROMPTS, SAMPLES, WIDE = 5, 2, 3
SAMPLING = Sampling(seed=3)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FIRST", 0.002)
    monkeypatch.setattr(buying, "TICK", 0.01)


def buy(url: str, folder: Path | None, options: str = "", caps: Caps | None = None) -> list[list[Completion]]:
    sampler = OpenAISampler(
        f"openai:{MODEL}@{url}?concurrency={WIDE}{options}", purchases=folder, caps=caps, environment={}
    )
    groups = sampler.generate([user(f"q{i}") for i in range(PROMPTS)], SAMPLES, SAMPLING)
    return [[each.model_copy(update={"seconds": 0.0}) for each in group] for group in groups]


PASSING = (
    *(error(status) for status in (408, 429, 500, 503, 529)),
    error(429, retry_after="0.01"),
    error(429, retry_after="soon", x_ratelimit_reset_tokens="5ms"),
    Act(close=True),
    Act(cut=30),
    Act(body=b"<html>"),
    Act(body=b'{"error": {"message": "overloaded"}}'),
    Act(headers={"content-encoding": "gzip"}, body=b"no gzip"),
)
STOPPING = (error(401), error(403), error(429, "no more", "insufficient_quota"))


@given(
    st.lists(st.sampled_from([None, None, *PASSING, *STOPPING]), max_size=60),
    st.sampled_from(["", "&stream=true"]),
)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_the_server_does_the_answers_are_those_of_a_calm_run(
    tmp_path_factory: pytest.TempPathFactory, acts: list[Act | None], stream: str
) -> None:
    folder = tmp_path_factory.mktemp("chaos")
    with ChaosServer() as server:
        calm = buy(server.url, None)
        server.sold.clear()
        begun = len(server.asked)
        server.script = lambda asked: acts[asked.order - begun] if asked.order - begun < len(acts) else None
        for _ in range(70):
            try:
                groups = buy(server.url, folder, stream)
                break
            except (Interrupted, ResourceError):
                continue
        else:
            raise AssertionError("never came to its end")
        assert groups == calm
        assert max(server.sold.values()) == 1 and sum(server.sold.values()) == PROMPTS * SAMPLES
        assert buy(server.url, folder) == calm and sum(server.sold.values()) == PROMPTS * SAMPLES


@given(st.integers(0, 200), st.lists(st.sampled_from([None, *PASSING]), max_size=20))
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_cap_is_passed_by_more_than_what_was_under_way(
    tmp_path_factory: pytest.TempPathFactory, cap: int, acts: list[Act | None]
) -> None:
    folder = tmp_path_factory.mktemp("caps")
    with ChaosServer(acts) as server:
        try:
            buy(server.url, folder, caps=Caps(tokens=cap))
            assert cap + WIDE * 18 >= PROMPTS * SAMPLES * 18
        except Interrupted:
            pass
        spent = 18 * sum(server.sold.values())
        assert spent <= max(0, cap - 1) // 18 * 18 + WIDE * 18 + 18 * (cap > 0)
        assert spent >= min(cap, PROMPTS * SAMPLES * 18)
        assert cap > 0 or not server.asked


def test_killed_at_any_write_and_at_any_moment(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT / 'tests'}"}
    with ChaosServer(lambda asked: Act(delay=0.005)) as server:
        script = [sys.executable, str(ROOT / "tests" / "_buy_loop.py"), server.url, str(tmp_path)]
        result = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    calm, *stories = [json.loads(line) for line in result.stdout.splitlines()]
    assert [story["story"] for story in stories] == ["writes, torn False", "writes, torn True", "moments"]
    for story in stories:
        assert story["digest"] == calm["digest"], story["story"]
        assert Counter(story["held"]) == Counter(calm["held"])  # every answer stands in the journal once
        for before, after in zip(story["deaths"], story["deaths"][1:], strict=False):
            assert after[: len(before)] == before  # no death took anything away
    assert len(stories[0]["deaths"]) > 4 and len(stories[1]["deaths"]) > 4
    lives = sum(len(story["deaths"]) + 1 for story in stories) + 1
    answers = len(calm["held"])
    assert sum(server.sold.values()) <= 4 * answers + 4 * lives  # of each death at most what was under way


def test_a_torn_last_line_is_removed_and_its_answer_bought_again(tmp_path: Path) -> None:
    with ChaosServer() as server:
        groups = buy(server.url, tmp_path)
        path = tmp_path / "purchases.jsonl"
        whole = path.read_bytes()
        lines = whole.splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:4]) + lines[4][:-20])
        server.sold.clear()
        assert buy(server.url, tmp_path) == groups
        assert sum(server.sold.values()) == PROMPTS * SAMPLES - 4


@pytest.mark.parametrize(
    "line",
    [
        b"{}\n",
        b"not json\n",
        b'{"kind":"answer","keys":["a"]}\n',
        b'{"kind":"answer","keys":["a","b"],"completions":[{}],"prompt_tokens":1,"completion_tokens":1}\n',
        b'{"kind":"waste","prompt_tokens":"x","completion_tokens":1}\n',
        b"[1]\n",
        b"\xff\xfe\n",
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "purchases.jsonl").write_bytes(b'{"kind":"clock","seconds":1.0}\n' + line + b'{"kind":"clock"}\n')
    with pytest.raises(DataError, match="damaged") as caught:
        Purchases(tmp_path)
    assert "byte 31" in caught.value.where and "remove" in caught.value.fix


def test_a_row_that_is_not_what_it_was_is_refused(tmp_path: Path) -> None:
    first, second = Purchases(tmp_path), Purchases(tmp_path)
    first.bought(["a"], [Completion(text="1")], Usage(), None, 0.0)
    second.bought(["b"], [Completion(text="22")], Usage(), None, 0.0)  # knows nothing of the first
    with pytest.raises(DataError, match="another process"):
        second.get("b")
    again = Purchases(tmp_path)
    assert again.get("a") == Completion(text="1") and again.get("b") == Completion(text="22")


def test_totals_are_carried_over_restarts(tmp_path: Path) -> None:
    broken = chaos.reply(chaos.choice("x"), usage=(100, 1)).replace(b'"x"', b"null")
    with ChaosServer([Act(body=broken), Act(delay=0.1)]) as server:
        with pytest.raises(Interrupted):
            buy(server.url, tmp_path, caps=Caps(tokens=150))
        sampler = OpenAISampler(f"openai:{MODEL}@{server.url}", purchases=tmp_path, environment={})
        before = sampler.totals
        assert before.wasted_tokens == 101 and before.seconds >= 0.1
        assert before.tokens == 101 + 18 * before.completions and before.requests == before.completions + 1
        buy(server.url, tmp_path)
        after = OpenAISampler(f"openai:{MODEL}@{server.url}", purchases=tmp_path, environment={}).totals
    assert after.completions == PROMPTS * SAMPLES and after.tokens == 101 + 18 * PROMPTS * SAMPLES
    assert after.seconds > before.seconds and after.models == {MODEL: PROMPTS * SAMPLES}


def test_nothing_was_written_and_it_is_still_resumable(tmp_path: Path) -> None:
    (tmp_path / "purchases.jsonl").write_bytes(b'{"kind":"ans')
    with ChaosServer() as server:
        assert len(buy(server.url, tmp_path)) == PROMPTS


def test_the_journal_holds_no_key_and_no_prompt(tmp_path: Path) -> None:
    with ChaosServer(
        lambda asked: error(500, f"echo {asked.headers['authorization']}") if asked.nth == 0 else None
    ) as s:
        sampler = OpenAISampler(
            f"openai:{MODEL}@{s.url}", purchases=tmp_path, environment={"PONDER_API_KEY": "sk-verysecret123"}
        )
        sampler.generate([user("a private question")], 1, SAMPLING)
        assert s.asked[0].headers["authorization"] == "Bearer sk-verysecret123"
    text = (tmp_path / "purchases.jsonl").read_text(encoding="utf-8")
    assert "secret" not in text and "private" not in text
    assert "secret" not in repr(vars(sampler)) + repr(vars(sampler._buyer)) + repr(sampler.notes)
    assert os.stat(tmp_path / "purchases.jsonl").st_mode & 0o777 == 0o600


def test_a_full_disk_is_a_clear_error_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ChaosServer() as server:
        write, left = os.write, [4]

        def full(descriptor: int, data: bytes) -> int:
            left[0] -= bytes(data).startswith(b'{"kind"')
            if left[0] < 0:
                raise OSError(28, "No space left on device")
            return write(descriptor, data)

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(ResourceError):
            buy(server.url, tmp_path)
        monkeypatch.setattr(os, "write", write)
        groups = buy(server.url, tmp_path)
    assert groups == buy(server.url, tmp_path) and sum(server.sold.values()) <= PROMPTS * SAMPLES + WIDE


def test_samples_below_one_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        OpenAISampler("openai:m@http://127.0.0.1:1", environment={}).generate([user("x")], 0, SAMPLING)


def test_inside_a_running_loop(tmp_path: Path) -> None:
    async def notebook(url: str) -> list[list[Completion]]:
        return buy(url, tmp_path)

    with ChaosServer() as server:
        assert len(asyncio.run(notebook(server.url))) == PROMPTS


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    with ChaosServer() as server:
        sampler = OpenAISampler(f"openai:{MODEL}@{server.url}", environment={})
        sampler.generate([user("a"), user("b")], 2, SAMPLING, lambda done, tokens: told.append((done, tokens)))
        each = sampler.generate_each([user("a"), user("a")], [1, 2], SAMPLING)
    assert told == [(1, 11), (2, 22), (3, 33), (4, 44)]
    assert each[0].text != each[1].text
