"""Checks a count, and the calculations that lead to it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ponder.core.answers import final_answer
from ponder.core.types import Problem, StepVerdict, Verdict

_NUMBER = r"[-−]?(?:\d{1,3}(?:,\d{3}){1,4}|\d{1,15})(?:\.0+)?"
_NUMBERS = re.compile(rf"(?<![\w.,])({_NUMBER})(?![\w]|[.,]\d)", re.ASCII)
_STATEMENT = re.compile(
    rf"(?:(?P<who>\w+) (?:(?:now|then|finally) )?(?:has|have|owns|is|are) (?:now )?)?(?P<number>{_NUMBER})"
    r"(?: (?P<unit>[a-z]+))?(?: (?:left|now|in total|altogether|in all|in the end|at the end))*",
    re.ASCII | re.IGNORECASE,
)
_IMPERSONAL = frozenset({"he", "she", "they", "it", "there", "answer", "result", "total", "that"})


@dataclass(frozen=True, slots=True)
class CountVerifier:
    """Right when the response's final count equals the gold one."""

    def __call__(self, problem: Problem, response: str) -> Verdict:
        """Compare counts; a unit must be the thing that was asked for, a person the one that was asked about."""
        if type(problem.answer) is not int:
            return Verdict.unknown("the gold answer is not a whole number")
        found = final_answer(response)
        if found.text is None:
            return Verdict.wrong(reason=found.reason)
        text = _plain(found.text)
        statement = _STATEMENT.fullmatch(text)
        if statement is None:
            return Verdict.wrong(found.text, _why_unread(text))
        value = _value(statement["number"])
        if not self._fits(problem, statement["who"], statement["unit"]):
            return Verdict.wrong(found.text, "about something else")
        return Verdict.correct(str(value)) if value == problem.answer else Verdict.wrong(str(value))

    def _fits(self, problem: Problem, who: str | None, unit: str | None) -> bool:
        facts = problem.meta.get("facts")
        if not isinstance(facts, dict):
            return unit is None
        things = facts.get("things")
        unit_fits = unit is None or (isinstance(things, list) and unit.lower() in things)
        return unit_fits and (who is None or who.lower() in _IMPERSONAL | {str(facts.get("person")).lower()})


def _plain(text: str) -> str:
    """The answer without emphasis, dollar signs of mathematics, full stop and, of an equation, the left side."""
    text = text.strip().strip("*_`").strip()
    if len(text) > 2 and text[0] == text[-1] == "$":
        text = text[1:-1]
    text = text.strip().rstrip(".!").strip("*_` ")
    left, equals, right = text.rpartition("=")
    return right.strip() if equals and re.fullmatch(r"[\d\s.,+*/×÷−-]*", left, re.ASCII) else text


def _value(number: str) -> int:
    return int(number.replace("−", "-").replace(",", "").partition(".")[0])


def _why_unread(text: str) -> str:
    values = {_value(number) for number in _NUMBERS.findall(text)}
    return "hedged" if len(values) > 1 else "not a count"
