"""Checks the end of a chain, and the links that were followed to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from pydantic import ValidationError

from ponder.core.answers import final_answer, split_thinking
from ponder.core.types import Outcome, Problem, Record, StepVerdict, Verdict
from ponder.tasks._chains_wording import RELATIONS

_FILLERS = frozenset(
    (
        "a",
        "an",
        "and",
        "are",
        "at",
        "be",
        "by",
        "end",
        "ends",
        "finally",
        "get",
        "gets",
        "has",
        "have",
        "he",
        "in",
        "is",
        "it",
        "note",
        "now",
        "on",
        "person",
        "place",
        "she",
        "stop",
        "stops",
        "that",
        "the",
        "then",
        "there",
        "they",
        "thing",
        "to",
        "up",
        "was",
        "were",
        "will",
        "with",
        "you",
    )
)
_WORDS = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_ENTITY = r"(?:the )?[^\W\d_][\w'’-]*"
_START = re.compile(
    rf"start(?:s|ing)? (?:with|at|in|from) (?P<start>{_ENTITY})"
    r"(?:,? (?:and )?go (?:to the (?P<end>end)|(?P<count>\d{1,3})(?: \w+)?))?"
)
_NUMBERED = re.compile(r"(?:step )?(\d{1,3})[:.)] *")


class ChainFacts(Record):
    """What a problem of `chains` says."""

    relation: str
    links: list[tuple[str, str]]
    start: str
    count: int | None
    """Links to follow; None goes to the end of the chain."""


@dataclass(frozen=True, slots=True)
class ChainVerifier:
    """Right when the response names the gold entity and nothing else."""

    def __call__(self, problem: Problem, response: str) -> Verdict:
        """Compare names, whatever their article, case and surrounding filler words."""
        gold = _content(problem.answer) if isinstance(problem.answer, str) else ()
        if not gold:
            return Verdict.unknown("the gold answer is not a name")
        found = final_answer(response)
        if found.text is None:
            return Verdict.wrong(reason=found.reason)
        said = _content(found.text)
        if said == gold:
            return Verdict.correct(found.text)
        facts = _facts(problem)
        known = {_content(name) for link in facts.links for name in link} if facts else set()
        words = set(said)
        named = [entity for entity in known if words.issuperset(entity)]
        return Verdict.wrong(found.text, "hedged" if len(named) > 1 else "different")

    def steps(self, problem: Problem, response: str) -> list[StepVerdict]:
        """A verdict per line of the thinking, each judged against the links and the place reached so far."""
        lines = [line.strip() for line in split_thinking(response).thinking.splitlines() if line.strip()]
        facts = _facts(problem)
        if facts is None:
            judged = [(Outcome.UNKNOWN, "the problem states no links")] * len(lines)
        else:
            judged = list(map(_Walk(facts).judge, lines))
        return [
            StepVerdict(index=index, text=line, outcome=outcome, reason=reason)
            for index, (line, (outcome, reason)) in enumerate(zip(lines, judged, strict=True))
        ]


class _Walk:
    """Follows the lines of a worked solution."""

    def __init__(self, facts: ChainFacts) -> None:
        self.facts = facts
        self.links = {(_name(a), _name(b)) for a, b in facts.links}
        self.here = _name(facts.start)
        self.followed = 0

    def judge(self, line: str) -> tuple[Outcome, str]:
        """Whether a line holds, and why not.

        A wrong link is followed too, so that later lines are judged on their own.
        """
        text = line.lower().rstrip(" .")
        opening = _START.fullmatch(text)
        if opening:
            return self._judge_start(opening)
        numbered = _NUMBERED.match(text)
        link = _read_link(self.facts.relation, text[numbered.end() :] if numbered else text)
        if link is None:
            return Outcome.UNKNOWN, "not understood"
        fault = self._fault(link, int(numbered[1]) if numbered else None)
        self.here = link[1]
        self.followed += 1
        return (Outcome.WRONG, fault) if fault else (Outcome.CORRECT, "")

    def _judge_start(self, opening: re.Match[str]) -> tuple[Outcome, str]:
        if _name(opening["start"]) != _name(self.facts.start):
            return Outcome.WRONG, f"the start is {self.facts.start}"
        goal = int(opening["count"]) if opening["count"] else None
        if (opening["count"] or opening["end"]) and goal != self.facts.count:
            return Outcome.WRONG, "not as far as asked"
        return Outcome.CORRECT, ""

    def _fault(self, link: tuple[str, str], number: int | None) -> str:
        """What is wrong with following a link now; empty when nothing is."""
        if link not in self.links:
            return "not in the problem"
        if link[0] != self.here:
            return f"does not go on from {self.here}"
        if self.followed == self.facts.count:
            return "goes further than asked"
        return "" if number in (None, self.followed + 1) else f"this is link {self.followed + 1}"


def _facts(problem: Problem) -> ChainFacts | None:
    try:
        return ChainFacts.model_validate(problem.meta.get("facts"))
    except ValidationError:
        return None


def _content(text: str) -> tuple[str, ...]:
    """The words that carry meaning, in lower case."""
    return tuple(word for word in _WORDS.findall(text.lower()) if word not in _FILLERS)


def _name(text: str) -> str:
    return text.lower().removeprefix("the ")


@cache
def _link_patterns(relation: str) -> tuple[re.Pattern[str], ...]:
    """Every wording of a link that the problems and the worked solutions use, and arrows."""
    known = RELATIONS.get(relation)
    told = (known.line, *known.seen.statements, *known.renamed.statements) if known else ()
    patterns: list[re.Pattern[str]] = []
    for template in (*told, "{a} -> {b}", "{a} → {b}", "{a} to {b}"):
        text = re.escape(template.lower().rstrip("."))
        for role in "ab":
            text = text.replace(rf"\{{{role}\}}", f"(?P<{role}>{_ENTITY})")
        patterns.append(re.compile(text))
    return tuple(patterns)


def _read_link(relation: str, text: str) -> tuple[str, str] | None:
    """(From, to) of a line that states a link, whichever end it names first."""
    for pattern in _link_patterns(relation):
        match = pattern.fullmatch(text)
        if match:
            return _name(match["a"]), _name(match["b"])
    return None
