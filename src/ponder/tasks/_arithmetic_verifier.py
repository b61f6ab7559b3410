"""Checks a count, and the calculations that lead to it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import ValidationError

from ponder.core.answers import final_answer, split_thinking
from ponder.core.types import Outcome, Problem, Record, StepVerdict, Verdict
from ponder.tasks._arithmetic_events import Event, Move, moves_of
from ponder.tasks._arithmetic_wording import RENAMED_WORDING, SEEN_WORDING

_NUMBER = r"[-−]?(?:\d{1,3}(?:,\d{3}){1,4}|\d{1,15})(?:\.0{1,9})?"
_NUMBERS = re.compile(rf"(?<![\w.,])({_NUMBER})(?![\w]|[.,]\d)", re.ASCII)
_STATEMENT = re.compile(
    rf"(?:(?P<who>\w+) (?:(?:now|then|finally|still) )?(?:has|have|owns|is|are|starts with) (?:now )?)?"
    rf"(?P<number>{_NUMBER})(?: (?P<unit>[a-z]+))?"
    r"(?: (?:left|now|in total|altogether|in all|in the end|at the end|at first))?",
    re.ASCII | re.IGNORECASE,
)
_EQUATION = re.compile(r"(?<![\d.])(\d{1,9}) *([-+*/×÷−]|x) *(\d{1,9}) *= *(\d{1,9})(?![\d.]*\d)", re.ASCII)
_OPERATORS = {"×": "*", "x": "*", "÷": "/", "−": "-"}
_IMPERSONAL = frozenset({"he", "she", "they", "it", "there", "answer", "result", "total", "that"})


def _meanings() -> dict[str, tuple[str, int | None]]:
    """Words that say which calculation an event is: (operator, operand or None for any)."""
    known: dict[str, tuple[str, int | None]] = {}
    for wording in (SEEN_WORDING, RENAMED_WORDING):
        known |= {verb: ("+", None) for verb, _ in wording.gains}
        known |= {verb: ("-", None) for verb, _ in wording.losses}
    return known | {
        "twice": ("*", 2),
        "doubles": ("*", 2),
        "three times": ("*", 3),
        "triples": ("*", 3),
        "half": ("/", 2),
    }


_MEANINGS = _meanings()
_MEANING_WORD = re.compile(rf"\b(?:{'|'.join(_MEANINGS)})\b")


class ArithmeticFacts(Record):
    """What a problem of `arithmetic` says."""

    person: str
    things: tuple[str, str]
    """Singular and plural of what is counted."""
    start: int
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class CountVerifier:
    """Right when the response's final count equals the gold one."""

    def __call__(self, problem: Problem, response: str) -> Verdict:
        """Compare counts; a unit must be the thing that was asked for, a person the one in question."""
        if type(problem.answer) is not int:
            return Verdict.unknown("the gold answer is not a whole number")
        found = final_answer(response)
        if found.text is None:
            return Verdict.wrong(reason=found.reason)
        text = _plain(found.text)
        statement = _STATEMENT.fullmatch(text)
        if statement is None:
            return Verdict.wrong(found.text, _why_unread(text))
        if not _is_about(_facts(problem), statement["who"], statement["unit"]):
            return Verdict.wrong(found.text, "about something else")
        value = _value(statement["number"])
        return Verdict.correct(str(value)) if value == problem.answer else Verdict.wrong(str(value))

    def steps(self, problem: Problem, response: str) -> list[StepVerdict]:
        """A verdict per line of the thinking, each judged against the events and the count so far."""
        lines = [line.strip() for line in split_thinking(response).thinking.splitlines() if line.strip()]
        facts = _facts(problem)
        if facts is None:
            judged = [(Outcome.UNKNOWN, "the problem states no events")] * len(lines)
        else:
            judged = list(map(_Ledger(facts).judge, lines))
        return [
            StepVerdict(index=index, text=line, outcome=outcome, reason=reason)
            for index, (line, (outcome, reason)) in enumerate(zip(lines, judged, strict=True))
        ]


@dataclass(frozen=True, slots=True)
class _Equation:
    left: int
    operator: str
    right: int
    result: int

    @property
    def holds(self) -> bool:
        sides = {
            "+": (self.left + self.right, self.result),
            "-": (self.left - self.right, self.result),
            "*": (self.left * self.right, self.result),
            "/": (self.left, self.result * self.right),
        }
        computed, claimed = sides[self.operator]
        return computed == claimed and not (self.operator == "/" and self.right == 0)

    def is_of(self, move: Move, count: int) -> bool:
        """Whether this is that calculation, made from `count`; sums and products may be turned round."""
        expected = (count if move.left is None else move.left, move.operand)
        said = (self.left, self.right)
        turned = self.operator in "+*" and said[::-1] == expected
        return self.operator == move.operator and (said == expected or turned)


class _Ledger:
    """Follows the lines of a worked solution."""

    def __init__(self, facts: ArithmeticFacts) -> None:
        self.facts = facts
        self.count = facts.start
        self.open = [move for event in facts.events for move in moves_of(event)]

    def judge(self, line: str) -> tuple[Outcome, str]:
        """Whether a line holds, and why not.

        A wrong result is carried on, so that later lines are judged on their own.
        """
        text = line.rstrip(" .")
        statement = _STATEMENT.fullmatch(text)
        if statement:
            fault = self._statement_fault(statement)
            return (Outcome.WRONG, fault) if fault else (Outcome.CORRECT, "")
        found = list(_EQUATION.finditer(text))
        if not found or len(found) != text.count("="):
            return Outcome.UNKNOWN, "not understood"
        begin, fault = 0, ""
        for match in found:
            operator = _OPERATORS.get(match[2], match[2])
            equation = _Equation(int(match[1]), operator, int(match[3]), int(match[4]))
            fault = fault or self._enter(equation, text[begin : match.start()])
            begin = match.end()
        return (Outcome.WRONG, fault) if fault else (Outcome.CORRECT, "")

    def _statement_fault(self, statement: re.Match[str]) -> str:
        if not _is_about(self.facts, statement["who"], statement["unit"]):
            return "about something else"
        return "" if _value(statement["number"]) == self.count else f"the count is {self.count} here"

    def _enter(self, equation: _Equation, label: str) -> str:
        """Make a calculation; returns what is wrong with it, empty when nothing is."""
        fits = [move for move in self._ready() if equation.is_of(move, self.count)]
        said = [move for move in fits if _label_fits(label, move)]
        move = next(iter(said or fits or self.open), None)
        count = self.count
        if move is not None:
            self.open.remove(move)
            self.count = equation.result if move.left is None else count
        if not equation.holds:
            return f"{equation.left} {equation.operator} {equation.right} is not {equation.result}"
        if said:
            return ""
        if fits:
            return "the words do not fit the calculation"
        return "not in the problem" if move is None else f"the next calculation is {move.line(count)}"

    def _ready(self) -> list[Move]:
        """Calculations that may come next: additions in a row in any order, scaling only in its turn."""
        ready: list[Move] = []
        for move in self.open:
            if move.scales and any(earlier.left is None for earlier in ready):
                break
            ready.append(move)
            if move.scales:
                break
        return ready


def _label_fits(label: str, move: Move) -> bool:
    """Whether the words and numbers before a calculation, if any, are those of the event."""
    numbers = [int(number) for number in re.findall(r"\b\d{1,9}\b", label, re.ASCII)]
    allowed = [[], [move.operand]] if move.left is None else [[], [move.left, move.operand]]
    if numbers not in allowed:
        return False
    said = [_MEANINGS[word] for word in _MEANING_WORD.findall(label.lower())]
    return all(operator == move.operator and operand in (None, move.operand) for operator, operand in said)


def _facts(problem: Problem) -> ArithmeticFacts | None:
    try:
        return ArithmeticFacts.model_validate(problem.meta.get("facts"))
    except ValidationError:
        return None


def _is_about(facts: ArithmeticFacts | None, who: str | None, unit: str | None) -> bool:
    """Whether a statement speaks of the right person and thing, as far as it names them."""
    if facts is None:
        return unit is None and (who is None or who.lower() in _IMPERSONAL)
    people = _IMPERSONAL | {facts.person.lower()}
    return (unit is None or unit.lower() in facts.things) and (who is None or who.lower() in people)


def _plain(text: str) -> str:
    """The answer without emphasis, signs of mathematics and full stop; of an equation, the right side."""
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
