"""What the page on thinking counts: votes that end early, answers that end in a loop."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.thinking import count_loops, count_votes, vote, vote_rows  # noqa: E402
from ponder.core.types import Completion, Finish, Problem, Trace, Usage, Verdict  # noqa: E402


def trace(answer: str, tokens: int = 10, problem: str = "p", **completion: object) -> Trace:
    text = f"<think>\nso\n</think>\n\nThe answer is {answer}."
    return Trace(
        problem=Problem(id=problem, task="t", prompt="?", answer="1"),
        completion=Completion.model_validate(
            {"text": text, "finish": Finish.STOP, "usage": Usage(completion_tokens=tokens), **completion}
        ),
        verdict=Verdict.correct(answer) if answer == "1" else Verdict.wrong(answer),
    )


def test_a_vote_ends_when_nobody_can_overtake() -> None:
    found = vote([trace("1"), trace("1"), trace("1"), trace("2"), trace("2")])
    assert found["drawn"] == 3 and found["votes"] == 5
    assert found["single"] and found["majority"] and found["early"]


def test_an_open_vote_is_drawn_to_the_end() -> None:
    found = vote([trace("2"), trace("1"), trace("2"), trace("1"), trace("1")])
    assert found["drawn"] == 5 and not found["single"] and found["majority"] and found["early"]


def test_side_by_side_the_longest_answers_are_left() -> None:
    found = vote([trace("1", 100), trace("1", 10), trace("1", 20), trace("1", 30), trace("2", 40)])
    assert found["tokens"] == 200 and found["together"] == 30 + 10 + 20 + 30 + 30


@pytest.mark.parametrize("answers", ["11111111", "12121212", "12345678", "22211111", "11222333"])
def test_ending_early_changes_no_told_answer(answers: str) -> None:
    found = vote([trace(answer, 10 + place) for place, answer in enumerate(answers)])
    assert found["early"] == found["majority"]


def test_votes_are_counted_by_problem_and_sample() -> None:
    rows = vote_rows(
        [(1, trace("1")), (0, trace("2")), (2, trace("1")), (0, trace("1", problem="q")), (1, trace("1", problem="q"))]
    )
    assert [row["single"] for row in rows] == [False, True] and [row["votes"] for row in rows] == [3, 2]
    counted = count_votes(rows)
    assert counted["problems"] == 2 and counted["single"] == 0.5 and counted["majority"] == 1.0
    assert counted["gain"][0] == 0.5 and counted["not_drawn"] == 0.0


def test_loops_are_cut_answers_that_repeat_themselves() -> None:
    loop = trace("x", text="<think>\n" + "so it is 4 , wait , " * 9 + "so i", finish=Finish.LENGTH)
    long = trace("x", text="<think>\n" + " ".join(map(str, range(90))), finish=Finish.LENGTH)
    counted = count_loops([loop, long, trace("1", forced=(4,)), trace("1")])
    assert counted["cut"] == 0.5 and counted["looping"] == 0.25
    assert counted["steered"] == 0.25 and counted["right_when_steered"] == 1 and counted["right"] == 0.5
