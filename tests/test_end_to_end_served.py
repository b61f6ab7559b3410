"""A teacher behind HTTP answers as it does here: through Ponder's own server, and through llama.cpp's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ponder.backends.local import open_sampler
from ponder.core.answers import split_thinking
from ponder.core.types import Completion, Outcome, Problem, Sampling
from ponder.models.load import resolve_model
from ponder.recipe import build_recipe
from ponder.runner import run_recipe
from ponder.runs.log import Log
from ponder.stages._tasks import draw_problems, open_tasks

pytest.importorskip("ponder.engines.openai")

NAME = "pocket-teacher"
SAMPLING = Sampling(temperature=0.0, max_new_tokens=300, seed=4)
SOURCE = Path(__file__).resolve().parents[1] / "src"


@pytest.fixture(scope="module")
def tasks() -> dict[str, Any]:
    return open_tasks([{"use": "skills", "max_steps": 4}])


@pytest.fixture(scope="module")
def problems(tasks: dict[str, Any]) -> list[Problem]:
    return draw_problems(tasks, "test", 12, 0)


@pytest.fixture(scope="module")
def own(problems: list[Problem]) -> list[Completion]:
    return [found for (found,) in open_sampler(NAME).generate([one.messages for one in problems], 1, SAMPLING)]


@pytest.fixture(scope="module")
def ponder_url() -> Iterator[str]:
    pytest.importorskip("uvicorn")
    pytest.importorskip("starlette")
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    environment.pop("PONDER_SERVE_KEY", None)
    command = [sys.executable, "-m", "ponder", "serve", NAME, "--port", "0"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        assert process.wait(40) == 0


def asked(url: str, problems: Sequence[Problem], sampling: Sampling, samples: int = 1) -> list[list[Completion]]:
    sampler = open_sampler(f"openai:{NAME}@{url}")
    return sampler.generate([one.messages for one in problems], samples, sampling)


def test_ponders_server_gives_the_local_answers(
    ponder_url: str, problems: list[Problem], own: list[Completion]
) -> None:
    for (served,), local in zip(asked(ponder_url, problems, SAMPLING), own, strict=True):
        assert (served.text, served.finish) == (local.text, local.finish)
        assert served.usage == local.usage and served.model == NAME


def test_served_samples_differ_and_come_again(ponder_url: str, problems: list[Problem]) -> None:
    drawn = SAMPLING.model_copy(update={"temperature": 1.5, "max_new_tokens": 60})
    first, again = (asked(ponder_url, problems[:6], drawn, samples=4) for _ in range(2))
    texts = [[one.text for one in samples] for samples in first]
    assert texts == [[one.text for one in samples] for samples in again]
    assert any(len(set(samples)) > 1 for samples in texts)


def test_a_student_learns_from_a_served_teacher_as_from_one_that_is_here(ponder_url: str, tmp_path: Path) -> None:
    served = f"openai:{NAME}@{ponder_url}"
    student = {"use": "distill", "model": "pocket-base", "steps": 2, "examples_per_step": 8}
    kd = {**student, "objective": {"use": "kd", "top_k": 8}}
    stages = {
        "generate": {
            "model": served, "tasks": [{"use": "skills", "max_steps": 2}], "problems": 18, "max_new_tokens": 120,
            "token_limit": 100_000,
        },
        "pack": {"model": served, "student": "pocket-base", "traces": "generate", "top_k": 8},
        "packed": {**kd, "traces": "pack"},
        "live": {**kd, "traces": "generate", "teacher": served},
        "here": {**kd, "traces": "generate", "teacher": NAME},
    }  # fmt: skip
    run_recipe(build_recipe({"name": "served", "stage": stages}), tmp_path / "run", Log.silent())
    rows = {
        stage: [json.loads(line) for line in (tmp_path / "run" / stage / "metrics.jsonl").read_text().splitlines()]
        for stage in ("packed", "live", "here")
    }
    for packed, live, here in zip(*rows.values(), strict=True):
        assert live["divergence"] == pytest.approx(here["divergence"], rel=1e-3, abs=1e-6)
        assert packed["divergence"] == pytest.approx(here["divergence"], rel=0.02, abs=2e-4)
    card = (tmp_path / "run" / "packed" / "model" / "README.md").read_text()
    assert "the terms of the service apply" in card


def test_llama_cpp_gives_the_local_answers_for_most_problems(
    tmp_path: Path, tasks: dict[str, Any], problems: list[Problem], own: list[Completion]
) -> None:
    """60 of 60 were the same in q8_0 on the machine this was written on; sums are rounded otherwise on others."""
    llamacpp = pytest.importorskip("llamacpp")
    gguf = pytest.importorskip("ponder.exporters.gguf")
    path = gguf.Gguf(form="q8_0")(resolve_model(NAME), tmp_path)
    server = llamacpp.LlamaServer(path, NAME)
    same = right = 0
    for problem, (served,), local in zip(problems, asked(f"{server.url}/v1", problems, SAMPLING), own, strict=True):
        same += split_thinking(served.text) == split_thinking(local.text)
        right += tasks[problem.task].verifier(problem, served.text).outcome is Outcome.CORRECT
    assert same >= len(problems) - 2 and right >= 8
