from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ponder.core.plugins import load_plugin
from ponder.core.types import Completion, Finish, Messages, Outcome, Problem, Sampling, Trace, Verdict
from ponder.learn.rollout import judge, rollout


def problem(answer: Any = "4", task: str = "sums") -> Problem:
    return Problem(id=str(answer), task=task, prompt=f"what is {answer}?", answer=answer)


def contains(problem: Problem, response: str) -> Verdict:
    if problem.answer is None:
        return Verdict.unknown("ungradable gold")
    return Verdict.correct(str(problem.answer)) if str(problem.answer) in response else Verdict.wrong()


def crash(*_: Any) -> Any:
    raise RuntimeError("the text of the problem must not travel with this")


def never_ends(_: Trace) -> float:
    return math.inf


class Echo:
    """Answers with the prompt, and says which sample it is."""

    name = "echo"

    def generate(
        self, prompts: Sequence[Messages], samples: int, sampling: Sampling, watch: Any = None
    ) -> list[list[Completion]]:
        return [[Completion(text=f"{p[-1].content} #{i}") for i in range(samples)] for p in prompts]


def test_a_verdict_and_its_rewards() -> None:
    rewards = {"correct": (load_plugin("rewards", "correct"), 2.0), "half": (lambda _: 0.5, -1.0)}
    right = judge(problem(), Completion(text="it is 4"), contains, rewards, sampler="me")
    assert right.parts == {"correct": 1.0, "half": 0.5, "reward": 1.5} and right.reward == 1.5
    assert right.sampler == "me" and right.verdict.answer == "4"
    plain = judge(problem(), Completion(text="it is 5"), contains, {})
    assert plain.parts == {} and plain.reward == 0.0


def test_a_truncated_completion_is_wrong_even_when_it_contains_the_answer() -> None:
    cut = judge(problem(), Completion(text="4", finish=Finish.LENGTH), contains, {})
    assert (cut.verdict.outcome, cut.verdict.reason, cut.reward) == (Outcome.WRONG, "truncated", 0.0)
    assert cut.verdict.answer is None
    ungradable = judge(problem(None), Completion(text="4", finish=Finish.LENGTH), contains, {})
    assert ungradable.verdict.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("verifier", "reason"),
    [
        (crash, "the verifier raised RuntimeError"),
        (lambda *_: True, "the verifier returned bool"),
        (
            lambda *_: Verdict.model_construct(outcome=Outcome.CORRECT, reward=math.nan, answer=None),
            "not a finite",
        ),
        (lambda *_: Verdict(outcome=Outcome.CORRECT), "not a finite"),
    ],
)
def test_a_verifier_that_fails_decides_nothing(verifier: Any, reason: str) -> None:
    found = judge(problem(), Completion(text="4"), verifier, {"correct": (crash, 1.0)})
    assert found.verdict.outcome is Outcome.UNKNOWN and reason in found.verdict.reason
    assert found.reward is None and found.parts == {}


@pytest.mark.parametrize(
    "reward", [crash, never_ends, lambda _: None, lambda _: "1", lambda _: True, lambda _: math.nan]
)
def test_a_reward_that_fails_makes_the_trace_unknown(reward: Any) -> None:
    found = judge(problem(), Completion(text="4"), contains, {"odd": (reward, 1.0)})
    assert found.verdict.outcome is Outcome.UNKNOWN and found.verdict.reason.startswith("reward odd: ")
    assert found.reward is None and "travel" not in found.verdict.reason


def test_numpy_numbers_are_numbers() -> None:
    found = judge(problem(), Completion(text="4"), contains, {"np": (lambda _: np.float32(0.5), 2.0)})
    assert found.reward == 1.0


def test_a_sampler_that_failed_was_not_wrong() -> None:
    found = judge(problem(), Completion(text="", finish=Finish.ERROR), contains, {})
    assert found.verdict.outcome is Outcome.UNKNOWN


def test_an_interrupt_is_not_swallowed() -> None:
    def stop(*_: Any) -> Verdict:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(problem(), Completion(text="4"), stop, {})


def test_groups_come_in_the_order_of_the_problems_with_their_own_verifier() -> None:
    problems = [problem("4"), problem("7", task="odd"), problem("9")]
    groups = rollout(Echo(), problems, {"sums": contains, "odd": crash}, {}, 3, Sampling())
    assert [g.problem.id for g in groups] == ["4", "7", "9"]
    assert [t.completion.text[-2:] for t in groups[0].traces] == ["#0", "#1", "#2"]
    outcomes = [{t.verdict.outcome for t in g.traces} for g in groups]
    assert outcomes == [{Outcome.CORRECT}, {Outcome.UNKNOWN}, {Outcome.CORRECT}]
    assert groups[0].traces[0].sampler == "echo"
