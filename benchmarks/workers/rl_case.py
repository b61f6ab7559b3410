"""The same problems and the same reward for every trainer that is measured."""

from __future__ import annotations

from typing import Any

from ponder.core.chat import Chat
from ponder.core.types import Completion, Finish, Problem, Trace
from ponder.learn.rollout import judge
from ponder.stages._tasks import draw_problems, open_tasks, verifiers_of

SEED = 0


def problems_of(case: dict[str, Any]) -> list[Problem]:
    """The problems of all steps, in the order in which they are used."""
    tasks = open_tasks([{"use": "skills", "max_steps": 4}])
    return draw_problems(tasks, "train", case["steps"] * case["problems"], SEED)


class Rewarder:
    """Pays a completion: the task's verdict, or, for random weights, whether its letters are many."""

    def __init__(self, case: dict[str, Any]) -> None:
        """`case["fixed"]` chooses the second: then every group has rewards that differ."""
        self._fixed = case["fixed"]
        self._verifiers = verifiers_of(open_tasks(["skills"]))

    def __call__(self, problem: Problem, tokens: list[int], chat: Chat) -> float:
        """The reward of sampled tokens, which end with EOS unless they were cut."""
        text = chat.decode(tokens)
        if self._fixed:
            return letters(text)
        finish = Finish.STOP if tokens and tokens[-1] in chat.stop_ids else Finish.LENGTH
        trace = judge(problem, Completion(text=text, finish=finish), self._verifiers[problem.task], {})
        return trace.verdict.reward or 0.0


def letters(text: str) -> float:
    """Whether an even number of letters stands there."""
    return float(sum(map(str.isalpha, text)) % 2)


class Letters:
    """The same as a reward of Ponder's."""

    def __call__(self, trace: Trace) -> float:
        """See `letters`."""
        return letters(trace.completion.text)
