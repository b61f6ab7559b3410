"""Traces of teachers: in rounds, along a ladder, side by side, within limits, and the same after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ponder import cli
from ponder.core.errors import ConfigurationError, Interrupted
from ponder.core.types import Caps, Completion, Messages, Problem, Sampling, Trace, Usage, Verdict
from ponder.measure.teachers import agreement, replies_of, teacher_rows
from ponder.measure.terms import terms_of_folder, terms_of_licence
from ponder.recipe import build_recipe
from ponder.runner import run_recipe
from ponder.runs.log import Log
from ponder.runs.store import StageFolder, read_rows
from ponder.stages import _teachers
from ponder.stages._chunks import Chunks
from ponder.stages._rounds import Rounds

TASKS = [{"use": "arithmetic", "max_steps": 2}]


def run(folder: Path, **settings: Any) -> dict[str, Any]:
    """Summary of a run of nothing but `generate`."""
    stage = {"model": "pocket-teacher", "tasks": TASKS, "problems": 12, "max_new_tokens": 80, "chunk": 5} | settings
    return run_recipe(build_recipe({"name": "made", "seed": 3, "stage": {"generate": stage}}), folder, Log.silent())[
        "generate"
    ]


def traces(folder: Path) -> list[Trace]:
    return [Trace.model_validate(row) for row in read_rows(folder / "generate" / "traces.parquet")]


class Counting:
    """Answers with the number of the sample and its temperature; remembers what it was asked."""

    name = "counting"

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, float, int]] = []

    def generate(
        self, prompts: Sequence[Messages], samples: int, sampling: Sampling, watch: Any = None
    ) -> list[list[Completion]]:
        self.calls.append((len(prompts), samples, sampling.temperature, sampling.seed))
        return [[Completion(text=f"{p[-1].content}/{sampling.seed}/{i}") for i in range(samples)] for p in prompts]


def right_from(turn: dict[str, int]) -> Any:
    """A verifier that finds a problem's answers right from its n-th on."""
    seen: dict[str, int] = defaultdict(int)

    def verify(problem: Problem, response: str) -> Verdict:
        seen[problem.id] += 1
        return Verdict.correct() if seen[problem.id] > turn[problem.id] else Verdict.wrong()

    return verify


def problems(*names: str) -> list[Problem]:
    return [Problem(id=name, task="t", prompt=name, answer="1") for name in names]


# -- rounds --


def test_a_solved_problem_is_not_asked_again_and_an_unsolved_one_gets_all_samples() -> None:
    sampler = Counting()
    rounds = Rounds(Sampling(seed=7), samples=5, enough_correct=2)
    drawn = rounds.draw(sampler, problems("a", "b", "c"), {"t": right_from({"a": 0, "b": 2, "c": 9})}, "me")
    assert [len(group) for group in drawn] == [2, 4, 5]
    assert [call[:2] for call in sampler.calls] == [(3, 2), (2, 2), (1, 1)]
    assert {trace.sampler for group in drawn for trace in group} == {"me"}
    texts = [trace.completion.text for trace in drawn[2]]
    assert len(set(texts)) == 5, "two rounds drew with one seed"


def test_what_is_drawn_does_not_depend_on_the_other_problems() -> None:
    rounds = Rounds(Sampling(seed=7), samples=4, enough_correct=1, temperatures=(0.5, 1.0))
    together = rounds.draw(Counting(), problems("a", "b"), {"t": right_from({"a": 1, "b": 3})}, "me")
    alone = rounds.draw(Counting(), problems("b"), {"t": right_from({"b": 3})}, "me")
    assert together[1] == alone[0]


def test_the_ladder_gives_every_sample_its_temperature() -> None:
    sampler = Counting()
    rounds = Rounds(Sampling(seed=7), samples=5, temperatures=(0.0, 0.7, 1.2))
    (group,) = rounds.draw(sampler, problems("a"), {"t": right_from({"a": 9})}, "me")
    assert [trace.completion.temperature for trace in group] == [0.0, 0.7, 1.2, 0.0, 0.7]
    assert [(call[1], call[2]) for call in sampler.calls] == [(2, 0.0), (2, 0.7), (1, 1.2)]
    assert len({call[3] for call in sampler.calls}) == 3


def test_one_round_without_a_ladder_is_one_call_with_the_seed_itself() -> None:
    sampler = Counting()
    (group,) = Rounds(Sampling(seed=7, temperature=0.4), samples=3).draw(
        sampler, problems("a"), {"t": right_from({"a": 0})}, "me"
    )
    assert sampler.calls == [(1, 3, 0.4, 7)] and group[0].completion.temperature is None


# -- chunks --


def test_what_a_kill_left_without_its_mark_is_dropped(tmp_path: Path) -> None:
    chunks = Chunks(StageFolder(tmp_path), "traces")
    chunks.add([{"n": 1}, {"n": 2}], {"tokens": 5})
    chunks.add([{"n": 3}], {"tokens": 6})
    with (tmp_path / "traces.jsonl").open("a") as file:
        file.write('{"n":4}\n{"n":')
    again = Chunks(StageFolder(tmp_path), "traces")
    assert [row["n"] for row in again.rows.rows()] == [1, 2, 3] and again.total("tokens") == 11
    again.rows.truncate(2)  # the rows of the second mark never reached the disk
    assert len(Chunks(StageFolder(tmp_path), "traces")) == 1


# -- the stage --


def test_a_plain_run_is_as_it_was_before_there_were_rounds(tmp_path: Path) -> None:
    summary = run(tmp_path / "a", samples=2)
    found = traces(tmp_path / "a")
    assert len(found) == 24 and {trace.sampler for trace in found} == {"pocket-teacher"}
    assert all(trace.completion.temperature is None for trace in found)
    (teacher,) = summary["teachers"].values()
    assert teacher["rate"]["n"] == 24 and teacher["terms"]["licence"] == "apache-2.0"
    assert "agreement" not in summary


def test_rounds_are_a_prefix_of_what_one_round_draws(tmp_path: Path) -> None:
    run(tmp_path / "all", samples=1, tasks=["skills"])
    summary = run(tmp_path / "rounds", samples=3, enough_correct=1, tasks=["skills"])
    first = {t.problem.id: t for t in reversed(traces(tmp_path / "rounds"))}
    assert all(first[t.problem.id] == t for t in traces(tmp_path / "all"))
    (teacher,) = summary["teachers"].values()
    assert teacher["rate"]["n"] == 12, "a rate over rounds counts the samples that every problem was asked for"
    assert 12 < summary["traces"] < 36


def test_teachers_stand_beside_each_other(tmp_path: Path) -> None:
    teachers = {"strong": "pocket-teacher", "worked": "solutions", "weak": "pocket-base"}
    terms = {"weak": {"licence": "secret", "training": "forbidden"}}
    summary = run(tmp_path, model=teachers, terms=terms)
    assert {trace.sampler for trace in traces(tmp_path)} == set(teachers)
    rows = summary["teachers"]
    assert rows["worked"]["rate"]["rate"] == 1.0 and rows["worked"]["traces"] == 12
    assert rows["weak"]["terms"]["training"] == "forbidden" and rows["weak"]["terms"]["source"] == "settings"
    pairs = {(pair["a"], pair["b"]): pair for pair in summary["agreement"]["pairs"]}
    assert len(pairs) == 3 and pairs["strong", "worked"]["n"] == 12
    assert pairs["strong", "worked"]["agree"] == rows["strong"]["rate"]["rate"]
    solved = summary["agreement"]["solved"]
    assert solved["n"] == 12 and solved["none"] == 0 and solved["all"] + solved["some"] == 12
    stored = json.loads((tmp_path / "generate" / "terms.json").read_text())
    assert stored["weak"]["training"] == "forbidden"


def test_a_limit_pauses_and_a_higher_one_goes_on_to_the_same_traces(tmp_path: Path) -> None:
    run(tmp_path / "free")
    with pytest.raises(Interrupted, match="token_limit is reached") as stopped:
        run(tmp_path / "capped", token_limit=1)
    assert stopped.value.exit_code == 4 and "raise token_limit" in stopped.value.fix
    journal = tmp_path / "capped" / "generate" / "traces.jsonl"
    assert len(journal.read_text().splitlines()) == 5, "what was begun is stored"
    before = journal.stat().st_ino
    with pytest.raises(Interrupted):
        run(tmp_path / "capped", token_limit=2)
    assert len(journal.read_text().splitlines()) == 5
    run(tmp_path / "capped", token_limit=10**6)
    assert journal.stat().st_ino == before, "a higher limit began anew"
    whole = (tmp_path / "free" / "generate" / "traces.parquet").read_bytes()
    assert (tmp_path / "capped" / "generate" / "traces.parquet").read_bytes() == whole


def test_time_is_limited_over_all_attempts(tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="time_limit"):
        run(tmp_path, time_limit=1e-4)
    with pytest.raises(Interrupted, match="time_limit"):
        run(tmp_path, time_limit=1e-4)
    assert len((tmp_path / "generate" / "traces.jsonl").read_text().splitlines()) == 5


def test_money_cannot_be_limited_where_none_is_paid(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no teacher is paid"):
        run(tmp_path, cost_limit=1.0)


@pytest.mark.parametrize("model", [[], ["a", "a"], {"a": ""}])
def test_teachers_that_make_no_sense_are_refused(model: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        run(tmp_path, model=model)


def test_killed_in_the_middle_of_rounds_it_ends_with_the_same_traces(tmp_path: Path) -> None:
    settings = {
        "model": ["pocket-teacher", "solutions"], "tasks": TASKS, "problems": 16, "samples": 3, "chunk": 2,
        "enough_correct": 1, "temperatures": [0.7, 1.3], "max_new_tokens": 60,
    }  # fmt: skip
    recipe = {"name": "made", "seed": 3, "stage": {"generate": settings}}
    run_recipe(build_recipe(recipe), tmp_path / "whole", Log.silent())
    (tmp_path / "made.yaml").write_text(json.dumps(recipe))
    command = [sys.executable, "-m", "ponder", "run", str(tmp_path / "made.yaml"), "--out", str(tmp_path / "cut")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    journal = tmp_path / "cut" / "generate" / "traces.jsonl"
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (journal.parent / "summary.json").exists()
    run_recipe(build_recipe(recipe), tmp_path / "cut", Log.silent())
    sealed = journal.with_suffix(".parquet")
    assert sealed.read_bytes() == (tmp_path / "whole" / "generate" / "traces.parquet").read_bytes()


class Served:
    """A served teacher as the stage sees it: it keeps an account, and stops when its cap is reached."""

    def __init__(self, name: str, purchases: Path, caps: Caps) -> None:
        self.name, self.caps, self.file = name, caps, purchases / "bought.txt"
        purchases.mkdir(parents=True, exist_ok=True)
        self.notes = {"warnings": ["it ignores the seed"]}

    @property
    def totals(self) -> Usage:
        return Usage(prompt_tokens=len(self.file.read_text()) if self.file.exists() else 0)

    def generate(
        self, prompts: Sequence[Messages], samples: int, sampling: Sampling, watch: Any = None
    ) -> list[list[Completion]]:
        for _ in prompts:
            if self.caps.cost is not None and self.totals.prompt_tokens >= self.caps.cost:
                raise Interrupted("the cap on cost is reached", where=str(self.file), fix="raise it with --cost-limit")
            with self.file.open("a") as file:
                file.write("x")
        usage = Usage(prompt_tokens=5, completion_tokens=7)
        return [[Completion(text="The answer is 1.", usage=usage, model="m-2026")] * samples for _ in prompts]


def test_a_served_teacher_keeps_its_purchases_and_tells_its_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_teachers, "open_sampler", lambda model, *, purchases, caps: Served(model, purchases, caps))
    model = {"api": "openai:big@http://127.0.0.1:1/v1", "worked": "solutions"}
    with pytest.raises(Interrupted, match="cap on cost"):
        run(tmp_path, model=model, cost_limit=7)
    assert len((tmp_path / "generate" / "traces.jsonl").read_text().splitlines()) == 5
    bought = tmp_path / "generate" / "purchases" / "bought.txt"
    assert bought.read_text() == "x" * 7
    summary = run(tmp_path, model=model, cost_limit=100)
    assert summary["served"]["api"]["notes"] == {"warnings": ["it ignores the seed"]}
    assert summary["served"]["api"]["totals"]["prompt_tokens"] == len(bought.read_text()) == 14
    assert summary["teachers"]["api"]["terms"]["training"] == "unknown" and "worked" not in summary["served"]
    assert {trace.completion.model for trace in traces(tmp_path) if trace.sampler == "api"} == {"m-2026"}


def ponder(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["ponder", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_the_command_names_teachers_and_goes_on_under_a_higher_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["generate", "--model", "a=pocket-teacher", "--model", "b=solutions", "--task", "arithmetic"]
    base += ["--problems", "4", "--set", "chunk=2", "--set", "max_new_tokens=64", "--out", str(tmp_path / "run")]
    assert ponder(*base, "--token-limit", "1", monkeypatch=monkeypatch) == 4
    complaint = capsys.readouterr().err
    assert "token_limit is reached" in complaint and "raise token_limit (--token-limit)" in complaint
    assert "resume with: ponder generate" in complaint
    assert ponder(*base, "--token-limit", "100000", monkeypatch=monkeypatch) == 0
    assert [trace.sampler for trace in traces(tmp_path / "run")] == ["a"] * 4 + ["b"] * 4
    assert ponder(*base, "--token-limit", "7", monkeypatch=monkeypatch) == 0, "what is done needs no limit"


# -- counting --


def trace(sampler: str, problem: str, verdict: Verdict) -> Trace:
    return Trace(problem=problems(problem)[0], completion=Completion(text=""), verdict=verdict, sampler=sampler)


def test_agreement_and_rates_are_counted_by_hand() -> None:
    rows = [
        trace("a", "1", Verdict.correct("1/2")),
        trace("b", "1", Verdict.correct("0.5")),  # spelt otherwise, and both right
        trace("a", "2", Verdict.wrong("7")),
        trace("b", "2", Verdict.wrong(" 7")),  # the same mistake
        trace("a", "3", Verdict.wrong("7")),
        trace("b", "3", Verdict.correct("8")),
        trace("a", "4", Verdict.wrong(None, "no answer")),
        trace("b", "4", Verdict.wrong(None, "no answer")),  # saying nothing is no agreement
        trace("a", "5", Verdict.unknown("no gold")),
        trace("b", "5", Verdict.correct("1")),
    ]
    replies = replies_of(rows, ["a", "b"])
    found = agreement(replies)
    assert found is not None and found["pairs"] == [{"a": "a", "b": "b", "n": 4, "agree": 0.5}]
    assert found["solved"] == {"n": 5, "all": 1, "some": 2, "none": 2}
    table = teacher_rows(replies)
    assert table["a"]["rate"]["n"] == 4 and table["a"]["rate"]["rate"] == 0.25
    assert table["a"]["verdicts"] == {"correct": 1, "unknown": 1, "wrong": 3}


# -- terms --


def test_terms_are_read_from_the_card_or_the_licence(tmp_path: Path) -> None:
    assert terms_of_folder(tmp_path).training == "unknown"
    (tmp_path / "LICENSE").write_text("  META LLAMA 3 COMMUNITY LICENSE AGREEMENT\n")
    assert terms_of_folder(tmp_path).training == "forbidden"
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# x\n")
    assert terms_of_folder(tmp_path) == terms_of_licence("mit", "README.md")
    (tmp_path / "README.md").write_text("---\nlicense: other\nlicense_name: house rules\nlicense_link: LICENSE\n---\n")
    named = terms_of_folder(tmp_path)
    assert named.licence == "house rules" and named.training == "unknown" and "LICENSE" in named.note


@pytest.mark.parametrize("card", ["---\nlicense: [\n---\n", "---\n- 1\n---\n", "---\nlicense: 3\n---\n", "no metadata"])
def test_a_card_that_says_nothing_leaves_the_terms_unknown(card: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card)
    assert terms_of_folder(tmp_path).training == "unknown"
