"""A student measured on traces: its pass rates, its losses, and the same numbers after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ponder.core.errors import ConfigurationError, PonderError
from ponder.core.types import Completion, Problem, Trace, Verdict
from ponder.engines.local import LocalReference
from ponder.models.load import load_model
from ponder.recipe import build_recipe
from ponder.runner import run_recipe
from ponder.runs.log import Log
from ponder.runs.store import read_rows
from ponder.stages._traces.files import read_traces, row_of, write_rows
from ponder.stages.grade import mean_losses, token_ids

TASKS = [{"use": "skills", "max_steps": 2}]
ROAD: dict[str, Any] = {
    "generate": {"model": ["solutions", "pocket-teacher"], "tasks": TASKS, "problems": 18, "max_new_tokens": 90},
    "grade": {"model": "pocket-base", "traces": "generate", "samples": 2, "max_new_tokens": 60, "chunk": 4},
}


def road(folder: Path, stages: dict[str, Any]) -> dict[str, Any]:
    return run_recipe(build_recipe({"name": "graded", "seed": 2, "stage": stages}), folder, Log.silent())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grade") / "run"
    road(folder, ROAD)
    return folder


def numbers(folder: Path) -> list[dict[str, float]]:
    return [trace.parts for trace in read_traces(folder / "grade" / "traces.parquet")]


def test_every_trace_says_what_the_student_makes_of_it(finished: Path) -> None:
    made = list(read_traces(finished / "generate" / "traces.parquet"))
    graded = list(read_traces(finished / "grade" / "traces.parquet"))
    assert [t.model_copy(update={"parts": {}}) for t in graded] == made, "grading changes nothing else"
    assert all(t.parts["pass_rate"] in (0.0, 0.5, 1.0) and t.parts["student_loss"] > 0 for t in graded)
    by_problem: dict[str, set[float]] = {}
    for trace in graded:
        by_problem.setdefault(trace.problem.id, set()).add(trace.parts["pass_rate"])
    assert len(by_problem) == 18 and all(len(rates) == 1 for rates in by_problem.values())
    summary = json.loads((finished / "grade" / "summary.json").read_text())
    assert summary["traces"] == 36 and summary["pass_rate"]["n"] == 36
    rates = [next(iter(rate)) for rate in by_problem.values()]
    assert summary["pass_rate"]["never"] == rates.count(0.0) and summary["pass_rate"]["rate"] == pytest.approx(
        np.mean(rates), abs=1e-4
    )
    assert {"teacher solutions", "teacher pocket-teacher", "long", "short"} == set(summary["student_loss"]["groups"])


def test_the_loss_is_that_of_the_response_alone(finished: Path) -> None:
    trace = next(read_traces(finished / "grade" / "traces.parquet"))
    loaded = load_model("pocket-base")
    prompt, response = token_ids(trace, loaded.chat)
    (scores,) = LocalReference(loaded.model).logprobs([[*prompt, *response]])
    assert trace.parts["student_loss"] == pytest.approx(-scores[len(prompt) :].mean(), abs=1e-4)
    assert mean_losses(LocalReference(loaded.model), [(prompt, response)], len(prompt)) == [None]


def test_selecting_by_grades_keeps_what_is_in_reach(finished: Path, tmp_path: Path) -> None:
    chosen = {
        "traces": str(finished / "grade"), "min_pass_rate": 0.4, "order": "curriculum", "mix": {"drop_hardest": 0.2},
    }  # fmt: skip
    summary = road(tmp_path / "run", {"select": chosen})["select"]
    kept = list(read_traces(tmp_path / "run" / "select" / "traces.parquet"))
    assert kept and [trace.parts["pass_rate"] for trace in kept] == sorted(
        (trace.parts["pass_rate"] for trace in kept), reverse=True
    )
    assert min(trace.parts["pass_rate"] for trace in kept) >= 0.4 and summary["traces"]["too_difficult"] > 0
    assert set(summary["terms"]) == {trace.sampler for trace in kept}


def test_killed_in_the_middle_it_ends_with_the_same_numbers(finished: Path, tmp_path: Path) -> None:
    stages = {"grade": ROAD["grade"] | {"traces": str(finished / "generate"), "tasks": TASKS}}
    recipe = {"name": "graded", "seed": 2, "stage": stages}
    (tmp_path / "graded.yaml").write_text(json.dumps(recipe))
    command = [sys.executable, "-m", "ponder", "run", str(tmp_path / "graded.yaml"), "--out", str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    journal = tmp_path / "run" / "grade" / "student.jsonl"
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with journal.open("a") as file:
        file.write('{"task": "torn')
    run_recipe(build_recipe(recipe), tmp_path / "run", Log.silent())
    assert numbers(tmp_path / "run") == numbers(finished)


def scripted(folder: Path, traces: list[Trace], **settings: Any) -> dict[str, Any]:
    """Grade by a student that always answers 4."""
    write_rows(folder / "in.jsonl", map(row_of, traces))
    (folder / "student.jsonl").write_text('{"prompt": "*", "response": "The answer is 4."}\n')
    stage = {"model": f"scripted:{folder / 'student.jsonl'}", "traces": str(folder / "in.jsonl"), "samples": 2}
    return road(folder / "run", {"grade": stage | settings})["grade"]


def trace(number: int, answer: Any = 4, task: str = "gsm8k") -> Trace:
    problem = Problem(id=str(number), task=task, prompt=f"Question {number}?", answer=answer)
    return Trace(problem=problem, completion=Completion(text="4"), verdict=Verdict.correct("4"))


def test_what_cannot_be_judged_has_no_pass_rate(tmp_path: Path) -> None:
    summary = scripted(tmp_path, [trace(1), trace(2, 5), trace(3, None)], loss=False)
    found = [each["parts"] for each in read_rows(tmp_path / "run" / "grade" / "traces.parquet")]
    assert found == [{"pass_rate": 1.0}, {"pass_rate": 0.0}, {}]
    rate = summary["pass_rate"]
    assert (rate["n"], rate["never"], rate["always"], rate["unjudged"]) == (4, 1, 1, 1)
    assert summary["student_loss"] is None


def test_what_cannot_be_graded_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot say how likely"):
        scripted(tmp_path, [trace(1)], samples=0)
    with pytest.raises(ConfigurationError, match="verifier of these traces is not known"):
        (tmp_path / "b").mkdir()
        scripted(tmp_path / "b", [trace(1, task="jsonl")], loss=False)
    with pytest.raises(PonderError, match="0 traces to grade"):
        (tmp_path / "c").mkdir()
        scripted(tmp_path / "c", [], loss=False)
