"""The whole road with the shipped models: teacher's traces, distillation, reinforcement, evaluation, report."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ponder.recipe import build_recipe
from ponder.report.numbers import numbers
from ponder.runner import run_recipe
from ponder.runs.log import Log

TASKS = [{"use": "skills", "max_steps": 2}]
ROAD: dict[str, Any] = {
    "name": "road",
    "seed": 5,
    "stage": {
        "generate": {"model": "pocket-teacher", "tasks": TASKS, "problems": 48, "max_new_tokens": 96, "chunk": 12},
        "distill": {
            "model": "pocket-base",
            "traces": "generate",
            "steps": 6,
            "examples_per_step": 8,
            "checkpoint_every": 2,
        },
        "reinforce": {
            "model": "distill",
            "tasks": TASKS,
            "steps": 4,
            "problems": 60,
            "problems_per_step": 6,
            "group_size": 4,
            "max_new_tokens": 64,
            "checkpoint_every": 1,
        },
        "evaluate": {
            "models": {"pocket-base": "pocket-base", "distilled": "distill", "reinforced": "reinforce"},
            "tasks": TASKS,
            "limit": 4,
            "max_new_tokens": 64,
        },
        "report": {},
    },
}


def digests(run: Path) -> dict[str, str]:
    """Hashes of everything in a run that must not depend on the clock."""
    names = ("distill/model/model.safetensors", "reinforce/model/model.safetensors", "evaluate/results.json")
    names += ("generate/traces.parquet", "distill/metrics.jsonl", "reinforce/metrics.jsonl")
    return {name: hashlib.blake2b((run / name).read_bytes()).hexdigest() for name in names if (run / name).exists()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("road") / "run"
    run_recipe(build_recipe(ROAD), run, Log.silent())
    return run


def test_the_road_ends_with_models_numbers_and_a_page(finished: Path) -> None:
    found = numbers(finished)
    whole = [row for row in found["models"] if row["task"] is None and row["steps"] is None]
    assert [row["model"] for row in whole] == ["pocket-base", "distilled", "reinforced"]
    assert all(row["n"] == 24 and row["low"] <= row["accuracy"] <= row["high"] for row in whole)
    assert {(pair["a"], pair["b"]) for pair in found["pairs"]} >= {("pocket-base", "distilled")}
    assert "<html" in (finished / "report" / "report.html").read_text(encoding="utf-8")


def test_training_moved_the_weights(finished: Path) -> None:
    found = digests(finished)
    assert found["distill/model/model.safetensors"] != found["reinforce/model/model.safetensors"]


def test_the_sampler_and_the_trainer_agree_on_the_policy(finished: Path) -> None:
    rows = [json.loads(line) for line in (finished / "reinforce" / "metrics.jsonl").read_text().splitlines()]
    assert rows and all(row["logprob_gap_max"] < 1e-3 for row in rows)


def test_only_right_and_finished_traces_are_learnt(finished: Path) -> None:
    summary = json.loads((finished / "distill" / "summary.json").read_text())
    made = json.loads((finished / "generate" / "summary.json").read_text())
    assert summary["traces"]["kept"] == made["verdicts"].get("correct", 0)


@pytest.mark.timeout(400)
def test_killed_at_random_moments_it_ends_with_the_same_bits(finished: Path, tmp_path: Path) -> None:
    recipe, run = tmp_path / "road.yaml", tmp_path / "run"
    recipe.write_text(json.dumps(ROAD))
    command = [sys.executable, "-m", "ponder", "run", str(recipe), "--out", str(run)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    rng = random.Random(11)
    for _ in range(3):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        _wait_for_work(run, process, rng)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert digests(run) == digests(finished)


def _wait_for_work(run: Path, process: subprocess.Popen[bytes], rng: random.Random) -> None:
    """Wait until the run has written something new, and then a random moment."""
    before = _bytes_of(run)
    while process.poll() is None and _bytes_of(run) == before:
        time.sleep(0.02)
    time.sleep(rng.uniform(0.0, 1.5))


def _bytes_of(run: Path) -> int:
    return sum(path.stat().st_size for path in run.rglob("*.jsonl") if path.exists()) if run.exists() else 0
