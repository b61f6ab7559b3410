from __future__ import annotations

import hashlib
import json
import math
import re
from base64 import b64encode
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ponder.core.errors import ResourceError
from ponder.core.seeds import python_rng
from ponder.core.types import Completion, Finish, Json, Outcome, Problem, StepVerdict, Trace, Usage, Verdict
from ponder.measure.stored import trace_row
from ponder.report.charts import Mark, bars, curve, forest, nice_ticks
from ponder.report.curves import training_curves
from ponder.report.numbers import numbers
from ponder.report.page import render, write_report
from ponder.report.table import table
from ponder.report.traces import PROBLEMS_PER_SPLIT, choose_problems, embedded, segments
from ponder.runs.store import StageFolder

SKILLS = ("arithmetic", "chains", "causes", "implications", "plans", "contradictions")
MODELS = {"pocket-base": 0.12, "distilled": 0.62, "reinforced": 0.7, "pocket-teacher": 0.96}
HOSTILE = '</script><script>alert(1)</script><img src=x onerror=alert(2)>"\'<!-- {{ 7*7 }}\x00\ud800'


class Steps:
    """A step verifier that calls a line with an exclamation mark wrong."""

    def __call__(self, problem: Problem, response: str) -> Verdict:
        return Verdict.unknown("not asked")

    def steps(self, problem: Problem, response: str) -> list[StepVerdict]:
        lines = [line for line in response.splitlines() if line.startswith("Step")]
        return [
            StepVerdict(index=i, text=line, outcome=Outcome.WRONG if "!" in line else Outcome.CORRECT, reason="sum")
            for i, line in enumerate(lines)
        ]


def make_trace(model: str, problem: Problem, right: float, sample: int, prefix: str = "") -> Trace:
    rng = python_rng(model, problem.id, sample)
    steps = int(str(problem.meta["steps"]))
    good = rng.random() < right ** (0.4 + steps / 5)
    cut = not good and rng.random() < 0.15
    thought = [f"Step {i + 1}: {3 * i} + 4 = {3 * i + (4 if good or i != steps // 2 else 5)}" for i in range(steps)]
    thought = [line + ("!" if not good and i == steps // 2 else "") for i, line in enumerate(thought)]
    silent = model == "pocket-base" and rng.random() < 0.8
    text = "" if silent else "<think>\n" + "\n".join(thought) + ("" if cut else "\n</think>\n\n")
    text = prefix + text + ("" if cut else f"The answer is {7 if good else 8}.")
    verdict = Verdict.correct("7") if good else Verdict.wrong(None if cut else "8", "truncated" if cut else "different")
    usage = Usage(prompt_tokens=40, completion_tokens=len(text) // 3, thinking_tokens=0 if silent else len(text) // 4)
    completion = Completion(text=text, finish=Finish.LENGTH if cut else Finish.STOP, usage=usage, seconds=rng.random())
    return Trace(problem=problem, completion=completion, verdict=verdict, sampler=model)


def make_problems(split: str, count: int, skills: tuple[str, ...] = SKILLS) -> list[Problem]:
    low, high = (7, 16) if split == "longer" else (1, 6)
    return [
        Problem(
            id=f"{skill}-{split}-{index}",
            task=skill,
            prompt=f"Ada has {index} marbles and wins some more in each of several rounds. How many has she at the end?",
            answer="7",
            meta={"skill": skill, "steps": low + index % (high - low + 1), "split": split},
        )
        for skill in skills
        for index in range(count)
    ]


def make_run(
    path: Path,
    models: dict[str, float] | None = None,
    splits: tuple[str, ...] = ("test", "longer"),
    count: int = 30,
    samples: int = 1,
    skills: tuple[str, ...] = SKILLS,
    prefix: str = "",
) -> Path:
    models = MODELS if models is None else models
    folder = StageFolder(path / "evaluate")
    problems = [problem for split in splits for problem in make_problems(split, count, skills)]
    plan = {
        "id": "0123456789abcdef",
        "splits": list(splits),
        "samples": samples,
        "seed": 0,
        "sampling": {"temperature": 0.0, "max_new_tokens": 512},
        "problems": len(problems),
        "inside_steps": 6,
        "models": [{"label": m, "name": m, "traces": f"traces-{i}"} for i, m in enumerate(models, 1)],
    }
    folder.write_json("evaluation", plan)
    for index, (model, right) in enumerate(models.items(), 1):
        traces = [(make_trace(model, p, right, s, prefix), s) for p in problems for s in range(samples)]
        folder.journal(f"traces-{index}").append_all([trace_row(trace, s, Steps()) for trace, s in traces])
        chunk = {"model": model, "start": 0, "answers": len(traces), "tokens": 60 * len(traces), "seconds": 7.5 * index}
        size = {"peak_memory_bytes": 900_000_000, "parameters": 10**6 * (4 + 20 * (index == 4)), "disk_bytes": 8 * 10**6}
        folder.journal("timing").append({**chunk, **size})
    return path


def add_training(path: Path, stage: str = "reinforce", rows: int = 400) -> None:
    rng = python_rng(stage)
    journal = StageFolder(path / stage).journal("metrics")
    for step in range(rows):
        reward = 0.7 - 0.6 * math.exp(-step / 90) + rng.gauss(0, 0.03)
        journal.append(
            {"step": step, "loss": rng.gauss(0, 0.02), "reward": reward, "correct": reward, "lr": 1e-4 * min(1, step / 20),
             "completion_tokens": 40 + step / 8 + rng.gauss(0, 3), "grad_norm": math.exp(rng.gauss(-1, 0.4)),
             "entropy": 0.4 * math.exp(-step / 200), "reasons": 1 - math.exp(-step / 50), "tokens": 8000}
        )  # fmt: skip
