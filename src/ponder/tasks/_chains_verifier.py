"""Checks the end of a chain, and the links that were followed to it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ponder.core.answers import final_answer
from ponder.core.types import Problem, Verdict

_FILLERS = frozenset(
    "a an and are at be by end ends finally get gets has have he in is it note now on person place she stop stops that "
    "the then there they thing to up was were will with you".split()
)
_WORDS = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class ChainVerifier:
    """Right when the response names the gold entity and nothing else."""

    def __call__(self, problem: Problem, response: str) -> Verdict:
        """Compare names, whatever their article, case and surrounding filler words."""
        gold = content(problem.answer) if isinstance(problem.answer, str) else ()
        if not gold:
            return Verdict.unknown("the gold answer is not a name")
        found = final_answer(response)
        if found.text is None:
            return Verdict.wrong(reason=found.reason)
        said = content(found.text)
        if said == gold:
            return Verdict.correct(found.text)
        known = {content(name) for link in links_of(problem) for name in link}
        named = {entity for entity in known if set(entity) <= set(said)}
        return Verdict.wrong(found.text, "hedged" if len(named) > 1 else "different")


def content(text: str) -> tuple[str, ...]:
    """The words that carry meaning, in lower case."""
    return tuple(word for word in _WORDS.findall(text.lower()) if word not in _FILLERS)


def links_of(problem: Problem) -> list[tuple[str, str]]:
    """The links of a problem, empty when it states none."""
    facts = problem.meta.get("facts")
    links = facts.get("links") if isinstance(facts, dict) else None
    if not isinstance(links, list):
        return []
    return [(str(link[0]), str(link[1])) for link in links if isinstance(link, list) and len(link) == 2]
