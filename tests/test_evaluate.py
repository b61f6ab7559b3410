from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import save_file

from ponder.core.errors import ConfigurationError, DataError, Interrupted
from ponder.core.protocols import Watch
from ponder.core.seeds import python_rng
from ponder.core.types import (
    Completion,
    Finish,
    Messages,
    Outcome,
    Problem,
    Record,
    Sampling,
    StepVerdict,
    Usage,
    Verdict,
)
from ponder.measure.resources import (
    Footprint,
    Stopwatch,
    footprint,
    machine,
    memory_bytes,
    peak_memory_bytes,
    reset_peak_memory,
)
from ponder.measure.scores import Answer, default_pairs, model_rows, pair_rows, summarise
from ponder.measure.stats import wilson
from ponder.report.numbers import numbers
from ponder.report.page import render
from ponder.report.table import table
from ponder.runs.log import Log
from ponder.runs.store import StageFolder
from ponder.stages import _alone, _answering, evaluate
from ponder.stages._stage import Context
from ponder.stages._tasks import open_tasks
from ponder.stages.evaluate import Evaluate


class SumVerifier:
    """Right when the response ends with the gold number; the gold `?` cannot be judged."""

    def __call__(self, problem: Problem, response: str) -> Verdict:
        if problem.answer == "?":
            return Verdict.unknown("no gold")
        read = response.rpartition(" ")[2]
        return Verdict.correct(read) if read == problem.answer else Verdict.wrong(read)

    def steps(self, problem: Problem, response: str) -> list[StepVerdict]:
        lines = [line for line in response.splitlines() if line.startswith("so")]
        wrong = [Outcome.WRONG if "maybe" in line else Outcome.CORRECT for line in lines]
        return [StepVerdict(index=i, text=line, outcome=wrong[i]) for i, line in enumerate(lines)]


class Sums(Record):
    """A task whose problems say how many steps they need."""

    unknown: int = 0
    splits: tuple[str, ...] = ("test", "longer")
    max_steps: int = 3

    def problems(self, split: str, limit: int, seed: int) -> list[Problem]:
        return [
            Problem(
                id=f"{split}-{index}",
                task="sums",
                prompt=f"{split} {seed} {index}",
                answer="?" if index < self.unknown else str(index),
                meta={"skill": "adding", "steps": 1 + index % 3 + 3 * (split == "longer")},
            )
            for index in range(limit)
        ]

    @property
    def verifier(self) -> SumVerifier:
        return SumVerifier()


class Fake:
    """Answers each prompt as its skill allows, never looking at what else is asked."""

    calls = 0

    def __init__(self, name: str, fail_after: int | None = None) -> None:
        self.name, self.skill, self.fail_after = name, {"weak": 0.2, "strong": 0.8}.get(name, 0.5), fail_after

    def generate(
        self, prompts: Sequence[Messages], samples: int, sampling: Sampling, watch: Watch | None = None
    ) -> list[list[Completion]]:
        Fake.calls += 1
        if self.fail_after is not None and Fake.calls > self.fail_after:
            raise KeyboardInterrupt
        if watch is not None:
            watch(1, 10)
        return [
            [self._complete(messages[0].content, index, sampling) for index in range(samples)] for messages in prompts
        ]

    def _complete(self, prompt: str, index: int, sampling: Sampling) -> Completion:
        rng = python_rng(self.name, prompt, index if sampling.temperature else 0, sampling.seed)
        number = prompt.rpartition(" ")[2]
        good, cut = rng.random() < self.skill, rng.random() < 0.1
        text = f"<think>\nso {'fine' if good else 'maybe'}\n</think>\n\nit is {number if good else 'x'}"
        usage = Usage(prompt_tokens=5, completion_tokens=12, thinking_tokens=7)
        finish = Finish.LENGTH if cut and not good else Finish.STOP
        tokens = (1, 2, 3)
        return Completion(text=text, finish=finish, tokens=tokens, usage=usage, seconds=python_rng(id(usage)).random())


@pytest.fixture
def open_fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Every model name opens a fake; the task `sums` is this file's."""

    def install(fail_after: int | None = None) -> None:
        monkeypatch.setattr(_answering, "open_sampler", lambda name: Fake(name, fail_after))
        monkeypatch.setattr(_answering, "_footprint", lambda name: Footprint(1000, 4000))
        monkeypatch.setattr(evaluate, "open_tasks", lambda choices: {"sums": Sums(**dict(choices[0]))})
        monkeypatch.setattr(evaluate, "CHUNK_COMPLETIONS", 64)
        Fake.calls = 0

    install()
    return install


def context(path: Path, seed: int = 0) -> Context:
    return Context(folder=StageFolder(path), seed=seed, log=Log.silent(), stage_path=lambda name: None)


def stage(**fields: object) -> Evaluate:
    settings = {
        "models": ["weak", "strong"],
        "tasks": [{}],
        "splits": ("test", "longer"),
        "limit": 100,
        **fields,
    }
    return Evaluate.model_validate(settings)


DETERMINISTIC = ("results.json", "evaluation.json", "traces-1-weak.jsonl", "traces-2-strong.jsonl")


def contents(path: Path) -> list[bytes]:
    return [(path / name).read_bytes() for name in DETERMINISTIC]


def test_two_models_are_compared_on_the_same_problems(tmp_path: Path, open_fake: Callable[..., None]) -> None:
    summary = stage()(context(tmp_path / "run" / "evaluate"))
    rows = {(row["model"], row["split"]): row for row in summary["models"]}
    assert rows["weak", "test"]["n"] == rows["strong", "longer"]["n"] == 100
    assert rows["weak", "test"]["high"] < rows["strong", "test"]["low"]
    assert 0 < rows["weak", "test"]["truncated"] < 0.3 and rows["weak", "test"]["reasons"] == 1
    assert rows["weak", "test"]["answer_tokens"] == 5 and rows["weak", "test"]["thinking_tokens_p95"] == 7
    assert rows["weak", "test"]["first_wrong_steps"].keys() == {"1"}
    (test_pair, _) = summary["pairs"]
    assert (test_pair["a"], test_pair["b"], test_pair["n"]) == ("weak", "strong", 100)
    assert test_pair["low"] > 0.3 and test_pair["p"] < 0.001
    counted = numbers(tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "evaluate" / "results.json").read_bytes())
    assert [{k: v for k, v in row.items() if k != "stage"} for row in counted["models"]] == stored["models"]
    assert counted["costs"][0]["parameters"] == 1000 and counted["costs"][0]["seconds_per_answer"] >= 0
    steps = {row["steps"] for row in counted["models"] if row["split"] == "longer" and row["task"] is None}
    assert steps == {None, 4, 5, 6} and "more steps than trained on" in render(tmp_path / "run")


@pytest.mark.parametrize("samples", [1, 4])
def test_the_same_evaluation_twice_is_equal_byte_for_byte(
    tmp_path: Path, open_fake: Callable[..., None], samples: int
) -> None:
    stage(samples=samples, limit=60)(context(tmp_path / "a", seed=1))
    stage(samples=samples, limit=60)(context(tmp_path / "b", seed=2))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert b"seconds" not in contents(tmp_path / "a")[2] and b'"tokens"' not in contents(tmp_path / "a")[2]


@pytest.mark.parametrize(("samples", "fail_after"), [(1, 0), (1, 1), (1, 3), (1, 6), (3, 5)])
def test_a_killed_evaluation_ends_as_an_uninterrupted_one(
    tmp_path: Path, open_fake: Callable[..., None], fail_after: int, samples: int
) -> None:
    kept = stage(samples=samples)(context(tmp_path / "whole"))
    chunks = Fake.calls
    open_fake(fail_after)
    with pytest.raises(KeyboardInterrupt):
        stage(samples=samples)(context(tmp_path / "cut"))
    journal = tmp_path / "cut" / "traces-1-weak.jsonl"
    with journal.open("ab") as file:  # a few rows of the next chunk and a torn one reached the disk
        row = (tmp_path / "whole" / "traces-1-weak.jsonl").read_bytes().splitlines(keepends=True)[0]
        file.write(row * 2 + row[:40])
    open_fake()
    assert stage(samples=samples)(context(tmp_path / "cut")) == kept
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert Fake.calls == chunks - fail_after
    costs = [json.loads((tmp_path / name / "timing.json").read_bytes())["costs"] for name in ("whole", "cut")]
    assert [row["answers"] for row in costs[0]] == [row["answers"] for row in costs[1]] == [200 * samples] * 2


def test_a_finished_evaluation_opens_no_model(tmp_path: Path, open_fake: Callable[..., None]) -> None:
    first = stage()(context(tmp_path))
    open_fake(0)
    assert stage()(context(tmp_path)) == first and Fake.calls == 0


def test_another_evaluation_never_continues_stored_traces(tmp_path: Path, open_fake: Callable[..., None]) -> None:
    first = stage(limit=50)(context(tmp_path))
    second = stage(limit=60)(context(tmp_path))
    assert second["evaluation"] != first["evaluation"] and second["models"][0]["n"] == 60


def test_another_evaluation_never_keeps_stored_times(
    tmp_path: Path, open_fake: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_alone, "open_sampler", Fake)
    for limit, timed in ((2, 4), (3, 6)):  # two splits
        stage(limit=limit, budgets=(8,))(context(tmp_path))
        rows = json.loads((tmp_path / "timing.json").read_text())["alone"]
        assert {row["label"]: row["n"] for row in rows} == dict.fromkeys(
            ["weak", "weak:8", "strong", "strong:8"], timed
        )


def test_stopping_keeps_finished_chunks(
    tmp_path: Path, open_fake: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:
        if Fake.calls == 2:
            raise Interrupted("stopped")

    monkeypatch.setattr(_answering, "raise_if_stopped", stop)
    with pytest.raises(Interrupted):
        stage()(context(tmp_path))
    assert len(StageFolder(tmp_path).journal("traces-1-weak")) == 128


def test_identity_follows_problems_sampling_and_rules(
    tmp_path: Path, open_fake: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def identity(name: str, **fields: object) -> str:
        return stage(limit=5, **fields)(context(tmp_path / name))["evaluation"]

    base = identity("a")
    assert identity("b", models=["strong"]) == base, "which models are compared changes nothing about the measure"
    assert identity("c", seed=1) != base and identity("d", max_new_tokens=9) != base
    monkeypatch.setattr(evaluate, "_sources", lambda tasks: iter(["another answer rule"]))
    assert identity("e") != base


def test_unknown_is_in_no_rate_and_withholds_the_score(tmp_path: Path, open_fake: Callable[..., None]) -> None:
    summary = stage(tasks=[{"unknown": 20}], splits=("test",))(context(tmp_path))
    (weak, strong) = summary["models"]
    assert weak["n"] == strong["n"] == 80 and weak["answers"] == 100
    assert weak["unknown"] == pytest.approx(20 / 100) and weak["withheld"] is True
    assert weak["accuracy"] is weak["low"] is weak["high"] is None and "20.0 %" in weak["withheld_because"]
    (pair,) = summary["pairs"]
    assert pair["n"] == 80 and pair["difference"] is pair["p"] is pair["low"] is None
    assert pair["wording"].startswith("withheld") and not pair["shown"]
    assert "withheld" in table(numbers(tmp_path)) and "withheld" in render(tmp_path)
    none = stage(tasks=[{"unknown": 100}], splits=("test",))(context(tmp_path / "none"))["models"][0]
    assert none["n"] == 0 and none["accuracy"] is None and none["low"] is None
    few = stage(tasks=[{"unknown": 1}], splits=("test",))(context(tmp_path / "few"))["models"][0]
    assert few["withheld"] is False and few["accuracy"] is not None


def test_several_samples_add_pass_and_majority(tmp_path: Path, open_fake: Callable[..., None]) -> None:
    summary = stage(samples=4, splits=("test",))(context(tmp_path))
    row = summary["models"][0]
    assert row["n"] == 100 and row["answers"] == 400 and set(row["pass_at_k"]) == {"1", "2", "4"}
    assert row["pass_at_k"]["1"]["value"] == pytest.approx(row["accuracy"])
    values = [row["pass_at_k"][k]["value"] for k in ("1", "2", "4")]
    assert values == sorted(values) and row["maj_at_k"]["1"]["value"] == pytest.approx(row["accuracy"])
    all_right = [row["pass_hat_k"][k]["value"] for k in ("1", "2", "4")]
    assert all_right == sorted(all_right, reverse=True) and all_right[0] == values[0]
    for name in ("pass_at_k", "pass_hat_k", "maj_at_k"):
        one = row[name]["1"]
        assert (one["low"], one["high"]) == pytest.approx((row["low"], row["high"])), "one draw is the accuracy"
    assert row["noise"]["seeds"] == 4 and 0 < row["noise"]["low"] < row["noise"]["spread"] < row["noise"]["high"]
    assert summary["pairs"][0]["inside_noise"] is False
    assert "pass@k" in render(tmp_path) and "pass^k" in render(tmp_path)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"models": []}, ValidationError, "at least 1"),
        ({"models": ["weak", "weak"]}, ValidationError, "would be called"),
        ({"splits": ["hard"]}, ConfigurationError, "no split 'hard'"),
        ({"smaples": 2}, ValidationError, "smaples"),
        ({"limit": 0}, ValidationError, "limit"),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path,
    open_fake: Callable[..., None],
    fields: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        stage(**fields)(context(tmp_path))


def test_labels(tmp_path: Path) -> None:
    (tmp_path / "distill" / "model").mkdir(parents=True)
    named = Evaluate.model_validate({"models": [str(tmp_path / "distill" / "model"), "org/name"]})
    assert list(named.models) == ["distill", "org/name"]
    assert stage(models="pocket-base").models == {"pocket-base": "pocket-base"}
    assert stage().sampling.temperature == 0 and stage(samples=2).sampling.temperature == 1
    assert stage(samples=2, temperature=0.7).sampling.temperature == 0.7


def answer(model: str, problem: int, right: bool | None, **fields: object) -> Answer:
    outcome = Outcome.UNKNOWN if right is None else Outcome.CORRECT if right else Outcome.WRONG
    values = {"skill": None, "steps": None, "answer": str(right), "truncated": False, "reasons": False}
    values |= {"answer_tokens": 1, "thinking_tokens": 0, "steps_found": None, "wrong_step": None, **fields}
    return Answer(model=model, key=("test", "task", str(problem)), outcome=outcome, **values)  # type: ignore[arg-type]


def test_rows_cover_tasks_skills_and_steps_once() -> None:
    answers = [answer("m", i, i % 2 == 0, skill="ab"[i % 2], steps=i % 3) for i in range(30)]
    places = [(row["task"], row["skill"], row["steps"]) for row in model_rows(answers)]
    assert len(set(places)) == len(places)
    assert places[0] == (None, None, None) and ("task", None, None) in places and ("task", "a", None) in places
    (row,) = [row for row in model_rows(answers) if (row["task"], row["skill"], row["steps"]) == ("task", "a", None)]
    assert row["n"] == 15 and row["accuracy"] == 1
    single = {(row["task"], row["skill"]) for row in model_rows([answer("m", 1, True, skill="a")])}
    assert single == {(None, None), ("task", "a")}


def test_right_answers_on_wrong_steps_are_counted() -> None:
    answers = [answer("m", i, True, steps_found=2, wrong_step=2 if i < 3 else None) for i in range(10)]
    row = summarise(answers)
    assert row["flawed"] == 0.3 and row["first_wrong_steps"] == {"2": 3}
    assert "flawed" not in summarise([answer("m", 1, True)])


def test_summary_of_single_samples_is_wilson() -> None:
    row = summarise([answer("m", i, i < 7) for i in range(10)])
    assert (row["accuracy"], row["low"], row["high"]) == wilson(7, 10)
    assert summarise([])["accuracy"] is None


def test_pairs_use_only_problems_that_both_answered() -> None:
    answers = [answer("a", i, False) for i in range(10)] + [answer("b", i, True) for i in range(8)]
    (row,) = pair_rows(answers, [("a", "b")])
    assert row["n"] == 8 and row["difference"] == 1 and row["wording"].startswith("b is higher")
    (alone,) = pair_rows(answers[:10], [("a", "c")])
    assert alone["n"] == 0 and alone["difference"] is None
    assert default_pairs(["only"]) == [] and default_pairs(["a", "b"]) == [("a", "b")]


def test_footprint_reads_headers_only(tmp_path: Path) -> None:
    save_file({"w": np.zeros((3, 4), np.float32), "b": np.zeros(4, np.float16)}, tmp_path / "model.safetensors")
    save_file({"v": np.zeros((2, 2, 2), np.float32)}, tmp_path / "second.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text("{}")
    size = footprint(tmp_path)
    assert size.parameters == 24 and size.disk_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert footprint(tmp_path / "config.json").parameters is None
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(DataError, match="safetensors"):
        footprint(tmp_path)


def test_memory_peak_follows_what_is_held() -> None:
    could_reset = reset_peak_memory()
    before = peak_memory_bytes()
    held = np.ones(30_000_000)
    assert peak_memory_bytes() >= before + 200_000_000 and held.nbytes == 240_000_000
    del held
    if could_reset:
        high = peak_memory_bytes()
        assert reset_peak_memory() and peak_memory_bytes() < high
    assert memory_bytes() >= before


def test_machine_and_stopwatch() -> None:
    described = machine()
    assert described["cores"] >= 1 and described["processor"] and "numpy" in described["packages"]
    json.dumps(described)
    with pytest.raises(KeyError), Stopwatch() as watch:
        raise KeyError
    assert watch.seconds > 0


def test_the_answer_rules_hold_every_file_of_a_verifier() -> None:
    tasks = open_tasks([{"use": "jsonl", "path": "rows.jsonl", "verifier": "math"}])
    sources = list(evaluate._sources(tasks))
    files = {path.stem for path in (Path(evaluate.__file__).parents[1] / "verifiers" / "_math").glob("*.py")}
    assert "algebra" in files  # imported by the workers alone
    for name in ("core.answers", "verifiers.math", *(f"verifiers._math.{stem}" for stem in files)):
        assert any(source.startswith(f"ponder.{name}") for source in sources), name
