"""Recall: the answer and every line are read off the text, and a swapped line is found."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from ponder.core.types import Outcome
from ponder.tasks._procedural import SPLITS, worked_response
from ponder.tasks._recall_lessons import LESSONS
from ponder.tasks._words import HELD_OUT, SEEN, WordBank
from ponder.tasks.recall import Recall, RecallVerifier

SKILL = Recall(max_steps=8)
VERIFIER = RecallVerifier()


def nouns(bank: WordBank) -> set[str]:
    """Every word of a bank that a statement can be about, in lower case."""
    phrases = (*bank.names, *bank.goods, *bank.traits, *bank.places)
    return {phrase.lower().removeprefix("the ") for phrase in phrases}


@pytest.mark.parametrize("lesson", LESSONS)
@pytest.mark.parametrize("split", SPLITS)
def test_what_every_line_finds_is_told(split: str, lesson: str) -> None:
    for problem in Recall(max_steps=8, lessons=(lesson,)).problems(split, 40, seed=2):
        lines = problem.meta["facts"]["lines"]
        assert len(set(lines)) == problem.meta["steps"]
        assert str(problem.answer).lower() in lines[-1].lower()
        told, said = (set(re.findall(r"[a-z]+", text.lower())) for text in (problem.prompt, " ".join(lines)))
        about = said & nouns(HELD_OUT if split == "renamed" else SEEN)
        assert len(about) >= len(lines) + (lesson != "numbers") and about <= told


def statement(number: str, prompt: str) -> set[str]:
    """Words of the statement that has a number, before or behind it."""
    found = re.search(rf"([^.\n]+) \({number}\)\.|(?:^|[\s-]){number}\. ([^.]+)\.", prompt)
    assert found, (number, prompt)
    return set((found[1] or found[2]).split())


def test_numbers_of_statements_are_those_of_the_text() -> None:
    for problem in Recall(max_steps=6, lessons=("orders", "numbers")).problems("test", 80, seed=2):
        for line in problem.meta["facts"]["lines"]:
            clause, _, number = line.rstrip(")").partition(" (")
            assert {clause.split()[0], clause.split()[-1]} <= statement(number, problem.prompt), (line, problem.prompt)


def test_lines_out_of_order_or_with_another_find_are_wrong() -> None:
    for problem in SKILL.problems("test", 40, seed=2):
        lines = [verdict.text for verdict in VERIFIER.steps(problem, problem.meta["solution"])]
        if len(lines) > 1:
            turned = VERIFIER.steps(problem, worked_response(lines[::-1], ""))
            assert turned[0].outcome is Outcome.WRONG
        bad = [*lines[:-1], lines[-1].replace(str(problem.answer), "nothing")]
        outcomes = [verdict.outcome for verdict in VERIFIER.steps(problem, worked_response(bad, ""))]
        assert outcomes.index(Outcome.WRONG) == len(lines) - 1


def test_another_word_is_wrong_and_more_lines_than_asked_are_too() -> None:
    problem = next(SKILL.problems("test", 1, seed=2))
    assert VERIFIER(problem, "The answer is nothing.").outcome is Outcome.WRONG
    lines = [verdict.text for verdict in VERIFIER.steps(problem, problem.meta["solution"])]
    assert VERIFIER.steps(problem, worked_response([*lines, lines[0]], ""))[-1].outcome is Outcome.WRONG


@pytest.mark.parametrize("lessons", [(), ("letters",)])
def test_lessons_that_do_not_exist_are_refused(lessons: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        Recall(lessons=lessons)


@pytest.mark.parametrize("lesson", LESSONS)
@pytest.mark.parametrize("split", SPLITS)
def test_every_lesson_has_words_for_the_longest_problems(split: str, lesson: str) -> None:
    low = 1 if split == "longer" else 16
    task = Recall(min_steps=low, max_steps=15 if split == "longer" else 16, lessons=(lesson,))
    problems = list(task.problems(split, 40, seed=5))
    assert len(problems) == 40 and all(str(p.meta["canonical"]).startswith(lesson) for p in problems)
