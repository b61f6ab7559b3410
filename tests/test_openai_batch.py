"""Batches: uploaded, waited for, collected; found again after a kill; single lines that failed are asked one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import chaos_server as chaos
from chaos_server import MODEL, Asked, ChaosServer, answer_to, user
from ponder.core.errors import ConfigurationError, Interrupted
from ponder.core.types import Caps, Completion, Sampling
from ponder.engines._openai import patience, waiting
from ponder.engines._openai.purchases import Purchases
from ponder.engines.openai import OpenAISampler

PROMPTS = [user(f"q{i}") for i in range(4)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FIRST", 0.002)
    monkeypatch.setattr(patience, "TICK", 0.01)


class BatchServer(ChaosServer):
    """A server with files and batches."""

    def __init__(self, failing: tuple[str, ...] = (), status: str = "completed", polls: int = 1) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.failing, self.status, self.polls = failing, status, polls
        self.lose_next_reply = False
        self.routes |= {
            "POST /v1/files": self.upload,
            "GET /v1/files/": self.content,
            "POST /v1/batches": self.create,
            "GET /v1/batches?": self.listed,
            "GET /v1/batches/": self.state,
        }

    def upload(self, asked: Asked, raw: bytes) -> tuple[int, bytes]:
        lines = [line.rstrip(b"\r") for line in raw.split(b"\n") if line.startswith(b'{"custom_id"')]
        name = f"file-{len(self.files)}"
        self.files[name] = b"\n".join(lines)
        return 200, json.dumps({"id": name}).encode()

    def create(self, asked: Asked, raw: bytes) -> tuple[int, bytes]:
        name = f"batch-{len(self.batches)}"
        output = f"out-{name}"
        rows = []
        for line in self.files[asked.body["input_file_id"]].splitlines():
            row = json.loads(line)
            prompt = row["body"]["messages"][-1]["content"]
            status = 500 if prompt in self.failing else 200
            body = json.loads(chaos.calm(row["body"])) if status == 200 else {"error": {"message": "x"}}
            rows.append({"custom_id": row["custom_id"], "response": {"status_code": status, "body": body}})
        self.files[output] = b"\n".join([*(json.dumps(row).encode() for row in reversed(rows)), b"", b"not json"])
        state = {"id": name, "metadata": asked.body["metadata"], "status": "in_progress", "looks": 0, "out": output}
        self.batches[name] = state
        if self.lose_next_reply:
            self.lose_next_reply = False
            raise BrokenPipeError
        return 200, json.dumps(state).encode()

    def state(self, asked: Asked, raw: bytes) -> tuple[int, bytes]:
        state = self.batches[asked.path.rpartition("/")[2]]
        state["looks"] += 1
        if state["looks"] > self.polls:
            state |= {"status": self.status, "output_file_id": state["out"], "errors": {"data": ["bad"]}}
        return 200, json.dumps(state).encode()

    def listed(self, asked: Asked, raw: bytes) -> tuple[int, bytes]:
        return 200, json.dumps({"data": [None, {"id": "other"}, *self.batches.values()]}).encode()

    def content(self, asked: Asked, raw: bytes) -> tuple[int, bytes]:
        return 200, self.files[asked.path.split("/")[3]]


def sampler_at(server: ChaosServer, folder: Path | None, **more: Any) -> OpenAISampler:
    model = f"openai:{MODEL}@{server.url}?batch=true&poll=0.01"
    return OpenAISampler(model, purchases=folder, environment={}, **more)


def buy(server: ChaosServer, folder: Path | None = None, **more: Any) -> list[list[Completion]]:
    return sampler_at(server, folder, **more).generate(PROMPTS, 2, Sampling(seed=1))


def right(groups: list[list[Completion]]) -> bool:
    with ChaosServer() as calm:
        sampler = OpenAISampler(f"openai:{MODEL}@{calm.url}", environment={})
        drawn = [{asked.body["seed"] for asked in calm.asked} for _ in sampler.generate(PROMPTS, 2, Sampling(seed=1))]
        seeds = sorted(drawn[0])
    found = [{each.text for each in group} for group in groups]
    return found == [{answer_to(f"q{i}", seed) for seed in seeds} for i in range(4)]


def chats(server: ChaosServer) -> int:
    return sum(asked.path.endswith("/chat/completions") for asked in server.asked)


def test_a_batch_answers_all(tmp_path: Path) -> None:
    with BatchServer(polls=3) as server:
        groups = buy(server, tmp_path)
        assert right(groups) and chats(server) == 0 and len(server.batches) == 1
        assert buy(server, tmp_path) == groups and len(server.batches) == 1
        assert sampler_at(server, tmp_path).totals.completions == 8


@pytest.mark.parametrize("status", ["completed", "expired", "cancelled"])
def test_lines_that_failed_are_asked_one_by_one(status: str, tmp_path: Path) -> None:
    with BatchServer(failing=("q1", "q3"), status=status) as server:
        assert right(buy(server, tmp_path)) and chats(server) == 4 and len(server.batches) == 1


def test_a_stop_while_waiting_goes_on_with_the_same_batch(tmp_path: Path) -> None:
    with BatchServer(polls=10_000) as server:
        with pytest.raises(Interrupted, match="batch-0 goes on"):
            buy(server, tmp_path, caps=Caps(seconds=0.1))
        server.polls = 0
        assert right(buy(server, tmp_path)) and len(server.batches) == 1 and chats(server) == 0


def test_a_batch_whose_name_was_lost_is_found_by_its_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with BatchServer() as server:
        note = Purchases.note

        def killed(self: Purchases, kind: str, **fields: Any) -> None:
            if kind == "batch":
                raise KeyboardInterrupt
            note(self, kind, **fields)

        with monkeypatch.context() as patched:
            patched.setattr(Purchases, "note", killed)
            with pytest.raises(KeyboardInterrupt):
                buy(server, tmp_path)
        assert len(server.batches) == 1
        assert right(buy(server, tmp_path)) and len(server.batches) == 1 and chats(server) == 0


def test_a_batch_whose_creation_was_not_answered_is_not_created_twice(tmp_path: Path) -> None:
    with BatchServer() as server:
        server.lose_next_reply = True
        assert right(buy(server, tmp_path)) and len(server.batches) == 1 and chats(server) == 0


def test_a_batch_that_is_refused_and_a_server_without_batches(tmp_path: Path) -> None:
    with BatchServer(status="failed") as server, pytest.raises(ConfigurationError, match="refused the batch"):
        buy(server, tmp_path / "a")
    with ChaosServer() as server:
        server.routes["POST /v1/files"] = lambda asked, raw: (404, b"no such path")
        with pytest.raises(ConfigurationError, match="does not take batches"):
            buy(server, tmp_path / "b")
        assert chats(server) == 0


def test_a_cap_that_is_reached_submits_nothing(tmp_path: Path) -> None:
    with BatchServer() as server:
        with pytest.raises(Interrupted, match="tokens"):
            buy(server, tmp_path, caps=Caps(tokens=0))
        assert not server.asked
