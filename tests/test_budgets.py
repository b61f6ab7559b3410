"""Thinking under control: one rule token by token, a curve of accuracy, and a budget that answers in time."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ponder.cli import app
from ponder.core.errors import ConfigurationError
from ponder.core.loops import repeats
from ponder.core.types import Completion, Message, Sampling
from ponder.engines._steering import Manners, Steering, is_followed, is_steered
from ponder.engines.local import LocalSampler
from ponder.measure.budgets import alone_rows, budget_within, curve_rows, sides_of
from ponder.models.load import LoadedModel, load_model
from ponder.serve.budgets import budget_of_curve, seconds_of
from ponder.stages._tasks import draw_problems, open_tasks

OPEN, CLOSE = 1, 2
MANNERS = Manners(OPEN, CLOSE, False, wait=(7, 8), commit=(9,))


def _run(sampling: Sampling, drawn: list[int], manners: Manners = MANNERS) -> tuple[list[int], list[int]]:
    """Tokens and forced places when a model draws `drawn`, a token for each place."""
    steering = Steering(sampling, manners)
    taken = [steering.take(token) for token in drawn]
    return [token for token, _ in taken], [place for place, (_, forced) in enumerate(taken) if forced]


class TestSteering:
    def test_a_budget_closes_and_commits(self) -> None:
        sampling = Sampling(max_thinking_tokens=3, commit="x")
        tokens, forced = _run(sampling, [OPEN, 5, 5, 5, 5, 5, 5])
        assert tokens == [OPEN, 5, 5, 5, CLOSE, 9, 5] and forced == [4, 5]

    def test_a_thought_of_no_tokens(self) -> None:
        assert _run(Sampling(max_thinking_tokens=0), [OPEN, 5, 6]) == ([OPEN, CLOSE, 9], [1, 2])

    def test_it_is_sent_on_as_often_as_asked(self) -> None:
        tokens, forced = _run(Sampling(waits=1), [OPEN, 5, CLOSE, 5, 5, CLOSE, 6])
        assert tokens == [OPEN, 5, 7, 8, 5, CLOSE, 6] and forced == [2, 3]

    def test_it_is_not_sent_on_beyond_its_budget(self) -> None:
        tokens, _ = _run(Sampling(waits=5, max_thinking_tokens=3), [OPEN, 5, CLOSE, 6])
        assert tokens == [OPEN, 5, CLOSE, 6]

    def test_a_loop_is_broken(self) -> None:
        tokens, forced = _run(Sampling(break_loops=True), [OPEN] + [3, 4] * 30)
        assert CLOSE in tokens and forced[0] == tokens.index(CLOSE)
        assert tokens.index(CLOSE) < 30

    def test_a_prompt_that_opens_the_thought(self) -> None:
        opened = Manners(OPEN, CLOSE, True, (), ())
        assert _run(Sampling(max_thinking_tokens=2), [5, 5, 5], opened) == ([5, 5, CLOSE], [2])

    @settings(max_examples=200, deadline=None)
    @given(
        drawn=st.lists(st.integers(1, 6), max_size=120),
        limit=st.none() | st.integers(0, 20),
        waits=st.integers(0, 3),
        loops=st.booleans(),
    )
    def test_it_keeps_what_was_promised(self, drawn: list[int], limit: int | None, waits: int, loops: bool) -> None:
        sampling = Sampling(max_thinking_tokens=limit, waits=waits, break_loops=loops)
        steering = Steering(sampling, MANNERS)
        inside, length, waited = False, 0, 0
        for token in drawn:
            ahead, due = steering.ahead, steering.due
            assert due == (ahead == 0)
            taken, forced = steering.take(token)
            assert forced or taken == token
            if due:
                assert forced
            waited += forced and taken == 7
            if inside and taken != CLOSE:
                length += 1
            inside = (inside or taken == OPEN) and taken != CLOSE
        assert limit is None or length <= limit
        assert waited <= waits

    @pytest.mark.parametrize("chunk", [1, 3, 7])
    def test_running_ahead_gives_the_same_tokens(self, chunk: int) -> None:
        """An engine that draws several tokens in one go and looks at them one by one."""
        sampling = Sampling(max_thinking_tokens=20, waits=2, break_loops=True)
        script = [OPEN, 5, 6, 5, CLOSE, 4, 4, 3, CLOSE, 6, 6, CLOSE, 5, 5]
        whole, _ = _run(sampling, script)
        steering, found, place = Steering(sampling, MANNERS), [], 0
        while len(found) < len(script):
            for token in script[place : place + chunk]:
                taken, forced = steering.take(token)
                found.append(taken)
                place += 1
                if forced:
                    break
        assert found[: len(whole)] == whole

    def test_what_counts_as_steered(self) -> None:
        assert not is_steered(Sampling(commit="x")) and not is_followed(Sampling(max_thinking_tokens=3))
        assert is_followed(Sampling(max_thinking_tokens=3, commit="x")) and is_followed(Sampling(waits=1))
        with pytest.raises(ValueError, match="not both"):
            Sampling(commit="x", json_schema="{}")


@given(st.lists(st.integers(), min_size=1, max_size=300, unique=True))
def test_different_items_are_no_loop(items: list[int]) -> None:
    assert not repeats(items)


@given(st.lists(st.integers(0, 5), max_size=20), st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_a_block_again_and_again_is_a_loop(before: list[int], block: list[int]) -> None:
    assert repeats(before + block * max(3, -(-24 // len(block)) + 1))


@cache
def teacher() -> LoadedModel:
    return load_model("pocket-teacher")


def _answers(sampling: Sampling, count: int = 12, samples: int = 1) -> list[list[Completion]]:
    problems = draw_problems(open_tasks(["skills"]), "test", count, 0)
    loaded = teacher()
    return LocalSampler(loaded.model, loaded.chat).generate([p.messages for p in problems], samples, sampling)


class TestLocalEngine:
    def test_it_follows_the_rule(self) -> None:
        """What the engine drew, given to the rule again, is left as it is."""
        chat = teacher().chat
        sampling = Sampling(temperature=0.0, max_new_tokens=200, waits=1, max_thinking_tokens=60, commit="It is")
        assert chat.think_open is not None and chat.think_close is not None
        for (one,) in _answers(sampling):
            assert one.text.count("Wait") <= 1
            assert one.forced == tuple(sorted(one.forced))
            assert all((one.logprobs or ())[place] == 0.0 for place in one.forced)
            assert one.usage.thinking_tokens <= 62

    def test_a_wait_is_forced_and_the_thought_goes_on(self) -> None:
        (one,) = _answers(Sampling(temperature=0.0, max_new_tokens=200, waits=1), count=1)[0]
        (plain,) = _answers(Sampling(temperature=0.0, max_new_tokens=200), count=1)[0]
        assert "Wait" in one.text and "Wait" not in plain.text
        assert one.usage.thinking_tokens > plain.usage.thinking_tokens
        assert one.tokens is not None and plain.tokens is not None
        begin = one.forced[0]
        assert one.tokens[:begin] == plain.tokens[:begin] and plain.tokens[begin] == teacher().chat.think_close

    def test_an_answer_begins_as_committed(self) -> None:
        sampling = Sampling(temperature=0.0, max_new_tokens=99, max_thinking_tokens=8, commit="The answer is")
        for (one,) in _answers(sampling):
            assert "</think>\n\nThe answer is" in one.text

    def test_company_changes_nothing(self) -> None:
        sampling = Sampling(temperature=0.0, max_new_tokens=120, waits=1, break_loops=True)
        alone = [_answers(sampling, count)[-1][0].tokens for count in (1, 2, 5)]
        together = _answers(sampling, 5)
        assert alone == [together[place][0].tokens for place in (0, 1, 4)]

    def test_samples_are_steered_apart(self) -> None:
        groups = _answers(Sampling(temperature=1.0, max_new_tokens=120, waits=1, seed=3), 3, samples=4)
        assert all(one.text.count("Wait") <= 1 for group in groups for one in group)

    def test_a_model_without_tags_refuses(self) -> None:
        loaded = teacher()
        chat = type(loaded.chat)(loaded.chat.tokenizer)
        chat.think_close = None
        with pytest.raises(ConfigurationError, match="single tokens"):
            LocalSampler(loaded.model, chat).generate([(Message(role="user", content="x"),)], 1, Sampling(waits=1))


def _row(label: str, accuracy: float, tokens: float, split: str = "test") -> dict[str, object]:
    return {
        "model": label, "split": split, "task": None, "steps": None, "accuracy": accuracy, "low": accuracy - 0.1,
        "high": accuracy + 0.1, "n": 100, "thinking_tokens": tokens, "truncated": 0.0,
    }  # fmt: skip


class TestChoice:
    sides = sides_of(["m"], [0, 32])
    curve = curve_rows([_row("m", 0.8, 50.0), _row("m:0", 0.2, 2.0), _row("m:32", 0.8, 30.0)], sides)
    alone = alone_rows({"m": [2.0] * 10, "m:0": [0.1] * 10, "m:32": [1.0] * 10})

    def test_the_curve_rises_by_budget(self) -> None:
        assert [row["budget"] for row in self.curve] == [0, 32, None]

    @pytest.mark.parametrize(("seconds", "budget"), [(5.0, 32), (1.5, 32), (0.5, 0)])
    def test_the_most_accurate_in_time_and_of_equals_the_smallest(self, seconds: float, budget: int) -> None:
        assert budget_within(self.curve, self.alone, seconds).budget == budget

    def test_nothing_in_time_or_nothing_known_is_an_error(self) -> None:
        with pytest.raises(ConfigurationError, match="no budget answers within"):
            budget_within(self.curve, self.alone, 0.01)
        with pytest.raises(ConfigurationError, match="no curve"):
            budget_within([], [], 1.0)
        two = self.curve + [{**row, "model": "other"} for row in self.curve]
        with pytest.raises(ConfigurationError, match="several models"):
            budget_within(two, self.alone, 1.0)

    @pytest.mark.parametrize(("text", "seconds"), [("8s", 8.0), ("8", 8.0), ("500ms", 0.5), ("2 min", 120.0)])
    def test_times_are_read(self, text: str, seconds: float) -> None:
        assert seconds_of(text) == seconds

    @pytest.mark.parametrize("text", ["", "0s", "soon", "-1s", "8 h"])
    def test_what_is_no_time_is_refused(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match="no time"):
            seconds_of(text)


def test_a_curve_is_measured_shown_and_chosen_from(tmp_path: Path) -> None:
    run = CliRunner().invoke
    arguments = ["evaluate", "--model", "pocket-teacher", "--task", "skills", "--limit", "2", "--budgets", "0,16"]
    done = run(app, [*arguments, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "evaluate" / "results.json").read_text())["curve"]
    assert [row["budget"] for row in found] == [0, 16, None] and all(row["n"] == 12 for row in found)
    assert found[0]["thinking_tokens"] < found[1]["thinking_tokens"] < found[2]["thinking_tokens"]
    timing = json.loads((tmp_path / "evaluate" / "timing.json").read_text())["alone"]
    assert {row["label"] for row in timing} == {"pocket-teacher", "pocket-teacher:16", "pocket-teacher:0"}
    assert budget_of_curve(tmp_path, 1000.0).n == 12
    assert run(app, ["report", str(tmp_path)]).exit_code == 0
    assert "Accuracy by time" in (tmp_path / "report" / "report.html").read_text()
    again = run(app, [*arguments, "--out", str(tmp_path)])
    assert again.exit_code == 0 and "done before" in again.output
