"""Recall: the answer and every line are read off the text, and a swapped line is found."""

from __future__ import annotations

import re

import pytest

from ponder.core.types import Outcome
from ponder.tasks._procedural import SPLITS, worked_response
from ponder.tasks.recall import Recall, RecallVerifier

SKILL = Recall(max_steps=8)
VERIFIER = RecallVerifier()


@pytest.mark.parametrize("split", SPLITS)
def test_every_pair_is_told_once_and_asked_for_once(split: str) -> None:
    for problem in SKILL.problems(split, 60, seed=2):
        facts = problem.meta["facts"]
        partner = dict(facts["pairs"])
        assert len(partner) == len(facts["pairs"]) >= len(set(facts["asked"])) == problem.meta["steps"]
        assert problem.answer == partner[facts["asked"][-1]]
        told = re.split(r"[.?]\s", problem.prompt.lower() + " ")
        for a, b in facts["pairs"]:
            assert sum(a.lower() in text and b.lower() in text for text in told) >= 1


def test_lines_out_of_order_or_with_another_partner_are_wrong() -> None:
    for problem in SKILL.problems("test", 40, seed=2):
        lines = [verdict.text for verdict in VERIFIER.steps(problem, problem.meta["solution"])]
        if len(lines) > 1:
            turned = VERIFIER.steps(problem, worked_response(lines[::-1], ""))
            assert turned[0].outcome is Outcome.WRONG
        partner = dict(problem.meta["facts"]["pairs"])
        other = next(b for b in [*partner.values(), "nothing"] if b != problem.answer)
        bad = [*lines[:-1], lines[-1].replace(str(problem.answer), other)]
        assert [v.outcome for v in VERIFIER.steps(problem, worked_response(bad, ""))].index(Outcome.WRONG) == (
            len(lines) - 1
        )


def test_another_word_is_wrong_and_more_lines_than_asked_are_too() -> None:
    problem = next(SKILL.problems("test", 1, seed=2))
    assert VERIFIER(problem, "The answer is nothing.").outcome is Outcome.WRONG
    lines = [verdict.text for verdict in VERIFIER.steps(problem, problem.meta["solution"])]
    assert VERIFIER.steps(problem, worked_response([*lines, lines[0]], ""))[-1].outcome is Outcome.WRONG
